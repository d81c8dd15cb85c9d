import errno
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import durable
from runtime.durable import _link_and_unlink

MIB: Final = 1 << 20

# Writes 8 KiB where 4 KiB may be written: the kernel takes the first half and reports it.
HALF_A_WRITE: Final = """
import os, resource, sys
from runtime.durable import write_all
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_all(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT), bytes(8192))
except OSError as error:
    print(error.errno, os.stat(sys.argv[1]).st_size)
"""


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_new_file_is_empty_and_ours_alone(tmp_path: Path) -> None:
    """A created file has no content and no rights for others, and a child process gets none."""
    fd = durable.create_exclusive(tmp_path, "a")
    status = os.fstat(fd)

    assert (status.st_size, stat.S_IMODE(status.st_mode)) == (0, 0o600)
    assert not os.get_inheritable(fd)
    os.close(fd)


def test_creating_is_exclusive(tmp_path: Path) -> None:
    """A name that is taken is not opened, and its file stays as it is."""
    (tmp_path / "a").write_bytes(b"old")

    with pytest.raises(FileExistsError):
        durable.create_exclusive(tmp_path, "a")
    assert (tmp_path / "a").read_bytes() == b"old"


def test_creating_follows_no_link(tmp_path: Path) -> None:
    """A dangling symbolic link does not lead the new file elsewhere."""
    (tmp_path / "a").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(FileExistsError):
        durable.create_exclusive(tmp_path, "a")
    assert names(tmp_path) == ["a"]


def test_creating_by_descriptor(tmp_path: Path) -> None:
    """A directory can be given by its open descriptor."""
    directory = os.open(tmp_path, os.O_RDONLY)
    os.close(durable.create_exclusive(directory, "a"))
    os.close(directory)

    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a"])
def test_a_path_is_no_name(tmp_path: Path, name: str) -> None:
    """What is not one component of a path could leave the directory."""
    with pytest.raises(ValueError, match="component"):
        durable.create_exclusive(tmp_path, name)


def test_preallocated_space_is_not_content(tmp_path: Path) -> None:
    """Space is taken from the disk, and the size stays 0 until something is written."""
    fd = durable.create_exclusive(tmp_path, "a", preallocate_bytes=MIB)
    status = os.fstat(fd)
    os.close(fd)

    assert status.st_size == 0
    assert status.st_blocks * 512 >= MIB


def test_space_that_is_not_there_leaves_no_file(tmp_path: Path) -> None:
    """When the space cannot be had, the caller learns it now, and no file stays behind."""
    with pytest.raises(OSError, match=rf"Errno ({errno.EFBIG}|{errno.ENOSPC})\b"):
        durable.create_exclusive(tmp_path, "a", preallocate_bytes=(1 << 63) - 1)

    assert not names(tmp_path)


def test_asking_for_too_much_takes_nothing_from_others(tmp_path: Path) -> None:
    """A request that cannot be met is refused before the file system has handed out a block."""
    space = os.statvfs(tmp_path)
    fd = durable.create_exclusive(tmp_path, "a")
    try:
        with pytest.raises(OSError, match=rf"Errno {errno.ENOSPC}\b"):
            durable.extend_reservation(fd, (space.f_bavail + space.f_blocks) * space.f_frsize)
        assert os.fstat(fd).st_blocks == 0
    finally:
        os.close(fd)


def test_a_short_write_is_no_success(tmp_path: Path) -> None:
    """When the kernel takes only a part, the rest is written too, or the error is told."""
    done = subprocess.run(
        [sys.executable, "-c", HALF_A_WRITE, str(tmp_path / "a")],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )

    assert done.stdout.split() == [str(int(errno.EFBIG)), "4096"]


@given(data=st.binary(max_size=1 << 12))
def test_all_is_written(data: bytes) -> None:
    """What was written is what was given, whatever its length."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        durable.write_all(ours.fileno(), memoryview(data))
        ours.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: theirs.recv(1 << 16), b""))

    assert received == data


def test_a_full_disk_is_told() -> None:
    """Writing to a full disk raises its error as it is."""
    fd = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OSError, match=rf"Errno {errno.ENOSPC}\b"):
        durable.write_all(fd, b"x")
    os.close(fd)


def test_a_failed_sync_is_told() -> None:
    """A sync that the file cannot do raises its error as it is."""
    reading, writing = os.pipe()
    with pytest.raises(OSError, match=rf"Errno {errno.EINVAL}\b"):
        durable.sync_file(writing)
    os.close(reading)
    os.close(writing)


def test_only_a_directory_is_synced_as_one(tmp_path: Path) -> None:
    """Syncing the names of a file is a mistake that is told."""
    (tmp_path / "a").touch()
    durable.sync_directory(tmp_path)

    with pytest.raises(NotADirectoryError):
        durable.sync_directory(tmp_path / "a")


@pytest.mark.parametrize("folder", [".", "other"])
def test_renaming(tmp_path: Path, folder: str) -> None:
    """A file gets its new name, in the same directory or another."""
    (tmp_path / "other").mkdir()
    (tmp_path / "a").write_bytes(b"new")
    durable.rename_no_replace(tmp_path / "a", tmp_path / folder / "b")

    assert (tmp_path / folder / "b").read_bytes() == b"new"
    assert not (tmp_path / "a").exists()


def test_renaming_replaces_no_file(tmp_path: Path) -> None:
    """When the new name is taken, both files stay as they are."""
    (tmp_path / "a").write_bytes(b"new")
    (tmp_path / "b").write_bytes(b"old")

    with pytest.raises(FileExistsError) as caught:
        durable.rename_no_replace(tmp_path / "a", tmp_path / "b")
    assert (caught.value.filename, caught.value.filename2) == (
        str(tmp_path / "a"),
        str(tmp_path / "b"),
    )
    assert (tmp_path / "a").read_bytes() == b"new"
    assert (tmp_path / "b").read_bytes() == b"old"


def test_renaming_replaces_no_empty_directory(tmp_path: Path) -> None:
    """rename(2) would replace an empty directory; a bag is never put over one."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    with pytest.raises(FileExistsError):
        durable.rename_no_replace(tmp_path / "a", tmp_path / "b")


