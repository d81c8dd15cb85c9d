"""The power goes at any operation on the dock's disk: what was acknowledged is there afterwards."""

from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Final

import pytest

from edge_agent.ingest.division import PIECE_FILES
from edge_agent.ingest.salvage import SECTOR_BYTES
from edge_agent.ports import OutcomeKind
from protocol.digest import sha256_hex
from tests.simulators.archive import Archive
from tests.simulators.crash_points import CrashPoint, crash_points
from tests.simulators.dock_on_fault_disk import CHUNK_BYTES, FaultyDock, place_of
from tests.simulators.docking_site import MORNING, recording
from tests.simulators.faultfs.mount import FaultDisk
from tests.simulators.faultfs.rules import Operation
from tests.simulators.memory_volume import MemoryVolume
from tests.simulators.sealed_manifests import ARCHIVE_KEY, DOCK, DOCK_KEY
from tests.simulators.tus_archive import TusArchive

# Two clips of one recording, each with checkpoints in its middle and an end beside a page's, and
# the same bytes again under another name.
_CLIPS: Final = recording(clips=2, size_bytes=2 * CHUNK_BYTES + 17)
FILES: Final = _CLIPS | {b"COPY.MP4": next(iter(_CLIPS.values()))}
OPERATIONS: Final = {
    Operation.CREATE,
    Operation.WRITE,
    Operation.SYNC_FILE,
    Operation.SYNC_FOLDER,
    Operation.MAKE_FOLDER,
    Operation.RENAME,
    Operation.UNLINK,
}
PLACES: Final = {"partial", "files", "journal-number", "journal.sqlite", "journal.sqlite-wal"}


def a_dock(disk: FaultDisk, *, piece_files: int = PIECE_FILES) -> FaultyDock:
    """Return a new dock on an empty disk, and the recorder in it."""
    disk.reset()
    volume = MemoryVolume(files=FILES, chunk_bytes=CHUNK_BYTES)
    return FaultyDock(disk=disk, volume=volume, piece_files=piece_files)


async def points_of_a_docking(
    disk: FaultDisk, chance: Random, *, piece_files: int = PIECE_FILES
) -> list[CrashPoint]:
    """Dock undisturbed, and return where to cut the power another time."""
    assert await a_dock(disk, piece_files=piece_files).run()
    trace = disk.mutations()
    assert {traced.operation for traced in trace} >= OPERATIONS
    assert {place_of(path) for traced in trace for path in traced.paths} >= PLACES
    return crash_points(trace, place_of, chance)


def cut_at(disk: FaultDisk, point: CrashPoint) -> None:
    disk.crash_at(point.number, happens=point.happens, torn=point.torn)


async def check_it_ends_well(dock: FaultyDock) -> None:
    """Docked once more, undisturbed, everything is there once, and nothing else is."""
    assert await dock.run()

    assert dock.outcomes[-1].kind is OutcomeKind.SEALED
    assert not dock.losses()
    assert not dock.strays()


@pytest.mark.parametrize("piece_files", [PIECE_FILES, 1])
async def test_a_power_cut_at_any_operation(disk: FaultDisk, seed: int, piece_files: int) -> None:
    """Cut once anywhere, nothing acknowledged is lost, and the next docking completes it.

    Likewise of a recorder that is sealed piece by piece.
    """
    for point in await points_of_a_docking(disk, Random(seed), piece_files=piece_files):
        dock = a_dock(disk, piece_files=piece_files)
        cut_at(disk, point)
        assert not await dock.run(), point
        dock.restart()

        assert not dock.losses(), point
        await check_it_ends_well(dock)


