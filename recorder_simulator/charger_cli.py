"""The command line of the charger that is none."""

import argparse
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from edge_agent.lights.charger import ChargeState, Controller
from protocol.identifiers import HIGHEST_BAY
from recorder_simulator.charger import ChargerEngine, ChargerFault, Trouble
from recorder_simulator.terminal import Terminal, tell

_EPILOG: Final = f"""\
It prints the port's path, and a line whenever a light changes. Ctrl-C or SIGTERM ends it.

faults: {", ".join(fault.value for fault in ChargerFault)}
states: {", ".join(state.name.lower().replace("_", "-") for state in ChargeState)}

examples:
  charger-simulator --slots 8 --link charger.tty    edge.toml: [lights] charger = "charger.tty"
  charger-simulator --slot 1:charging:55 --slot 2:full
  charger-simulator --fault silence:3               hears three requests and says nothing
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Play a charger until it is stopped; return the exit status."""
    options = _parser().parse_args(arguments)
    slots: list[tuple[ChargeState, int | None]] = [
        (ChargeState.NOTHING_IN_IT, None)
    ] * options.slots
    for number, state, percent in options.slot or ():
        if number <= options.slots:
            slots[number - 1] = (state, percent)
    controller = Controller(slots=options.slots, model=options.model)
    engine = ChargerEngine(controller, slots, options.fault or (), tell=tell)
    terminal = Terminal(engine, link=options.link, volume=None, tell=tell)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: terminal.stop())
    terminal.run()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="charger-simulator",
        description="Plays a charger's controller on a pseudo-terminal.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--slots", type=_count, default=8, metavar="N", help="(%(default)s)")
    parser.add_argument("--model", default="Simulated", help="what it says that it is")
    parser.add_argument("--link", type=Path, metavar="PATH", help="a link to the port, kept right")
    parser.add_argument(
        "--slot", type=_slot, action="append", metavar="N:STATE[:PERCENT]", help="how it charges"
    )
    parser.add_argument("--fault", type=_trouble, action="append", metavar="KIND[:TIMES]")
    return parser


def _count(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= HIGHEST_BAY):
        raise argparse.ArgumentTypeError(f"{text!r} is not 1 to {HIGHEST_BAY}")
    return int(text)


def _slot(text: str) -> tuple[int, ChargeState, int | None]:
    number, state, *percent = text.split(":")
    try:
        found = ChargeState[state.upper().replace("-", "_")]
        return _count(number), found, int(percent[0]) if percent else None
    except (KeyError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def _trouble(text: str) -> Trouble:
    kind, *times = text.split(":")
    try:
        return Trouble(fault=ChargerFault(kind), **({"times": int(times[0])} if times else {}))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
