"""`edge-agent doctor`: what a technician would look at, and what to do about it."""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Final

from edge_agent.adapters.examining import Examination
from edge_agent.adapters.status_text import printable
from edge_agent.config import EdgeConfig
from edge_agent.doctor.verdicts import Verdict, worst
from protocol.messages import Health

EXAMPLES: Final = """\
examples:
  edge-agent doctor                           a line for each thing, what to do beneath it
  edge-agent doctor --json | jq -r '.[] | select(.health == "bad") | .subject'
It asks broker and archive with the dock's own certificate, changes nothing, and may run beside the
agent; as the agent's user it sees what the agent sees. It ends with 1 if anything is bad.
"""
_MARKS: Final = {
    Health.GOOD: ("✓", "32"),
    Health.UNKNOWN: ("?", "2"),
    Health.SOON: ("!", "33"),
    Health.BAD: ("✗", "31"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let *parser* read what doctor takes."""
    parser.add_argument("--json", action="store_true", help="all of it as one JSON array")


def examine(config: EdgeConfig, options: argparse.Namespace) -> int:
    """Look at everything, and print it as it is found; return the exit status."""
    looking = Examination(config=config, clock=lambda: datetime.now(UTC)).verdicts()
    if options.json:
        verdicts: Sequence[Verdict] = tuple(looking)
        print(json.dumps([asdict(one) | {"health": one.health.value} for one in verdicts]))
    else:
        verdicts = tuple(_printed(looking))
        counts = ", ".join(
            f"{sum(one.health is health for one in verdicts)} {health.value}" for health in Health
        )
        print(counts)
    return 1 if worst(verdicts) is Health.BAD else 0


def _printed(verdicts: Iterable[Verdict]) -> Iterable[Verdict]:
    for one in verdicts:
        mark, colour = _MARKS[one.health]
        if sys.stdout.isatty():
            mark = f"\x1b[{colour}m{mark}\x1b[0m"
        print(f"{mark} {one.subject + ':':<24} {printable(one.seen)}", flush=True)
        if one.remedy:
            print(f"  {'':<24} → {printable(one.remedy)}", flush=True)
        yield one
