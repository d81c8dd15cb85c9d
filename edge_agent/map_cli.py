"""`edge-agent map-bays`: which USB port is which bay; no configuration is needed for it."""

import argparse
import sys
from pathlib import Path
from typing import Final

from edge_agent.adapters.bay_walk import Walk, walk_bays
from edge_agent.adapters.usb_tree import UsbTree
from edge_agent.mounting.mapping import BayMap, as_toml
from protocol.identifiers import HIGHEST_BAY, BayNumber

EXAMPLES: Final = """\
examples:
  edge-agent map-bays --bays 8                    asks for something in bay 1, 2, … 8; prints them
  edge-agent map-bays --bays 8 --write bays.toml  then: cat bays.toml >> /etc/bayward/edge.toml
  edge-agent map-bays --first 9 --bays 4          bays 9 to 12 alone
Ctrl-C ends it; what was found until then is kept.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let *parser* read what map-bays takes."""
    parser.add_argument("--bays", type=_count, required=True, metavar="N", help="how many")
    parser.add_argument("--first", type=_count, default=1, metavar="N", help="where to begin")
    parser.add_argument("--write", type=Path, metavar="FILE", help="a new file for the map")
    parser.add_argument("--sysfs", type=Path, default=Path("/sys"), help=argparse.SUPPRESS)


def map_bays(options: argparse.Namespace) -> int:
    """Walk the installer through the bays; return the exit status.

    Raises:
        OSError: The file is there already, or cannot be written.
    """
    if options.write is not None:
        options.write.touch(mode=0o644, exist_ok=False)
    found = BayMap()
    last = min(HIGHEST_BAY, options.first + options.bays - 1)
    numbers = [BayNumber(number) for number in range(options.first, last + 1)]
    walk = Walk(tree=UsbTree(options.sysfs), say=_say)
    try:
        walk_bays(walk, numbers, found)
    except KeyboardInterrupt:
        _say(f"stopped: {len(found.bays)} of {len(numbers)} bays are known")
    text = as_toml(found.bays)
    if options.write is None:
        print(text, end="")
    else:
        options.write.write_text(text, encoding="utf-8")
    return 0 if len(found.bays) == len(numbers) else 1


def _say(line: str) -> None:
    # The map alone goes to standard output.
    print(line, file=sys.stderr, flush=True)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= HIGHEST_BAY):
        raise argparse.ArgumentTypeError(f"{text!r} is not 1 to {HIGHEST_BAY}")
    return int(text)
