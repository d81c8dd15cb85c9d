"""docs/performance.md and its measured part."""

from pathlib import Path

import pytest

from bench.page import BEGIN, DOCS, END, with_run, write_page
from bench.results import read_results
from bench.targets import SMALL
from tests.simulators.bench_results import PROVED_BY_PEER, SYNCED, case, results, series

RESULTS = results(
    case(
        series("L1", 2, level="L1"),
        series("L2", 4, level="L2"),
        series("L3", 6, level="L3"),
        series("rsync --fsync", 8, evidence=SYNCED),
        series("proved", 8, evidence=PROVED_BY_PEER),
    ),
    case(series("L2", 1, level="L2"), series("rsync --fsync", 3, evidence=SYNCED), name=SMALL),
)
PAGE = f"before\n{BEGIN}\nold\n{END}\nafter\n"


def test_only_the_measured_part_is_written() -> None:
    """What people wrote around it stays."""
    page = with_run(PAGE, RESULTS)

    assert page.startswith(f"before\n{BEGIN}\n")
    assert page.endswith(f"\n{END}\nafter\n")
    assert "old" not in page
    assert with_run(page, RESULTS) == page


def test_every_contender_has_its_command() -> None:
    """No figure without the command that made it."""
    page = with_run(PAGE, RESULTS)

    for one in RESULTS.cases[0].series:
        assert f"| {one.name} | `{one.command}` |" in page


def test_a_missed_target_is_said() -> None:
    """The measured figure stands beside what was promised, kept or not."""
    page = with_run(PAGE, RESULTS)

    assert "| η at L2, 1 bay | ≥ 0.90 | 0.75 | **no** |" in page
    assert "| small files at L2 / rsync --fsync | ≥ 3.00 × | 3.00 | yes |" in page


def test_a_page_without_the_part_is_refused() -> None:
    """Nothing is written over a page that has no place for it."""
    with pytest.raises(ValueError, match="no <!--"):
        with_run("all mine", RESULTS)


def test_pictures_and_figures_are_written(tmp_path: Path) -> None:
    """The page, the run as JSON, and three pictures stand side by side."""
    (tmp_path / "images").mkdir()
    (tmp_path / "performance.md").write_text(PAGE)

    write_page(RESULTS, tmp_path)

    assert read_results(tmp_path / "performance.json") == RESULTS
    assert "0.75" in (tmp_path / "performance.md").read_text()
    names = ("performance-bays.png", "performance-clips.png", "performance-small-files.png")
    for name in names:
        assert (tmp_path / "images" / name).read_bytes().startswith(b"\x89PNG")
        assert f"images/{name}" in (DOCS / "performance.md").read_text()


def test_the_page_says_what_its_run_measured() -> None:
    """The tables are those of performance.json: nobody mends a figure by hand."""
    page = (DOCS / "performance.md").read_text()

    assert with_run(page, read_results(DOCS / "performance.json")) == page
