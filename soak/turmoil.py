"""A station in use while everything befalls it at random, and how it is when all is quiet."""

import contextlib
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from demo.site import Site, SiteOptions
from soak.bad_network import BadNetwork, bad_network
from soak.checker import check, find_bags
from soak.killing import Killer
from soak.mischief import Mischief
from soak.own_disk import SmallDisk, small_disk
from soak.process_memory import Peaks
from soak.recorders import MIB, Habits, WornRecorder, worn_recorders
from soak.result import Result
from soak.station import Station, StationError, places_of

BAYS: Final = 8
RECORDERS: Final = 11
KILLS_PER_MINUTE: Final = 1_000 / 30

_PATIENCE_S: Final = 600
_LINE_EVERY_S: Final = 10
_DISK_BYTES: Final = 2 << 30


def run_turmoil(root: Path, *, seed: int, minutes: float) -> Result:
    """Use a station for a while, let it come to rest, and check everything.

    Args:
        root: Where everything is put; it stays.
        seed: Of all dice.
        minutes: How long until it is left in peace; longer, until there were 1,000 kills for every
            half an hour.
    """
    habits = Habits(clips=3, large_clip_bytes=12 * MIB, is_odd=True)
    recorders = list(worn_recorders(root / "recorders", RECORDERS, seed=seed, habits=habits))
    options = SiteOptions(bays=BAYS, read_limit_bytes_s=8 * MIB, reconcile_s=5)
    site = Site(root / "site", [one.registered for one in recorders], options)
    peaks = Peaks()
    with _full_disk(site) as disk, bad_network(site, seed) as network:
        site.prepare()
        try:
            return _use(site, recorders, network, disk, peaks, seed=seed, minutes=minutes)
        finally:
            site.stop()


def _use(
    site: Site,
    recorders: list[WornRecorder],
    network: BadNetwork,
    disk: SmallDisk | None,
    peaks: Peaks,
    *,
    seed: int,
    minutes: float,
) -> Result:
    dice = random.Random(seed)
    station, killer = Station(site, recorders, dice), Killer(site, dice)
    mischief = Mischief(station, killer, network, disk, dice)
    site.start_archive()
    site.start_dock()
    faults: list[str] = []
    started_s = said_s = time.monotonic()
    try:
        while not station.faults and (
            time.monotonic() < started_s + 60 * minutes
            or killer.kills.total() < KILLS_PER_MINUTE * minutes
        ):
            mischief.go_on()
            peaks.look(site.edge, site.server)
            if time.monotonic() >= said_s + _LINE_EVERY_S:
                said_s = time.monotonic()
                _say(said_s - started_s, station, killer, peaks)
        mischief.end()
        print("left in peace: every recorder is docked once more, until it is released", flush=True)
        station.finish(patience_s=_PATIENCE_S)
        peaks.look(site.edge, site.server)
    except StationError as error:
        faults.append(str(error))
    print("checking what is in the archive, with code that is not the agents'", flush=True)
    originals = [original for one in recorders for original in one.originals]
    faults += [*station.faults, *check(originals, places_of(site)), *peaks.above()]
    counts = {
        "dockings": station.dockings,
        "released": station.released,
        **{f"kills of {name}": count for name, count in sorted(killer.kills.items())},
        **dict(sorted(mischief.done.items())),
        "connections broken": network.broken,
        "files on recorders": len(originals),
        "MiB on recorders": sum(one.size_bytes for one in originals) // MIB,
        "bags": len(find_bags(site.archive)),
    }
    rows = [(name, f"{count:,}") for name, count in counts.items()]
    return Result(rows=(*rows, *peaks.rows()), faults=tuple(faults))


def _say(elapsed_s: float, station: Station, killer: Killer, peaks: Peaks) -> None:
    minutes, seconds = divmod(int(elapsed_s), 60)
    files = sum(len(one.originals) for one in station.recorders)
    memory = ", ".join(f"{name} {told}" for name, told in peaks.rows())
    print(
        f"{minutes:3}:{seconds:02}  {station.dockings} dockings, {killer.kills.total()} kills, "
        f"{files} files, {station.released} released; at most {memory}",
        flush=True,
    )


@contextlib.contextmanager
def _full_disk(site: Site) -> Iterator[SmallDisk | None]:
    """Give the dock a disk of its own that can be filled, if we may mount one."""
    with contextlib.ExitStack() as stack:
        try:
            disk = stack.enter_context(small_disk(site.journal.parent, size_bytes=_DISK_BYTES))
        except OSError as error:
            print(f"the dock's disk is never filled: {error}", flush=True)
            disk = None
        yield disk
