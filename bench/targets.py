"""What was promised, beside what one run measured."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bench.admission import ADMITTED
from bench.custody import LOGGED
from bench.efficiency import best_equal, efficiency, speed_up, spread
from bench.figures import GIB, MIB, RATIO, Figure
from bench.guard import IDLE as GUARD_IDLE
from bench.guard import MEMORY as GUARD_MEMORY
from bench.guard import SHUT
from bench.idle import MEMORY, PROCESSOR, READY
from bench.plug import FIRST_BYTE
from bench.results import Case, Results, Series, Spread

SMALL: Final = "small files"
RSYNC: Final = "rsync --fsync"
MOST_MEMORY_MIB: Final = 190.0  # 200 MB
UPLOAD: Final = "ratio: upload"
_EFFICIENCY: Final = ((1, 0.90), (8, 0.85), (24, 0.85))
# Single figures that a target stands beside; each is at least so much.
_FIGURES: Final = {UPLOAD: 0.85, ADMITTED: 2_000.0, LOGGED: 2_000.0}
# Likewise, each at most so much; the memory is 80 MB, and 60 of the guard.
_AT_MOST: Final = {
    READY: 1.0,
    MEMORY: 76.3,
    PROCESSOR: 5.0,
    FIRST_BYTE: 2.0,
    SHUT: 500.0,
    GUARD_IDLE: 0.5,
    GUARD_MEMORY: 57.2,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One promise and its measured figure.

    Attributes:
        limit: At least this, or at most.
        measured: In the unit of the limit.
    """

    name: str
    limit: float
    unit: str
    measured: Spread
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether the middle of the runs keeps the promise."""
        middle = self.measured.median
        return middle <= self.limit if self.at_most else middle >= self.limit


def case_name(bays: int) -> str:
    """Return what the case of one big clip in each of so many bays is called."""
    return "1 bay" if bays == 1 else f"{bays} bays"


def targets(results: Results) -> Iterator[Target]:
    """Yield every target whose figures are in *results*."""
    cases = {case.name: case for case in results.cases}
    for bays, limit in _EFFICIENCY:
        if case := cases.get(case_name(bays)):
            measured = efficiency(case, case.of_level("L2"))
            yield Target(name=f"η at L2, {case.name}", limit=limit, unit="", measured=measured)
    if case := cases.get(case_name(1)):
        yield from _beside_peers(case)
    if case := cases.get(SMALL):
        measured = speed_up(case.of_level("L2"), case.peer(RSYNC))
        yield Target(name=f"small files at L2 / {RSYNC}", limit=3, unit=RATIO, measured=measured)
    if case := cases.get(case_name(24)):
        yield _memory(case)
    for figure in results.figures:
        if figure.name in {**_FIGURES, **_AT_MOST}:
            yield _single(figure)


def _beside_peers(case: Case) -> Iterator[Target]:
    ours = case.of_level("L2")
    if best := best_equal(case, ours):
        name = "L2 / best peer of equal evidence"
        yield Target(name=name, limit=1.5, unit=RATIO, measured=speed_up(ours, best))
    measured = cpu_s_per_gib(case, ours)
    yield Target(
        name="processor time at L2", limit=1.6, unit="s/GiB", measured=measured, at_most=True
    )


def _memory(case: Case) -> Target:
    peaks = [
        run.peak_bytes / MIB
        for series in case.series
        for run in series.runs
        if run.peak_bytes is not None
    ]
    return Target(
        name=f"most memory, {case.name}",
        limit=MOST_MEMORY_MIB,
        unit="MiB",
        measured=spread(peaks),
        at_most=True,
    )


def _single(figure: Figure) -> Target:
    return Target(
        name=figure.name.removeprefix("ratio: "),
        limit={**_FIGURES, **_AT_MOST}[figure.name],
        unit=figure.unit,
        measured=spread([figure.value]),
        at_most=figure.name in _AT_MOST,
    )


def cpu_s_per_gib(case: Case, series: Series) -> Spread:
    """Return the processor time that a GiB cost."""
    return spread(run.cpu_s * GIB / case.total_bytes for run in series.runs)