def test_renaming_a_directory(tmp_path: Path) -> None:
    """A directory moves with what is in it."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x").write_bytes(b"x")
    durable.rename_no_replace(tmp_path / "a", tmp_path / "b")

    assert (tmp_path / "b/x").read_bytes() == b"x"
    assert names(tmp_path) == ["b"]


def test_renaming_nothing(tmp_path: Path) -> None:
    """A source that is not there is told as such."""
    with pytest.raises(FileNotFoundError):
        durable.rename_no_replace(tmp_path / "a", tmp_path / "b")


def test_renaming_into_itself(tmp_path: Path) -> None:
    """A directory that cannot be renamed stays where it is, and nothing is linked instead."""
    (tmp_path / "a").mkdir()

    with pytest.raises(OSError, match=rf"Errno {errno.EINVAL}\b"):
        durable.rename_no_replace(tmp_path / "a", tmp_path / "a/b")
    assert names(tmp_path) == ["a"]


def test_linking_instead_of_renaming(tmp_path: Path) -> None:
    """Where the file system cannot rename exclusively, a hard link does the same for a file."""
    (tmp_path / "a").write_bytes(b"new")
    _link_and_unlink(tmp_path / "a", tmp_path / "b")

    assert names(tmp_path) == ["b"]
    assert (tmp_path / "b").read_bytes() == b"new"


def test_linking_replaces_nothing(tmp_path: Path) -> None:
    """The way around keeps the promise too."""
    (tmp_path / "a").write_bytes(b"new")
    (tmp_path / "b").write_bytes(b"old")

    with pytest.raises(FileExistsError):
        _link_and_unlink(tmp_path / "a", tmp_path / "b")
    assert [(tmp_path / name).read_bytes() for name in ("a", "b")] == [b"new", b"old"]


def test_a_small_file_is_written_whole(tmp_path: Path) -> None:
    """A file that is written at once leaves nothing beside it."""
    durable.write_file(tmp_path / "a", b"content", mode=0o640)

    assert (tmp_path / "a").read_bytes() == b"content"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    assert names(tmp_path) == ["a"]


def test_an_empty_file_is_written(tmp_path: Path) -> None:
    """No content is content too."""
    durable.write_file(tmp_path / "a", b"")

    assert (tmp_path / "a").read_bytes() == b""


def test_a_small_file_replaces_nothing(tmp_path: Path) -> None:
    """A file that exists stays as it is, and nothing is left beside it."""
    (tmp_path / "a").write_bytes(b"old")

    with pytest.raises(FileExistsError):
        durable.write_file(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_a_small_file_is_replaced(tmp_path: Path) -> None:
    """Replacing works with and without an old file, which readers keep whole."""
    durable.replace_file(tmp_path / "a", b"old")
    with (tmp_path / "a").open("rb") as reader:
        durable.replace_file(tmp_path / "a", b"new")
        assert reader.read() == b"old"

    assert (tmp_path / "a").read_bytes() == b"new"
    assert names(tmp_path) == ["a"]


def test_a_file_that_cannot_be_replaced_leaves_nothing(tmp_path: Path) -> None:
    """When the last step fails, the half-made file goes."""
    (tmp_path / "a").mkdir()

    with pytest.raises(IsADirectoryError):
        durable.replace_file(tmp_path / "a", b"new")
    assert names(tmp_path) == ["a"]


def test_directories_are_made(tmp_path: Path) -> None:
    """All that is missing is made, with no rights for others; again does nothing."""
    for _ in range(2):
        durable.make_directories(tmp_path / "a/b/c")

    assert (tmp_path / "a/b/c").is_dir()
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")} == {0o700}


def test_a_relative_directory_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path may be relative to where the process stands."""
    monkeypatch.chdir(tmp_path)
    durable.make_directories(Path("a/b"))

    assert (tmp_path / "a/b").is_dir()


@pytest.mark.parametrize("path", ["a", "a/b"])
def test_a_file_is_no_directory(tmp_path: Path, path: str) -> None:
    """What is in the way is not replaced."""
    (tmp_path / "a").write_bytes(b"old")

    with pytest.raises(FileExistsError):
        durable.make_directories(tmp_path / path)
    assert (tmp_path / "a").read_bytes() == b"old"
