"""What can go wrong on the fault file system goes wrong as asked, is counted, and is traced."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime import durable
from tests.faults.test_faultfs_model import cut_power, error_of, keep, names, write
from tests.simulators.faultfs.mount import Count, FaultDisk
from tests.simulators.faultfs.rules import Effect, Operation
from tests.simulators.faultfs.worlds import PAGE_BYTES


def test_the_nth_read_fails(disk: FaultDisk) -> None:
    """A rule lets so many pass, hits so many, counts both, and leaves other paths alone."""
    keep(disk.root / "bad", b"x" * 100)
    keep(disk.root / "good", b"x" * 100)
    rule = disk.fail(Operation.READ, path="ba*", skip=2, times=2)
    answers = []
    with (
        (disk.root / "bad").open("rb", buffering=0) as bad,
        (disk.root / "good").open("rb") as good,
    ):
        for _ in range(6):
            try:
                answers.append(len(os.pread(bad.fileno(), 1, 0)))
            except OSError as error:
                answers.append(-(error.errno or 0))
        assert good.read() == b"x" * 100

    assert answers == [1, 1, -errno.EIO, -errno.EIO, 1, 1]
    assert disk.count(rule) == Count(met=6, hits=2)


def test_a_short_write_is_told(disk: FaultDisk) -> None:
    """The program gets the smaller count; one that goes on loses nothing."""
    disk.fault(Effect.SHORT, [Operation.WRITE], times=2, value=3)
    fd = os.open(disk.root / "file", os.O_WRONLY | os.O_CREAT)

    assert os.write(fd, b"0123456789") == 3
    durable.write_all(fd, b"3456789")

    assert (disk.root / "file").read_bytes() == b"0123456789"
    os.close(fd)


def test_a_short_read_is_told(disk: FaultDisk) -> None:
    """The program gets fewer bytes than there are."""
    keep(disk.root / "file", b"0123456789")
    disk.fault(Effect.SHORT, [Operation.READ], value=3)
    fd = os.open(disk.root / "file", os.O_RDONLY)

    assert (os.read(fd, 10), os.read(fd, 10)) == (b"012", b"3456789")
    os.close(fd)


@pytest.mark.parametrize("room", [0, 1, 4_999])
def test_a_full_disk_takes_what_fits(disk: FaultDisk, room: int) -> None:
    """At the given byte a write is cut short, the next gets ENOSPC; a removal makes room."""
    keep(disk.root / "other", b"x" * 1_000)
    disk.set_disk(capacity_bytes=1_000 + room)

    assert error_of(lambda: write(disk.root / "file", b"y" * 5_000)) == errno.ENOSPC
    assert (disk.root / "file").stat().st_size == room
    (disk.root / "other").unlink()
    (disk.root / "file").write_bytes(b"y" * (1_000 + room))


def test_a_disk_without_inodes(disk: FaultDisk) -> None:
    """No new file or folder; those that are there can grow."""
    keep(disk.root / "file", b"x")
    disk.set_disk(capacity_nodes=2)

    assert error_of((disk.root / "new").touch) == errno.ENOSPC
    assert error_of((disk.root / "folder").mkdir) == errno.ENOSPC
    assert os.statvfs(disk.root).f_favail == 0
    (disk.root / "file").write_bytes(b"xyz")


def test_statvfs_says_what_it_is_told(disk: FaultDisk) -> None:
    """It says what is true, or what a test wants."""
    disk.set_disk(capacity_bytes=1 << 20)
    keep(disk.root / "file", b"x" * PAGE_BYTES)
    space = os.statvfs(disk.root)
    assert space.f_bavail * space.f_frsize == (1 << 20) - PAGE_BYTES

    disk.set_disk(shown_free_bytes=3 * PAGE_BYTES)
    space = os.statvfs(disk.root)
    assert space.f_bavail * space.f_frsize == 3 * PAGE_BYTES


def test_a_failed_sync_loses_pages_and_calls_them_clean(disk: FaultDisk) -> None:
    """Sentence 7: EIO once, then success; all see the new content, and the crash shows the old."""
    path = disk.root / "file"
    keep(path, b"old")
    disk.fault(Effect.LOST_PAGES, [Operation.SYNC_FILE])
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, b"new")

    assert error_of(lambda: os.fsync(fd)) == errno.EIO
    os.fsync(fd)
    assert path.read_bytes() == b"new"

    cut_power(disk)
    assert path.read_bytes() == b"old"
    os.close(fd)


def test_an_ignored_sync_is_a_lie(disk: FaultDisk) -> None:
    """It succeeds, and nothing is durable; the next one tells the truth."""
    disk.fault(Effect.IGNORED, [Operation.SYNC_FILE])
    keep(disk.root / "file", b"x")
    fd = os.open(disk.root / "file", os.O_RDONLY)
    disk.fault(Effect.IGNORED, [Operation.SYNC_FOLDER])
    keep(disk.root / "other", b"y")
    os.fsync(fd)

    cut_power(disk)

    assert names(disk.root) == {"file"}
    assert (disk.root / "file").read_bytes() == b"x"
    os.close(fd)


def test_a_lost_write_is_seen_by_reading_alone(disk: FaultDisk) -> None:
    """It succeeds, its sync as well; the file has the right size and the old bytes."""
    path = disk.root / "file"
    keep(path, b"old")
    disk.fault(Effect.LOST_WRITE, [Operation.WRITE])

    write(path, b"newer", sync=os.fsync)

    assert path.read_bytes() == b"old\0\0"


def test_a_stale_read_shows_what_is_durable(disk: FaultDisk) -> None:
    """One read gets the old bytes, the next the new ones."""
    path = disk.root / "file"
    keep(path, b"old")
    write(path, b"newer")
    disk.fault(Effect.STALE_READ, [Operation.READ])
    fd = os.open(path, os.O_RDONLY)

    assert [os.pread(fd, 5, 0) for _ in range(2)] == [b"old\0\0", b"newer"]
    os.close(fd)


def test_a_disk_that_becomes_read_only(disk: FaultDisk) -> None:
    """Whoever changes something gets EROFS; reading and syncing go on."""
    keep(disk.root / "file", b"x")
    fd = os.open(disk.root / "file", os.O_RDWR)
    disk.set_disk(read_only=True)

    for call in (
        lambda: os.write(fd, b"y"),
        (disk.root / "new").touch,
        (disk.root / "file").unlink,
        lambda: os.truncate(disk.root / "file", 0),
    ):
        assert error_of(call) == errno.EROFS
    os.fsync(fd)
    assert (disk.root / "file").read_bytes() == b"x"
    os.close(fd)


def test_a_stalled_operation_waits_until_it_is_released(disk: FaultDisk) -> None:
    """It hangs, others go on; released, it does what it was asked for."""
    path = disk.root / "file"
    keep(path, b"x")
    disk.fault(Effect.STALL, [Operation.WRITE], times=None)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(path.write_bytes, b"written")
        while not disk.stalled:
            assert not writing.done()
        assert names(disk.root) == {"file"}
        disk.release()
        assert writing.result(60) == 7

    assert path.read_bytes() == b"written"


@pytest.mark.parametrize("happens", [False, True])
def test_a_crash_at_each_operation(disk: FaultDisk, happens: bool) -> None:  # noqa: FBT001 -- a parameter of the test
    """The trace names each point; a crash there does, or does not do, the operation itself."""

    def store(path: Path) -> None:
        write(path / "beside", b"new", sync=os.fsync)
        (path / "beside").rename(path / "file")
        durable.sync_directory(path)

    store(disk.root)
    points = disk.mutations()
    survived = []
    for number, _ in enumerate(points):
        disk.reset()
        disk.crash_at(number, happens=happens)
        assert error_of(lambda: store(disk.root)) == errno.EIO
        assert disk.is_down
        disk.restart()
        survived.append(names(disk.root))

    assert [point.operation for point in points] == [
        Operation.CREATE,
        Operation.WRITE,
        Operation.SYNC_FILE,
        Operation.RENAME,
        Operation.SYNC_FOLDER,
    ]
    assert points[3].paths == ("beside", "file")
    assert survived == [set(), set(), set(), set(), {"file"} if happens else set()]
