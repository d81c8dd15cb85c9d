from pathlib import Path

from scripts.diagrams import DOCS, PAGES, outdated, render


def test_the_diagrams_are_current() -> None:
    """What docs/ shows is what the tables say today."""
    assert not outdated(DOCS)


def test_every_transition_is_drawn() -> None:
    """Each row of each table stands on an arrow from its state to its state."""
    for page in PAGES:
        lines = render(page).splitlines()
        for (before, event), after in page.transitions.items():
            arrow = f"    {before.value} --> {after.value}: "
            [line] = [line for line in lines if line.startswith(arrow)]
            assert event.value in line.removeprefix(arrow).split(", ")


def test_a_changed_page_is_found(tmp_path: Path) -> None:
    """A page that somebody edited by hand, or that is missing, is not current."""
    for page in PAGES:
        (tmp_path / page.name).write_text(render(page), encoding="utf-8")
    assert not outdated(tmp_path)

    (tmp_path / PAGES[0].name).write_text("edited", encoding="utf-8")
    (tmp_path / PAGES[1].name).unlink()

    assert outdated(tmp_path) == [page.name for page in PAGES]
