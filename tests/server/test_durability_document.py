"""docs/durability.md names tests that exist: a promise without its guard is found here."""

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
NAMED: Final = re.compile(r"`(tests/[a-z_0-9/]+\.py)::(test_[a-z_0-9]+)`")


def test_every_named_test_exists() -> None:
    """Each test that guards a promise is a function of the file that the page names."""
    named = NAMED.findall((ROOT / "docs/durability.md").read_text(encoding="utf-8"))

    missing = [
        f"{file}::{name}"
        for file, name in named
        if not re.search(
            rf"^(?:async )?def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE
        )
    ]

    assert len(named) == len(set(named)) > 10
    assert not missing


def test_every_promise_has_a_test() -> None:
    """No row of the page's tables is without one."""
    page = (ROOT / "docs/durability.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    promises = [row for row in rows if not re.match(r"\| (step|promise|---) ", row)]

    assert promises
    assert not [row for row in promises if not NAMED.search(row)]
