"""All contenders with one load, in turn, round by round; the machine's limits in between."""

import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Final

from bench.contenders import Contender
from bench.figures import GIB, MIB
from bench.raw_limits import measure_limits
from bench.results import Case, Limits, Run, Series
from bench.sources import Load, write_volumes
from demo.programs import DemoError

SOURCES: Final = Path("/dev/shm")  # noqa: S108 - memory is meant: the disk is for staging alone
_PROBE: Final = "probe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One case before it is measured.

    Attributes:
        rounds: How often each contender runs and is counted.
        warm_up: Whether each runs once before that and is not counted.
    """

    name: str
    load: Load
    contenders: Sequence[Contender]
    rounds: int
    warm_up: bool = False


def measure_case(plan: Plan, work: Path) -> Case:
    """Measure a case; sources stand in memory, copies go below *work*.

    Copies of many files stay until the case is over: for minutes after files were deleted, ext4 is
    up to ten times slower in making new ones beside them (`recently_deleted` in fs/ext4/ialloc.c).
    """
    load = plan.load
    _check_room(load)
    print(f"{plan.name}: {load.bays} × {load.bay_bytes / MIB:,.0f} MiB, {load.files} files")
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(dir=SOURCES, prefix="bayward-bench-"))
        source, probe = Path(folder) / "recorders", Path(folder) / _PROBE
        write_volumes(source, load)
        copies = Path(stack.enter_context(TemporaryDirectory(dir=work, prefix="copies-")))
        probe.write_bytes(os.urandom(64 * MIB))
        probe_bytes = max(64 * MIB, min(GIB, load.total_bytes))
        if plan.warm_up:
            for contender in plan.contenders:
                _run_once(contender, source, copies, keep=load.photos > 0)
        limits = [measure_limits(work, probe, probe_bytes=probe_bytes)]
        runs: dict[str, list[Run]] = {one.name: [] for one in plan.contenders}
        for number in range(plan.rounds):
            for contender in in_turn(plan.contenders, number, plan.rounds):
                runs[contender.name].append(
                    _run_once(contender, source, copies, keep=load.photos > 0)
                )
            limits.append(measure_limits(work, probe, probe_bytes=probe_bytes))
    return _case(plan, limits, runs)


def in_turn(contenders: Sequence[Contender], number: int, rounds: int) -> Sequence[Contender]:
    """Return the order of a round: each begins with another one, so that nobody is always first."""
    first = number * len(contenders) // rounds
    return (*contenders[first:], *contenders[:first])


def _case(plan: Plan, limits: Sequence[Limits], runs: dict[str, list[Run]]) -> Case:
    load = plan.load
    return Case(
        name=plan.name,
        bays=load.bays,
        files=load.files,
        bay_bytes=load.bay_bytes,
        total_bytes=load.total_bytes,
        limits=tuple(limits),
        series=tuple(
            Series(
                name=one.name,
                command=one.command,
                evidence=one.evidence,
                runs=tuple(runs[one.name]),
                level=one.level,
            )
            for one in plan.contenders
        ),
    )


def _check_room(load: Load) -> None:
    space = os.statvfs(SOURCES)
    if space.f_bavail * space.f_frsize < load.total_bytes + GIB // 4:
        raise DemoError(
            f"{SOURCES} has no room for sources of {load.total_bytes / GIB:.1f} GiB:"
            " name a smaller --size-mib"
        )


def _run_once(contender: Contender, source: Path, copies: Path, *, keep: bool) -> Run:
    target = Path(mkdtemp(dir=copies))
    os.sync()  # what came before is not to be paid for by this run
    run = contender.run(source, target)
    if not keep:
        shutil.rmtree(target)
    print(f"  {contender.name:<32} {run.seconds:8.2f} s {run.cpu_s:8.2f} s CPU", flush=True)
    return run
