"""The archive's disk loses power, or fails: what it acknowledged is there, and it goes on."""

import asyncio
import errno
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

import bagit
import pytest
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from server_agent.adapters import bag_writer, catalogue_store
from tests.simulators.archive_on_fault_disk import FaultyArchive
from tests.simulators.archive_site import DOCK, ArchiveSite, lay_out_site
from tests.simulators.claims import Claim, Claimant
from tests.simulators.crash_points import EVERYWHERE, CrashPoint, crash_points
from tests.simulators.faultfs.mount import FaultDisk
from tests.simulators.faultfs.rules import REFUSED_READ_ONLY, Effect, Operation
from tests.simulators.intake_bench import IntakeBench

CLIPS: Final = (b"first clip " * 2_000, b"second")
OTHER: Final = b"log of the recorder"
EVERYWHERE_TIMEOUT_S: Final = 4 * 3600


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> ArchiveSite:
    """Return a site that ran once: its catalogue has its tables."""

    async def run_once() -> None:
        bench = IntakeBench(site)
        await bench.start()
        await bench.stop()

    site = lay_out_site(tmp_path_factory.mktemp("template"), docks=(DOCK,))
    asyncio.run(run_once())
    return site


@pytest.fixture
def archive(template: ArchiveSite, disk: FaultDisk) -> FaultyArchive:
    faulty = FaultyArchive(template=template, disk=disk)
    faulty.lay_down()
    return faulty


@pytest.fixture
def claim(template: ArchiveSite) -> Claim:
    return Claimant(DOCK, template.key(DOCK)).claim(recordings=[CLIPS], others=[OTHER])


def place_of(path: str) -> str:
    """Return what a path of the site is for."""
    if "catalogue" in path:
        return Path(path).name
    if ".incoming" in path:
        return "payload" if "/data/" in path else "bag being filled"
    return "archive"


async def cut_at(archive: FaultyArchive, claim: Claim, point: CrashPoint) -> list[str]:
    """Deliver until the power goes; return what was told and is lost."""
    archive.disk.crash_at(point.number, happens=point.happens, torn=point.torn)
    await archive.deliver(claim)
    archive.power_cut(torn=point.torn)
    lost = archive.losses()
    if point.torn is not None:
        # What lies behind a told offset may be bytes that nobody sent. The archive finds that out
        # when it has the whole file, and takes the offset back.
        archive.told.offsets.clear()
    return lost


async def check_it_ends_well(archive: FaultyArchive, claim: Claim) -> None:
    """Delivered once more, undisturbed, everything is archived once, durably, and nothing else."""
    assert await archive.deliver(claim, then_cut=True), archive.failure
    archive.power_cut()
    assert not archive.losses()
    assert await archive.deliver(claim), archive.failure  # tidies up

    assert archive.told.receipts
    assert not archive.losses()
    assert not archive.stray(claim)


@pytest.mark.timeout(EVERYWHERE_TIMEOUT_S if EVERYWHERE else 300)
async def test_a_power_cut_at_any_operation(
    archive: FaultyArchive, claim: Claim, seed: int
) -> None:
    """No offset, admission or receipt that was told is taken back; then all is archived once.

    Half of the time the power goes once more while the archive makes up for it.
    """
    chance = Random(seed)
    assert await archive.deliver(claim)
    trace = archive.disk.mutations()
    for point in crash_points(trace, place_of, chance, of_a_kind=1):
        archive.lay_down()
        assert not await cut_at(archive, claim, point), point
        if chance.random() < 0.5:
            again = CrashPoint(number=chance.randrange(len(trace)), happens=chance.random() < 0.5)
            assert not await cut_at(archive, claim, again), (point, again)
        await check_it_ends_well(archive, claim)


