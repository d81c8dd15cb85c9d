"""The measured figures beside their peers, all in one run: `make bench`."""

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench.archive_side import measure_archive_side
from bench.cases import Plan, measure_case
from bench.contenders import Contender, ours, peers
from bench.custody import measure_custody
from bench.figures import MIB, Report
from bench.guard import measure_guard
from bench.idle import measure_idle
from bench.machine import machine, revision, tools
from bench.page import tell, write_page
from bench.plug import measure_plug
from bench.results import Results, read_results, write_results
from bench.sources import Load
from bench.targets import SMALL, case_name
from demo.programs import DemoError
from demo.site import clear

RESULTS: Final = Path(__file__).resolve().parent / "results"
_EXAMPLES: Final = """\
examples:
  make bench                                     all of it: 20 minutes or so
  make bench ARGS=--quick                        a look, at small size
  make bench ARGS='--write-docs bench/results/20261125T210000Z.json'
                                                 write docs/performance.md from that run
"""


def main() -> int:
    """Measure, print, write JSON; 0 when everything could be measured."""
    asked = _parser().parse_args()
    if asked.write_docs:
        write_page(read_results(asked.write_docs))
        return 0
    root = asked.dir or RESULTS / "work"
    try:
        clear(root)
        results = _measure(root, asked)
    except DemoError as error:
        print(f"make bench: {error}", file=sys.stderr)
        return 1
    finally:
        if (root / ".bayward-demo").exists():
            clear(root)
    tell(results)
    path = RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_results(path, results)
    print(f"written to {path}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make bench ARGS=…",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EXAMPLES,
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, one round")
    parser.add_argument("--size-mib", type=int, help="clips of all bays together; 2048")
    parser.add_argument("--uplink-mib", type=int, help="the clip that is archived; 8192")
    parser.add_argument("--photos", type=int, help="how many small files; 10000")
    parser.add_argument("--manifests", type=int, help="how many are admitted; 3000")
    parser.add_argument("--recordings", type=int, help="in the catalogue before; 1000000")
    parser.add_argument("--rounds", type=int, help="how often each is measured; 3")
    parser.add_argument(
        "--only",
        choices=["ingest", "archive", "custody", "idle", "plug", "guard"],
        help="only one part",
    )
    parser.add_argument("--dir", type=Path, help="where to work; by default beside the results")
    parser.add_argument("--write-docs", type=Path, metavar="JSON", help="measure nothing")
    return parser


def _measure(root: Path, asked: argparse.Namespace) -> Results:
    work = root / "staging"
    work.mkdir()
    quick: bool = asked.quick
    size_mib = asked.size_mib or (256 if quick else 2048)
    cases, report = [], Report()
    if asked.only in {None, "idle"}:
        measure_idle(report, root)
    if asked.only in {None, "plug"}:
        measure_plug(report)
    if asked.only in {None, "guard"}:
        measure_guard(report)
    if asked.only in {None, "ingest"}:
        photos = asked.photos or (1_000 if quick else 10_000)
        plans = _plans(size_mib, photos, asked.rounds or (1 if quick else 3), warm_up=not quick)
        cases = [measure_case(plan, work) for plan in plans]
    if asked.only in {None, "custody"}:
        measure_custody(report, root / "log", entries=4_000 if quick else 200_000)
    if asked.only in {None, "archive"}:
        manifests = asked.manifests or (300 if quick else 3_000)
        measure_archive_side(
            report,
            root,
            clip_bytes=(asked.uplink_mib or (256 if quick else 8192)) * MIB,
            photos=100 if quick else 1_000,
            manifests=manifests,
            recordings=asked.recordings or (20_000 if quick else 1_000_000),
        )
    return Results(
        measured_at=datetime.now(UTC).isoformat(timespec="minutes"),
        command=shlex.join(["make", "bench", *_arguments(sys.argv[1:])]),
        revision=revision(),
        machine=machine(work),
        tools=tools(),
        cases=tuple(cases),
        figures=tuple(report.figures),
    )


def _arguments(given: Sequence[str]) -> list[str]:
    return [f"ARGS={shlex.join(given)}"] if given else []


def _plans(size_mib: int, photos: int, rounds: int, *, warm_up: bool) -> Iterator[Plan]:
    levels = [ours(level) for level in ("L1", "L2", "L3")]
    stock = peers()
    for bays in (1, 4, 8, 24):
        contenders: list[Contender] = [*levels, *(stock if bays in {1, 8} else ())]
        yield Plan(
            name=case_name(bays),
            load=Load(bays=bays, clip_bytes=max(1, size_mib // bays) * MIB),
            contenders=contenders,
            rounds=rounds,
            warm_up=warm_up and bays == 1,
        )
    load = Load(bays=1, photos=photos)
    yield Plan(name=SMALL, load=load, contenders=[*levels[:2], *stock], rounds=rounds)


if __name__ == "__main__":
    sys.exit(main())
