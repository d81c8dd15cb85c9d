"""How bytes go to the staging disk: measured at each start, on the disk that is there."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from edge_agent.adapters.write_behind import Blocks
from runtime import durable
from runtime.uncached import DiskMode, ModeFigure, measure_modes

# A short measurement is that far from the truth; within it, what costs the processor least wins.
_DOUBT: Final = 1.25
_FROM_LEAST_PROCESSOR_TIME: Final = (DiskMode.DIRECT, DiskMode.DONTCACHE, DiskMode.BUFFERED)

# Each bay fills one, and has one on its way to the disk and back; the others are whose they are.
_BLOCKS_OF_A_BAY: Final = 2
_MORE_BLOCKS: Final = 24

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How bytes go to a disk; all slots of the disk share it.

    Attributes:
        reads_back_early: Whether what was synced is read back while the rest is on its way; where
            nobody asks for it at the end, it would be for nothing.
    """

    mode: DiskMode = DiskMode.BUFFERED
    blocks: Blocks = field(default_factory=Blocks)
    reads_back_early: bool = False


def _best(figures: Sequence[ModeFigure]) -> DiskMode:
    """Return the mode to use; BUFFERED, which every disk has, is among the figures."""
    costs = {one.mode: one.cost_s for one in figures}
    good = _DOUBT * min(costs.values())
    return next(mode for mode in _FROM_LEAST_PROCESSOR_TIME if costs[mode] <= good)


def choose_way(root: Path, *, reads_back: bool, bays: int) -> Way:
    """Measure the disk that *root* is on, and return the cheapest way; the log gets the figures.

    A disk that cannot be measured, be it for lack of room, gets the way that every disk has.

    Args:
        root: The staging folder; created if it is not there.
        reads_back: Whether copies are going to be read back.
        bays: How many recorders there may be at once; each needs memory of its own.
    """
    blocks = Blocks(_BLOCKS_OF_A_BAY * bays + _MORE_BLOCKS)
    try:
        durable.make_directories(root)
        figures = measure_modes(root)
    except OSError as error:
        _log.warning("staging disk not measured", reason=str(error))
        return Way(blocks=blocks, reads_back_early=reads_back)
    best = _best(figures)
    rates = {
        one.mode.value: {
            "megabytes_s": round(one.size_bytes / one.seconds / 1e6),
            "cpu_ms": round(one.cpu_s * 1e3),
        }
        for one in figures
        if one.seconds is not None
    }
    _log.info("staging disk measured", way=best.value, figures=rates)
    return Way(mode=best, blocks=blocks, reads_back_early=reads_back)