async def test_power_cuts_again_and_again(disk: FaultDisk, seed: int) -> None:
    """Cut at every start anew, at any operation, nothing piles up and nothing is lost."""
    chance = Random(seed)
    points = await points_of_a_docking(disk, chance)
    for _ in range(max(1, len(points) // 12)):
        dock = a_dock(disk)
        for point in chance.choices(points, k=6):
            cut_at(disk, point)
            went = not await dock.run()
            disk.crash(torn=point.torn)
            dock.restart()
            assert not dock.losses(), (went, point)

        await check_it_ends_well(dock)


# Enough for a batch, with one content twice; nothing of them is begun before the batch is.
_SMALL: Final = {
    path: one
    for number in range(5)
    for path, one in recording(MORNING + timedelta(hours=number), first=number).items()
}
_TWICE: Final = _SMALL | {b"COPY.JPG": next(iter(_SMALL.values()))}


async def test_a_power_cut_while_small_files_are_staged(disk: FaultDisk, seed: int) -> None:
    """Of files that are staged together each is there whole or not at all, wherever it is cut."""

    def a_dock_with_small_files() -> FaultyDock:
        disk.reset()
        return FaultyDock(disk=disk, volume=MemoryVolume(files=_TWICE), small_bytes=10_000)

    assert await a_dock_with_small_files().run()
    for point in crash_points(disk.mutations(), place_of, Random(seed)):
        dock = a_dock_with_small_files()
        cut_at(disk, point)
        await dock.run()  # eight threads: the same operation may come earlier or later
        disk.crash(torn=point.torn)
        dock.restart()

        assert not dock.losses(), point
        await check_it_ends_well(dock)


def receipts_for(dock: FaultyDock) -> list[bytes]:
    """Return the archive's receipts for what the dock has handed out."""
    archive = Archive(ARCHIVE_KEY, DOCK_KEY.public, TusArchive(), dock=DOCK)
    archive.tus.files = {sha256_hex(one.content): one.content for one in FILES.values()}
    return [
        answer
        for _, envelope in sorted(dock.told.manifests.items())
        for answer in archive.take_manifest(envelope)
    ]


async def test_a_power_cut_while_copies_are_freed(disk: FaultDisk, seed: int) -> None:
    """A copy goes only after its receipt is durable; cut anywhere, in the end all are freed."""
    dock = a_dock(disk)
    assert await dock.run()
    disk.clear_trace()
    assert await dock.free(receipts_for(dock))
    points = crash_points(disk.mutations(), place_of, Random(seed))
    assert "files" in {place_of(traced.paths[0]) for traced in disk.mutations()}
    for point in points:
        dock = a_dock(disk)
        assert await dock.run()
        cut_at(disk, point)
        assert not await dock.free(receipts_for(dock)), point
        dock.restart()
        assert not dock.losses(), point

        assert await dock.free(receipts_for(dock))
        assert not dock.losses()
        assert not dock.strays()
        assert not list((dock.staging / "files").iterdir())


# Eight sectors; from the third on the first reading gets nothing.
_BAD: Final = {
    path: replace(one, bad_sectors=frozenset({2}))
    for path, one in recording(size_bytes=8 * SECTOR_BYTES).items()
}


async def test_a_power_cut_while_a_bad_file_is_salvaged(disk: FaultDisk, seed: int) -> None:
    """Parts that were noted stay; read whole at last, the file is staged and its parts are gone."""

    def a_dock_with_a_bad_card() -> FaultyDock:
        disk.reset()
        return FaultyDock(disk=disk, volume=MemoryVolume(files=_BAD, chunk_bytes=SECTOR_BYTES))

    assert await a_dock_with_a_bad_card().run()
    points = crash_points(disk.mutations(), place_of, Random(seed))
    assert "salvaged" in {place_of(traced.paths[0]) for traced in disk.mutations()}
    for point in points:
        dock = a_dock_with_a_bad_card()
        cut_at(disk, point)
        assert not await dock.run(), point
        dock.restart()
        assert not dock.losses(), point

        assert await dock.run()
        assert dock.outcomes[-1].kind is OutcomeKind.ATTENTION
        assert not dock.losses(), point
        dock.volume.files = {
            path: replace(one, bad_sectors=frozenset()) for path, one in _BAD.items()
        }
        await check_it_ends_well(dock)
