"""The fault file system keeps its word: each sentence of its model, by plain system calls."""

import errno
import mmap
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime import durable
from tests.simulators.faultfs.mount import FaultDisk
from tests.simulators.faultfs.rules import Operation
from tests.simulators.faultfs.worlds import PAGE_BYTES


def write(path: Path, content: bytes, *, sync: Callable[[int], None] | None = None) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        durable.write_all(fd, content)
        if sync:
            sync(fd)
    finally:
        os.close(fd)


def keep(path: Path, content: bytes) -> None:
    """Write a file as one should."""
    write(path, content, sync=os.fsync)
    durable.sync_directory(path.parent)


def cut_power(disk: FaultDisk, *, torn: int | None = None) -> None:
    disk.crash(torn=torn)
    disk.restart()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def error_of(call: Callable[[], object]) -> int | None:
    with pytest.raises(OSError, match=r"Errno") as caught:
        call()
    return caught.value.errno


@pytest.mark.parametrize("sync", [os.fsync, os.fdatasync])
def test_a_write_is_durable_when_its_file_is_synced(
    disk: FaultDisk, sync: Callable[[int], None]
) -> None:
    """Sentence 1: content that was synced survives, what was written after that does not."""
    path = disk.root / "file"
    keep(path, b"")
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, b"synced")
    sync(fd)
    os.write(fd, b" and not")
    assert path.read_bytes() == b"synced and not"

    cut_power(disk)

    assert path.read_bytes() == b"synced"
    os.close(fd)


def test_a_truncation_is_durable_when_its_file_is_synced(disk: FaultDisk) -> None:
    """Sentence 1: cut and not synced, the old content is back; cut and synced, it stays cut."""
    path = disk.root / "file"
    keep(path, b"0123456789" * 1_000)

    os.truncate(path, 3)
    cut_power(disk)
    assert path.stat().st_size == 10_000

    fd = os.open(path, os.O_WRONLY)
    os.ftruncate(fd, 3)
    os.ftruncate(fd, 9_000)
    os.fsync(fd)
    cut_power(disk)
    assert path.read_bytes() == b"012" + bytes(8_997)
    os.close(fd)


def test_a_mode_needs_fsync(disk: FaultDisk) -> None:
    """Sentence 1: fdatasync does not make a mode durable, fsync does."""
    path = disk.root / "file"
    keep(path, b"x")
    for sync, survives in ((os.fdatasync, False), (os.fsync, True)):
        fd = os.open(path, os.O_RDONLY)
        os.fchmod(fd, 0o444)
        sync(fd)
        cut_power(disk)

        assert (stat.S_IMODE(path.stat().st_mode) == 0o444) is survives
        os.close(fd)


def test_a_synced_file_needs_a_synced_name(disk: FaultDisk) -> None:
    """Sentence 2: a file whose folder was not synced is gone, though it was synced itself."""
    write(disk.root / "nameless", b"x", sync=os.fsync)

    cut_power(disk)

    assert not names(disk.root)


def test_a_synced_name_has_no_content(disk: FaultDisk) -> None:
    """Sentences 2 and 4: a name whose file was never synced is there, and the file is empty."""
    write(disk.root / "empty", b"x" * 10_000)
    durable.sync_directory(disk.root)

    cut_power(disk)

    assert (disk.root / "empty").read_bytes() == b""


def test_a_folder_needs_its_own_name(disk: FaultDisk) -> None:
    """Sentences 2 and 4: what is below a folder whose name was not synced is gone with it."""
    durable.make_directories(disk.root / "kept/inner")
    keep(disk.root / "kept/inner/file", b"x")
    (disk.root / "lost").mkdir()
    keep(disk.root / "lost/file", b"x")

    cut_power(disk)

    assert names(disk.root) == {"kept"}
    assert names(disk.root / "kept/inner") == {"file"}


def test_a_removal_is_durable_when_its_folder_is_synced(disk: FaultDisk) -> None:
    """Sentence 2: removed and not synced, files and folders are back."""
    keep(disk.root / "file", b"x")
    durable.make_directories(disk.root / "folder")

    (disk.root / "file").unlink()
    (disk.root / "folder").rmdir()
    assert not names(disk.root)
    cut_power(disk)
    assert names(disk.root) == {"file", "folder"}
    assert (disk.root / "file").read_bytes() == b"x"

    (disk.root / "file").unlink()
    (disk.root / "folder").rmdir()
    durable.sync_directory(disk.root)
    cut_power(disk)
    assert not names(disk.root)


@pytest.mark.parametrize(
    ("synced", "left"),
    [((), {"old"}), (("new",), {"old", "new"}), (("old",), set()), (("new", "old"), {"new"})],
)
def test_a_rename_is_durable_half_by_half(
    disk: FaultDisk, synced: tuple[str, ...], left: set[str]
) -> None:
    """Sentence 3: each folder's sync makes its own half durable."""
    for folder in ("old", "new"):
        durable.make_directories(disk.root / folder)
    keep(disk.root / "old/file", b"x")

    (disk.root / "old/file").rename(disk.root / "new/file")
    for folder in synced:
        durable.sync_directory(disk.root / folder)
    cut_power(disk)

    assert {folder for folder in ("old", "new") if (disk.root / folder / "file").exists()} == left


