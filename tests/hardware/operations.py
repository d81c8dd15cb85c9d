"""The commands of a page of docs/, as they stand there, but for what is another machine's."""

import re
from typing import Final

from tests.hardware.installed import ROOT

_HEADING: Final = re.compile(r"^## (?:\d\. )?(.+)$", re.MULTILINE)
_BLOCK: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# The guest is archive and dock, and has no network.
_HERE: Final = {
    "192.168.10.0/24": "127.0.0.0/8",
    "192.168.10.2": "127.0.0.1",
    "--bays 8": "--bays 2",
}


def commands(heading: str, *, page: str = "operations.md") -> list[str]:
    """Return the blocks of one section, each a script for bash."""
    _, *parts = _HEADING.split((ROOT / "docs" / page).read_text(encoding="utf-8"))
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    # What is in another language is a file to be written, and no command.
    blocks = [text for language, text in _BLOCK.findall(sections[heading]) if not language]
    for there, here in _HERE.items():
        blocks = [block.replace(there, here) for block in blocks]
    return blocks
