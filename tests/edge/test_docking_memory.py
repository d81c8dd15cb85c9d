"""What a docking keeps in mind does not grow with the number of files as a whole docking would."""

import dataclasses
import gc
import tracemalloc
from datetime import timedelta
from pathlib import Path

from edge_agent.docking import run_docking
from edge_agent.ingest.progress import BayProgress
from edge_agent.ports import OutcomeKind
from protocol.identifiers import BayNumber
from tests.simulators.docking_site import MORNING, DockingSite, clip_path, mtime_ns, open_site
from tests.simulators.memory_staging import MemoryStaging
from tests.simulators.memory_volume import MemoryVolume, Stored

_FEW, _MANY = 1_000, 5_000
# Its path and its place in the listing, and its copy, which is in memory here. A docking that keeps
# all it knows of a file takes 2,600.
_MOST_BYTES_A_FILE = 600


def photos(count: int) -> MemoryVolume:
    files = {}
    for number in range(count):
        taken = MORNING + timedelta(seconds=30 * number)
        path = clip_path(taken, number, extension="JPG")
        files[path] = Stored(content=b"%08d" % number, mtime_ns=mtime_ns(taken))
    return MemoryVolume(files=files)


async def peak_bytes(site: DockingSite, count: int) -> int:
    volume = photos(count)
    # What is garbage already does not count, whenever Python would have noticed.
    ports = dataclasses.replace(site.ports, on_sealed=_collect)
    gc.collect()
    tracemalloc.start()
    try:
        outcome = await run_docking(
            volume, bay=BayNumber(1), ports=ports, settings=site.settings, report=_tell_nobody
        )
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        assert outcome.kind is OutcomeKind.SEALED


def _collect() -> None:
    gc.collect()


def _tell_nobody(_progress: BayProgress) -> None:
    """Nobody keeps what is told."""


async def test_a_file_costs_little_memory(tmp_path: Path) -> None:
    """Five times as many files take what their listing takes, and no more."""
    peaks = {}
    for count in (_FEW, _MANY):
        staging = MemoryStaging()
        async with open_site(tmp_path / f"{count}.sqlite", staging) as site:
            site.piece_files, site.small_bytes = 200, 1 << 16
            peaks[count] = await peak_bytes(site, count)

    assert (peaks[_MANY] - peaks[_FEW]) / (_MANY - _FEW) < _MOST_BYTES_A_FILE
