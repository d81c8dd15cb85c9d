"""Write the state diagrams of docs/, or check that they are current.

    python -m scripts.diagrams            writes docs/bay-lifecycle.md and docs/outbox.md
    python -m scripts.diagrams --check    ends with 1 when a committed file is not current

Each is made from the table that the program runs by.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

from edge_agent.bay import machine as bay
from edge_agent.outbox import machine as outbox
from protocol.messages import BayState

DOCS: Final = Path(__file__).resolve().parent.parent / "docs"

Transitions = Mapping[tuple[Any, Any], Enum]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page: a table of transitions, its first state, and words around the diagram."""

    name: str
    title: str
    transitions: Transitions
    first: Enum
    text: str


PAGES: Final = (
    Page(
        name="bay-lifecycle.md",
        title="The life of a bay",
        transitions=bay.TRANSITIONS,
        first=BayState.EMPTY,
        text="""\
| state | meaning |
| --- | --- |
| empty | nothing is docked |
| identifying | the volume is listed, the recorder says who it is, the registry is asked |
| ingesting | files are copied, hashed, read back |
| sealed | the signed manifests are in the outbox; the archive's receipts are awaited |
| erasing | every receipt was verified, and the site has footage [erased](erasing.md) |
| releasable | every receipt was verified: the recorder may be taken, and used again |
| quarantined | refused: no model of ours, or not registered; nothing of it was read |
| attention | a person must look: our disk is full or failing, or a file cannot be read |
""",
    ),
    Page(
        name="outbox.md",
        title="The life of a manifest",
        transitions=outbox.TRANSITIONS,
        first=outbox.ManifestState.PENDING,
        text="""\
That the broker took a manifest is no event. Only what the archive has signed moves one, and the
staged copies are freed after its verified receipt alone.
""",
    ),
)


def render(page: Page) -> str:
    """Return the page's text; the same table gives the same bytes."""
    return "\n".join(
        (
            f"# {page.title}",
            "",
            "Generated from the program's table by `python -m scripts.diagrams`.",
            "",
            "```mermaid",
            "stateDiagram-v2",
            *_lines(page),
            "```",
            "",
            page.text,
        )
    )


def _lines(page: Page) -> Iterator[str]:
    yield f"    [*] --> {page.first.value}"
    order = list(type(page.first))
    arrows: dict[tuple[Enum, Enum], list[str]] = {}
    for (before, event), after in page.transitions.items():
        arrows.setdefault((before, after), []).append(event.value)
    for before, after in sorted(arrows, key=lambda one: (order.index(one[0]), order.index(one[1]))):
        yield f"    {before.value} --> {after.value}: {', '.join(arrows[before, after])}"


def outdated(docs: Path) -> list[str]:
    """Return the names of pages that are missing or not what the tables say."""
    return [
        page.name
        for page in PAGES
        if not (docs / page.name).is_file()
        or (docs / page.name).read_text(encoding="utf-8") != render(page)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the pages; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.diagrams", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    if parser.parse_args(arguments).check:
        for name in (found := outdated(DOCS)):
            print(f"docs/{name} is not current: python -m scripts.diagrams", file=sys.stderr)
        return 1 if found else 0
    for page in PAGES:
        (DOCS / page.name).write_text(render(page), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