SYNCS: Final = (Operation.SYNC_FILE, Operation.SYNC_FOLDER)
FAULTS: Final = {
    "a write fails": (Effect.ERROR, (Operation.WRITE,), errno.EIO),
    "a read fails": (Effect.ERROR, (Operation.READ,), errno.EIO),
    "writes are short": (Effect.SHORT, (Operation.WRITE,), 11),
    "a sync fails": (Effect.ERROR, SYNCS, errno.EIO),
    "a sync fails, the next succeeds": (Effect.LOST_PAGES, (Operation.SYNC_FILE,), None),
    "a rename fails": (Effect.ERROR, (Operation.RENAME,), errno.EIO),
    "a folder cannot be made": (Effect.ERROR, (Operation.MAKE_FOLDER,), errno.ENOSPC),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("path", ["*/archive/*", "*catalogue*"])
async def test_a_disk_that_fails_once(
    archive: FaultyArchive, claim: Claim, seed: int, fault: str, path: str
) -> None:
    """Whatever operation fails, nothing that was told is lost, and the next try archives all."""
    effect, operations, value = FAULTS[fault]
    rule = archive.disk.fault(effect, operations, path=path, times=0, value=value)
    assert await archive.deliver(claim)
    met = archive.disk.count(rule).met
    for _ in range(2 if met else 0):
        archive.lay_down()
        skip = Random(seed).randrange(met)
        archive.disk.fault(effect, operations, path=path, skip=skip, value=value)
        await archive.deliver(claim)
        archive.disk.clear_rules()
        await check_it_ends_well(archive, claim)


LASTING: Final = {
    "it is read-only": (REFUSED_READ_ONLY, errno.EROFS),
    "there are no inodes": ({Operation.CREATE, Operation.MAKE_FOLDER}, errno.ENOSPC),
    "no sync succeeds": (SYNCS, errno.EIO),
}


@pytest.mark.parametrize("fault", LASTING)
async def test_a_disk_that_fails_from_now_on(
    archive: FaultyArchive, claim: Claim, seed: int, fault: str
) -> None:
    """From whatever moment on it fails, nothing that was told is lost; mended, it archives all."""
    operations, error = LASTING[fault]
    rule = archive.disk.fail(*operations, times=0, error=error)
    assert await archive.deliver(claim)
    skip = Random(seed).randrange(archive.disk.count(rule).met)
    archive.lay_down()
    archive.disk.fail(*operations, skip=skip, times=None, error=error)
    await archive.deliver(claim)
    archive.disk.clear_rules()
    await check_it_ends_well(archive, claim)


async def test_a_disk_that_fills_up(archive: FaultyArchive, claim: Claim, seed: int) -> None:
    """Wherever the room ends, nothing that was told is lost; with room, all is archived."""
    chance = Random(seed)
    before_bytes = archive.used_bytes()
    assert await archive.deliver(claim)
    after_bytes = archive.used_bytes()
    for _ in range(4):
        archive.lay_down()
        archive.disk.set_disk(capacity_bytes=chance.randrange(before_bytes, after_bytes))
        await archive.deliver(claim)
        archive.disk.set_disk(capacity_bytes=None)
        await check_it_ends_well(archive, claim)


async def test_a_lost_write_gets_no_receipt(archive: FaultyArchive, claim: Claim) -> None:
    """Bytes that the disk never wrote are found when the bag is read back, and asked for again."""
    archive.disk.fault(Effect.LOST_WRITE, (Operation.WRITE,), path="*/data/*", skip=1)

    assert await archive.deliver(claim)

    assert not archive.told.receipts
    await check_it_ends_well(archive, claim)


def without_syncs_of(is_kind: Callable[[int], bool], patch: pytest.MonkeyPatch) -> None:
    """Switch off fsync and fdatasync of files or folders, in this process."""
    for name in ("fsync", "fdatasync"):
        call = getattr(os, name)

        def sync(fd: int, call: Callable[[int], None] = call) -> None:
            if not is_kind(os.fstat(fd).st_mode):
                call(fd)

        patch.setattr(os, name, sync)


def without_file_syncs(patch: pytest.MonkeyPatch) -> None:
    without_syncs_of(stat.S_ISREG, patch)


def without_folder_syncs(patch: pytest.MonkeyPatch) -> None:
    without_syncs_of(stat.S_ISDIR, patch)


def with_lazy_commits(patch: pytest.MonkeyPatch) -> None:
    """Let the catalogue commit with synchronous=NORMAL."""
    prepare = catalogue_store._prepare_sqlite  # noqa: SLF001 - the protection that is switched off

    def lazily(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        prepare(connection, entry)
        connection.cursor().execute("PRAGMA synchronous=NORMAL")

    patch.setattr(catalogue_store, "_prepare_sqlite", lazily)


@pytest.mark.parametrize(
    "switch_off", [without_file_syncs, without_folder_syncs, with_lazy_commits]
)
async def test_without_a_protection_something_is_lost(
    archive: FaultyArchive,
    claim: Claim,
    monkeypatch: pytest.MonkeyPatch,
    switch_off: Callable[[pytest.MonkeyPatch], None],
) -> None:
    """Control: each protection switched off, a power cut takes what was acknowledged."""
    with monkeypatch.context() as patch:
        switch_off(patch)
        assert await archive.deliver(claim, then_cut=True)
        assert archive.told.receipts

    archive.power_cut()

    assert archive.losses()


async def test_without_the_read_back_a_lost_write_is_archived(
    archive: FaultyArchive, claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: not read back, a bag with bytes that were never written gets its receipt."""
    monkeypatch.setattr(bag_writer._OpenBag, "read_back", lambda *_: None)  # noqa: SLF001 - likewise
    archive.disk.fault(Effect.LOST_WRITE, (Operation.WRITE,), path="*/data/*", skip=1)

    assert await archive.deliver(claim)

    assert archive.told.receipts
    assert archive.losses()


def test_cp_loses_what_it_says_it_copied(disk: FaultDisk, tmp_path: Path) -> None:
    """Control: cp reports success, and a power cut leaves nothing."""
    clip = tmp_path / "clip.MP4"
    clip.write_bytes(CLIPS[0])
    subprocess.run(["cp", "--archive", clip, disk.root], check=True)
    assert (disk.root / clip.name).read_bytes() == CLIPS[0]

    disk.crash()
    disk.restart()

    assert list(disk.root.iterdir()) == []


def test_bagit_loses_what_it_calls_a_valid_bag(disk: FaultDisk) -> None:
    """Control: bagit-python makes a bag and calls it valid; a power cut leaves the bare payload."""
    folder = disk.root / "bag"
    folder.mkdir()
    (folder / "clip.MP4").write_bytes(CLIPS[0])
    for path in (folder / "clip.MP4", folder, disk.root):
        subprocess.run(["sync", path], check=True)
    bagit.make_bag(str(folder), checksums=["sha256"])
    assert bagit.Bag(str(folder)).is_valid()

    disk.crash()
    disk.restart()

    with pytest.raises(bagit.BagError):
        bagit.Bag(str(folder))