def test_a_moved_folder_has_one_name(disk: FaultDisk) -> None:
    """Sentence 3: with its new name synced, a folder's old one is gone, and all is below it."""
    for folder in ("old", "new", "old/bag"):
        durable.make_directories(disk.root / folder)
    keep(disk.root / "old/bag/file", b"x")

    (disk.root / "old/bag").rename(disk.root / "new/bag")
    durable.sync_directory(disk.root / "new")
    cut_power(disk)

    assert not names(disk.root / "old")
    assert (disk.root / "new/bag/file").read_bytes() == b"x"


def test_a_replaced_file_is_the_old_one_until_the_sync(disk: FaultDisk) -> None:
    """Sentence 3: a rename over a file that was not synced leaves the old file."""
    keep(disk.root / "file", b"old")
    write(disk.root / "beside", b"new", sync=os.fsync)
    (disk.root / "beside").replace(disk.root / "file")
    assert (disk.root / "file").read_bytes() == b"new"

    cut_power(disk)

    assert (disk.root / "file").read_bytes() == b"old"


def test_renaming_without_replacing(disk: FaultDisk) -> None:
    """RENAME_NOREPLACE is known, and refuses; a hard link has both names."""
    keep(disk.root / "a", b"a")
    keep(disk.root / "b", b"b")
    with pytest.raises(FileExistsError):
        durable.rename_no_replace(disk.root / "a", disk.root / "b")
    durable.rename_no_replace(disk.root / "a", disk.root / "c")
    os.link(disk.root / "c", disk.root / "d")
    durable.sync_directory(disk.root)

    cut_power(disk)

    assert names(disk.root) == {"b", "c", "d"}
    assert (disk.root / "c").samefile(disk.root / "d")
    assert (disk.root / "c").stat().st_nlink == 2


def test_without_power_everything_fails(disk: FaultDisk) -> None:
    """Sentence 5: between crash and restart each call gets EIO, by name or by descriptor."""
    keep(disk.root / "file", b"x")
    fd = os.open(disk.root / "file", os.O_RDWR)
    disk.crash()

    assert disk.is_down
    for call in (
        lambda: os.read(fd, 1),
        lambda: os.write(fd, b"y"),
        lambda: os.fsync(fd),
        lambda: names(disk.root),
        (disk.root / "file").read_bytes,
        (disk.root / "other").mkdir,
    ):
        assert error_of(call) == errno.EIO
    disk.restart()
    os.close(fd)


def test_descriptors_do_not_outlive_the_power(disk: FaultDisk) -> None:
    """Sentence 5: after the restart an old descriptor is dead, and harms nothing."""
    keep(disk.root / "file", b"x")
    fd = os.open(disk.root / "file", os.O_RDWR)
    number = os.fstat(fd).st_ino

    cut_power(disk)

    assert error_of(lambda: os.write(fd, b"y")) == errno.EIO
    assert error_of(lambda: os.fsync(fd)) == errno.EIO
    assert (disk.root / "file").read_bytes() == b"x"
    assert (disk.root / "file").stat().st_ino != number
    os.close(fd)


def test_a_torn_crash_keeps_some_pages(disk: FaultDisk) -> None:
    """Sentence 6: each page that was not synced is old by one seed, new by another, never mixed."""
    old, new = b"o" * PAGE_BYTES * 4, b"n" * PAGE_BYTES * 4
    seen: list[set[bytes]] = [set() for _ in range(4)]
    for seed in range(40):
        disk.reset()
        keep(disk.root / "file", old)
        write(disk.root / "file", new)
        cut_power(disk, torn=seed)
        content = (disk.root / "file").read_bytes()
        for page, found in enumerate(seen):
            found.add(content[page * PAGE_BYTES : (page + 1) * PAGE_BYTES])

    assert seen == [{old[:PAGE_BYTES], new[:PAGE_BYTES]}] * 4


def test_a_torn_crash_keeps_some_names(disk: FaultDisk) -> None:
    """Sentence 6: names survive or not, each for itself; a rename never loses its file."""
    found = set[frozenset[str]]()
    for seed in range(60):
        disk.reset()
        keep(disk.root / "moved", b"x")
        (disk.root / "moved").rename(disk.root / "here")
        (disk.root / "made").touch()
        cut_power(disk, torn=seed)
        found.add(frozenset(names(disk.root)))

    assert found == {
        frozenset(left) for left in ({"moved"}, {"here"}, {"moved", "made"}, {"here", "made"})
    }


def test_the_same_seed_tears_alike(disk: FaultDisk) -> None:
    """Sentence 6: a torn crash can be repeated."""
    contents = set[bytes]()
    for _ in range(3):
        disk.reset()
        keep(disk.root / "file", b"o" * PAGE_BYTES * 64)
        write(disk.root / "file", b"n" * PAGE_BYTES * 64)
        cut_power(disk, torn=7)
        contents.add((disk.root / "file").read_bytes())

    assert len(contents) == 1


def test_sqlite_works_on_it(disk: FaultDisk) -> None:
    """SQLite's shared memory can be mapped, is no disk, and no crash reaches it."""
    path = disk.root / "journal.sqlite-shm"
    path.write_bytes(bytes(PAGE_BYTES))
    durable.sync_directory(disk.root)
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, PAGE_BYTES) as shared:
        shared[0] = 1
        cut_power(disk)
        assert shared[0] == 1
    os.close(fd)

    assert path.read_bytes() == b""
    assert {traced.operation for traced in disk.mutations()} == {Operation.SYNC_FOLDER}
