"""A run as tables: on the terminal, and in docs/performance.md with its pictures."""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from bench.efficiency import best_equal, efficiency, least_s, speed_up, spread, what_bounds
from bench.figures import MIB, RATIO
from bench.pictures import draw_pictures
from bench.results import Case, Evidence, Results, Series, Spread, write_results
from bench.targets import SMALL, Target, cpu_s_per_gib, targets

_EVIDENCE: Final = ("digest kept", "read back", "journal, signed")
DOCS: Final = Path(__file__).resolve().parent.parent / "docs"
BEGIN: Final = "<!-- measured: written by `python -m bench --write-docs`, begin -->"
END: Final = "<!-- measured: end -->"
_LIMITS: Final = {
    "write_bytes_s": ("disk, direct write", "fio --direct=1 --rw=write --bs=1M --iodepth=16"),
    "read_bytes_s": ("disk, direct read", "fio --direct=1 --rw=read --bs=1M --iodepth=16"),
    "mixed_bytes_s": ("disk, read and write together", "fio, one job each, added up"),
    "hash_bytes_s": ("SHA-256, all cores at once", "hashlib, one thread for each core"),
    "hash_core_bytes_s": ("SHA-256, one core", "hashlib"),
    "sm3_core_bytes_s": ("SM3, one core", "hashlib"),
    "source_bytes_s": ("one reader of a source", "read(2) of a file in memory, 1 MiB each"),
}


def tell(results: Results) -> None:
    """Print a run."""
    print("\n".join(_lines(results)))


def write_page(results: Results, docs: Path = DOCS) -> None:
    """Write a run into performance.md, its pictures beside it, and the run itself as JSON."""
    page = docs / "performance.md"
    page.write_text(with_run(page.read_text(encoding="utf-8"), results), encoding="utf-8")
    write_results(docs / "performance.json", results)
    draw_pictures(results, docs / "images")


def with_run(page: str, results: Results) -> str:
    """Return the page with its measured part replaced.

    Raises:
        ValueError: The page has no such part.
    """
    before, _, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"no {BEGIN} … {END} in the page")
    return "\n".join([f"{before}{BEGIN}", "", *_lines(results), "", f"{END}{after}"])


def _lines(results: Results) -> Iterator[str]:
    yield from _facts(results)
    yield from ("", "### Targets", "")
    yield from _table(("target", "", "measured", "kept"), map(_target, targets(results)))
    if results.cases:
        yield from ("", "### What the machine can do", "")
        yield from _limits(results)
    for case in results.cases:
        yield from ("", f"### {_title(case)}", "")
        yield from _small(case) if case.name == SMALL else _big(case)
    if results.figures:
        yield from ("", "### From the sealed manifest on", "")
        rows = (
            (one.name, "" if one.ours else "peer", f"{_number(one.value)} {one.unit}", one.note)
            for one in results.figures
        )
        yield from _table(("figure", "", "measured", ""), rows)
    if commands := {one.name: one.command for case in results.cases for one in case.series}:
        yield from ("", "### Commands", "")
        yield from _table(
            ("who", "command"), ((name, f"`{told}`") for name, told in commands.items())
        )


def _facts(results: Results) -> Iterator[str]:
    machine = results.machine
    versions = "; ".join(f"{name}: {told}" for name, told in results.tools.items())
    yield f"`{results.command}` at {results.measured_at}, revision `{results.revision}`."
    yield (
        f"{machine.cores} cores of {machine.processor}, {machine.memory_mib:,} MiB of memory,"
        f" {machine.system}, staging on {machine.file_system}, Python {machine.python}."
    )
    yield f"Peers: {versions}."


def _target(target: Target) -> tuple[str, ...]:
    sign = "≤" if target.at_most else "≥"
    promised = f"{sign} {_number(target.limit)} {target.unit}".rstrip()
    return target.name, promised, _spread(target.measured), "yes" if target.met else "**no**"


def _limits(results: Results) -> Iterator[str]:
    measured = [limits for case in results.cases for limits in case.limits]
    rows = (
        (name, _spread(spread(getattr(one, field) / MIB for one in measured)), command)
        for field, (name, command) in _LIMITS.items()
    )
    return _table(("limit", "MiB/s", "measured by"), rows)


def _title(case: Case) -> str:
    if case.name == SMALL:
        return f"{case.files:,} small files, {case.total_bytes / MIB:,.0f} MiB"
    return f"Big clips, {case.name}: {case.bays} × {case.bay_bytes / MIB:,.0f} MiB"


def _big(case: Case) -> Iterator[str]:
    header = ("who", "MiB/s", "η", "CPU s/GiB", "memory MiB", "L2 is so much faster", *_EVIDENCE)
    yield from _table(header, (_big_row(case, series) for series in case.series))
    limits = [least_s(case, one, "L2") for one in case.limits]
    best = best_equal(case, case.of_level("L2"))
    yield ""
    yield (
        f"T_min at L2 is {statistics.median(limits):.2f} s, set by {what_bounds(case, 'L2')}."
        + (f" The best peer of equal evidence: {best.name}." if best else "")
    )


def _big_row(case: Case, series: Series) -> tuple[str, ...]:
    rate = spread(case.total_bytes / MIB / run.seconds for run in series.runs)
    return (
        series.name,
        _spread(rate),
        _spread(efficiency(case, series)) if series.level else "",
        _number(cpu_s_per_gib(case, series).median),
        *_beside(case, series),
    )


def _small(case: Case) -> Iterator[str]:
    header = ("who", "files/s", "CPU ms/file", "memory MiB", "L2 is so much faster", *_EVIDENCE)
    return _table(header, (_small_row(case, series) for series in case.series))


def _small_row(case: Case, series: Series) -> tuple[str, ...]:
    rate = spread(case.files / run.seconds for run in series.runs)
    cpu_ms = statistics.median(run.cpu_s * 1000 / case.files for run in series.runs)
    return series.name, _spread(rate), _number(cpu_ms), *_beside(case, series)


def _beside(case: Case, series: Series) -> tuple[str, ...]:
    """Return memory, our L2 beside a peer, and what is known of the copies."""
    peaks = [run.peak_bytes / MIB for run in series.runs if run.peak_bytes is not None]
    memory = _number(max(peaks)) if peaks else ""
    ratio = "" if series.level else f"{_spread(speed_up(case.of_level('L2'), series))} {RATIO}"
    return memory, ratio, *_evidence(series.evidence)


def _evidence(evidence: Evidence) -> tuple[str, str, str]:
    return evidence.digest or "no", evidence.read_back.value, "yes" if evidence.journal else "no"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"| {' | '.join('---' for _ in header)} |"
    for row in rows:
        cells = (cell.replace("|", r"\|") for cell in row)
        yield f"| {' | '.join(cells)} |"


def _spread(found: Spread) -> str:
    """Show the middle, and how far the runs lie apart."""
    middle = _number(found.median)
    if found.least == found.most:
        return middle
    return f"{middle} ({_number(found.least)}–{_number(found.most)})"


def _number(value: float) -> str:
    """Show three digits, or all before the point."""
    for digits in (2, 1):
        if abs(value) < 10 ** (3 - digits):
            return f"{value:,.{digits}f}"
    return f"{value:,.0f}"
