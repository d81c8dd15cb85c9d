"""``server-agent verify``: read bags from the disk and say what is wrong with them."""

import argparse
import sys
import time
from pathlib import Path
from typing import Final, TextIO

from protocol.findings import Finding
from server_agent.adapters.bag_verifier import Progress, verify_path
from server_agent.archive.verification import BagReport, Tally, Verdict

_EXIT: Final = {Verdict.VERIFIED: 0, Verdict.FAILED: 1, Verdict.NOTHING_FOUND: 4}
_USAGE: Final = 2
_PROGRESS_S: Final = 0.2
_PERCENT: Final = 100

_ABOUT: Final = """\
Verify every bag at or below PATH: a bag, a day, a whole archive, or a copy of one on a disc. Each
file is read from the disk, byte by byte. Nothing is changed, and no other program is asked.
"""
_EPILOG: Final = """\
Each bag gets a line: OK, or BAD and below it a code for each thing that was found; docs/errors.md
explains the codes. Without --ca the authority's certificate in each bag is taken: that proves that
the bag agrees with itself, not who vouched for it.

examples:
  server-agent verify /var/lib/bayward/archive --ca /root/ca.pem
  server-agent verify /var/lib/bayward/archive/2026/03/05

exit status:
  0  every bag is good
  1  something was found
  2  the command line is wrong
  4  nothing was there to verify, which is never success
"""


def add_verify_command(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``verify`` to a program's commands; it sets ``run``, which returns the exit status."""
    parser = subparsers.add_parser(
        "verify",
        help="verify bags, offline",
        description=_ABOUT,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", type=Path, metavar="PATH", help="a bag, or a folder with bags")
    parser.add_argument(
        "--ca", type=Path, metavar="FILE", help="the site's ca.pem, from a place that you trust"
    )
    parser.add_argument(
        "--quiet", action="store_true", help="no line for a good bag, and no progress"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    path: Path = arguments.path
    if not path.is_dir():
        sys.stderr.write(f"server-agent verify: {path} is no folder\n")
        return _USAGE
    ca_pem = None if arguments.ca is None else arguments.ca.read_bytes()
    meter = _Meter(sys.stderr, shown=sys.stderr.isatty() and not arguments.quiet)
    tally = Tally()
    for report in verify_path(path, ca_pem=ca_pem, on_progress=meter.show):
        tally.add(report)
        meter.clear()
        if not (report.ok and arguments.quiet):
            sys.stdout.write("\n".join(_lines(report, path)) + "\n")
            sys.stdout.flush()
    meter.clear()
    sys.stdout.write(_summary(tally, path, arguments.ca) + "\n")
    return _EXIT[tally.verdict]


def _lines(report: BagReport, root: Path) -> list[str]:
    if report.ok:
        return [f"OK   {_place(report, root)}  {_counted(report.files, report.size_bytes)}"]
    return [f"BAD  {_place(report, root)}", *map(_finding, report.findings)]


def _finding(found: Finding) -> str:
    about = f" {found.path}" if found.path else ""
    detail = f": {_printable(found.detail)}" if found.detail else ""
    return f"     {found.code.value}{about}{detail}"


def _summary(tally: Tally, path: Path, ca: Path | None) -> str:
    if tally.verdict is Verdict.NOTHING_FOUND:
        return f"0 bags verified: nothing in {path} is a bag"
    strays = f", {tally.strays} things that are in no bag" if tally.strays else ""
    return "\n".join(
        (
            (
                f"{tally.bags} bags verified, {tally.bad_bags} with findings{strays}; "
                f"{_counted(tally.files, tally.size_bytes)} with the right digests"
            ),
            f"certificates: issued by {ca}"
            if ca and tally.anchored
            else "certificates: held against the authority in each bag only; see --ca",
            "read: every byte from the disk"
            if tally.from_disk
            else "read: perhaps from memory; this file system does not let it be proved",
        )
    )


def _counted(files: int, size_bytes: int) -> str:
    return f"{files} file{'' if files == 1 else 's'}, {size_bytes:,} bytes"


def _place(report: BagReport, root: Path) -> str:
    place = Path(report.path)
    shown = place.relative_to(root) if place != root and place.is_relative_to(root) else place
    return _printable(str(shown))


def _printable(untrusted: str) -> str:
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in untrusted)


class _Meter:
    """One line on a terminal, written over and over."""

    def __init__(self, stream: TextIO, *, shown: bool) -> None:
        self._stream = stream
        self._shown = shown
        self._next_s = 0.0

    def show(self, progress: Progress) -> None:
        if not self._shown or time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + _PROGRESS_S
        percent = _PERCENT * progress.done_bytes // max(progress.total_bytes, 1)
        self._stream.write(f"\r\033[K{percent:3d} % of {_printable(Path(progress.bag).name)}")
        self._stream.flush()

    def clear(self) -> None:
        if self._shown:
            self._stream.write("\r\033[K")
            self._stream.flush()
