"""Much at once for one dock: all its bays, many files, a large one."""

import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from demo.site import Site, SiteOptions
from soak.checker import check
from soak.own_disk import zeros_disk
from soak.process_memory import Peaks
from soak.recorders import KIB, Habits, WornRecorder, worn_recorders
from soak.result import Result
from soak.station import Station, StationError, places_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is docked at once.

    Attributes:
        bays: How many, each with a recorder.
        photos: How many one of the recorders holds; each gets a bag.
        logs: How many files more it holds; they share bags.
        clip_bytes: The size of a clip on each of them.
        large_clip_bytes: The size of one more clip on another one.
        patience_s: How long all may take.
    """

    bays: int
    photos: int
    logs: int
    clip_bytes: int
    large_clip_bytes: int
    patience_s: float


# What a dock must carry at once.
HEAVY: Final = Load(
    bays=24,
    photos=2_000,
    logs=98_000,
    clip_bytes=1 << 30,
    large_clip_bytes=200 * 10**9,
    patience_s=3 * 3600,
)
# Once on the dock's disk, once on the archive's, and all else.
_HEAVY_DISK_BYTES: Final = 480 * 10**9


def carry_heavy(root: Path, *, seed: int) -> Result:
    """Carry `HEAVY`, on a disk in memory, where zeros take no room.

    Raises:
        OSError: The kernel or the tools do not give such a disk.
    """
    with zeros_disk(root, size_bytes=_HEAVY_DISK_BYTES):
        return carry(root, HEAVY, seed=seed)


def carry(root: Path, load: Load, *, seed: int) -> Result:
    """Dock everything at once, wait until all is archived, and check it and the dock's memory."""
    habits = Habits(large_photo_bytes=KIB)
    recorders = list(worn_recorders(root / "recorders", load.bays, seed=seed, habits=habits))
    for _ in range(load.photos):
        recorders[0].take_photo()
    recorders[0].keep_logs(load.logs)
    recorders[1].film_darkness(load.large_clip_bytes)
    for one in recorders:
        one.film_darkness(load.clip_bytes)
    site = _site(root, recorders)
    site.prepare()
    station, peaks, faults = Station(site, recorders, random.Random(seed)), Peaks(), []
    started_s = time.monotonic()
    try:
        site.start_archive()
        site.start_dock()
        station.fill_bays()
        station.finish(patience_s=load.patience_s)
    except StationError as error:
        faults.append(str(error))
    finally:
        took_s = time.monotonic() - started_s
        peaks.look(site.edge, site.server)
        site.stop()
    originals = [original for one in recorders for original in one.originals]
    faults += [*station.faults, *check(originals, places_of(site))]
    return _result(f"{load.bays} bays, {len(originals):,} files", took_s, peaks, faults)


def _site(root: Path, recorders: list[WornRecorder]) -> Site:
    options = SiteOptions(bays=len(recorders))
    return Site(root / "site", [one.registered for one in recorders], options)


def _result(what: str, took_s: float, peaks: Peaks, faults: list[str]) -> Result:
    rows = ((what, f"{took_s:,.0f} s"), *((f"{what}: {name}", told) for name, told in peaks.rows()))
    return Result(rows=rows, faults=(*faults, *peaks.above()))
