"""The simulator's command line."""

import argparse
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from edge_agent.drivers.driver import Verb
from recorder_simulator.engine import Engine
from recorder_simulator.script import Fault, FaultKind, Script
from recorder_simulator.terminal import Terminal, tell
from recorder_simulator.volume import Volume
from runtime.errors import SettingsError
from runtime.settings import load_toml

OK: Final = 0
PROBLEM: Final = 1

_EPILOG: Final = f"""\
It prints the port's path, and a line whenever port or volume come or go. Ctrl-C or SIGTERM ends
it and puts the volume back; SIGUSR1 takes the volume out.

faults: {", ".join(kind.value for kind in FaultKind)}
verbs:  {", ".join(verb.value for verb in Verb)}

examples:
  recorder-simulator                                  does all that it is asked
  recorder-simulator --link bay-1.tty --volume card --bay bays/1
                                                      a disk in bay 1, 3 s after it was told to be
  recorder-simulator --clock 1980-01-01T00:00:00 --battery 0
                                                      its battery was dead
  recorder-simulator --clock 2107-12-31T23:59:59      the last day of FAT dates
  recorder-simulator --fault silence:read-battery     never tells its battery
  recorder-simulator --fault half-frame:identify:1 --fault slow-bytes
                                                      half an answer once, then a byte each 3 s
  recorder-simulator --script recorder.toml --seed 7  all from a file but the seed

a script:
  protocol = "line"            # or "socket"
  serial = "0000017"
  password = "a secret"
  disk_mode_after_s = 0.5
  faults = [{{ kind = "re-enumeration", verb = "enter-disk-mode", times = 1, seconds = 2 }}]
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if (options.volume is None) != (options.bay is None):
        parser.error("--volume and --bay go together")
    if options.volume is not None and not options.volume.is_dir():
        parser.error(f"--volume: {options.volume} is no folder")
    try:
        script = _script(options)
    except (SettingsError, msgspec.ValidationError, ValueError, OSError) as error:
        return _complain(error)
    volume = None if options.volume is None else Volume(options.volume, bay=options.bay)
    engine = Engine(script, utc=lambda: datetime.now(UTC))
    terminal = Terminal(engine, link=options.link, volume=volume, tell=tell)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: terminal.stop())
    signal.signal(signal.SIGUSR1, lambda *_: terminal.eject())
    try:
        terminal.run()
    except OSError as error:
        return _complain(error)
    return OK


def _complain(error: Exception) -> int:
    print(f"recorder-simulator: {error}", file=sys.stderr)
    return PROBLEM


def _script(options: argparse.Namespace) -> Script:
    """Return the file's script with the flags over it.

    Raises:
        SettingsError: The file is wrong.
        msgspec.ValidationError: A flag is.
        ValueError: A text does not fit its field.
        OSError: The file cannot be read.
    """
    script = Script() if options.script is None else load_toml(options.script, Script)
    flags = {
        name: getattr(options, name)
        for name in Script.__struct_fields__
        if getattr(options, name, None) is not None
    }
    if "faults" in flags:
        flags["faults"] = (*script.faults, *flags["faults"])
    changed = msgspec.structs.replace(script, **flags)
    return msgspec.convert(msgspec.to_builtins(changed), Script)


def _fault(text: str) -> Fault:
    """Return the fault that KIND[:VERB[:TIMES]] names."""
    kind, *rest = text.split(":")
    try:
        fault = Fault(kind=FaultKind(kind))
        if rest and rest[0]:
            fault = msgspec.structs.replace(fault, verb=Verb(rest[0]))
        if len(rest) > 1:
            fault = msgspec.structs.replace(fault, times=int(rest[1]))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return fault


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="recorder-simulator",
        description="Plays a recorder on a pseudo-terminal, and a folder that is its volume.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--script", type=Path, metavar="FILE", help="TOML; flags go over it")
    parser.add_argument("--protocol", choices=("line", "socket"), help="line if not named")
    parser.add_argument("--seed", type=int, metavar="N", help="of all noise; 0 if not named")
    parser.add_argument("--link", type=Path, metavar="PATH", help="a link to the port, kept right")
    parser.add_argument("--volume", type=Path, metavar="DIR", help="what is on its volume")
    parser.add_argument("--bay", type=Path, metavar="DIR", help="where the volume is moved to")
    parser.add_argument("--serial", metavar="TEXT", help="up to 7 bytes in GBK")
    parser.add_argument("--user-number", metavar="TEXT", help="up to 6 bytes in GBK")
    parser.add_argument("--user-name", metavar="TEXT", help="up to 32 bytes in GBK")
    parser.add_argument("--layout", type=int, choices=(89, 94), dest="layout_bytes")
    parser.add_argument(
        "--clock", type=datetime.fromisoformat, metavar="TIME", help="local, no zone"
    )
    parser.add_argument("--zone", metavar="NAME", help="such as Asia/Shanghai")
    parser.add_argument("--battery", type=int, metavar="PERCENT", dest="battery_percent")
    parser.add_argument("--password", metavar="TEXT", help="locks it; not for real passwords")
    parser.add_argument(
        "--disk-mode-after", type=float, metavar="SECONDS", dest="disk_mode_after_s"
    )
    parser.add_argument(
        "--fault", type=_fault, action="append", metavar="KIND[:VERB[:TIMES]]", dest="faults"
    )
    return parser
