"""Files that survive a power cut: create, write, sync, rename without replace.

Every function here is blocking: call it in a thread. An `OSError` is our own disk's and is passed
on as it is. After a failed sync the page cache calls the lost pages clean, so a second sync would
succeed without having written anything: never sync that file again, copy its content anew into
another file (Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC '20).
"""

import contextlib
import ctypes
import errno
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

# linux/falloc.h, linux/fcntl.h, linux/fs.h
_FALLOC_FL_KEEP_SIZE: Final = 0x01
_AT_FDCWD: Final = -100
_RENAME_NOREPLACE: Final = 1
_SYNC_FILE_RANGE_WRITE: Final = 2
_BLOCK_BYTES: Final = 512  # of st_blocks, stat(2)

_CANNOT_PREALLOCATE: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS})
_CANNOT_RENAME_EXCLUSIVELY: Final = frozenset({errno.EINVAL, errno.ENOSYS})

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.fallocate64.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_libc.sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
_libc.renameat2.argtypes = [
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_uint,
]


def create_exclusive(
    directory: Path | int, name: str, *, preallocate_bytes: int | None = None, mode: int = 0o600
) -> int:
    """Create an empty file that did not exist, and open it for writing.

    Args:
        directory: Its path, or an open descriptor of it.
        name: One path component.
        preallocate_bytes: Reserve this much space at once, so that a full disk shows now. The size
            of the file stays 0; a file system that cannot reserve is let off.
        mode: Permission bits, less the umask.

    Returns:
        A descriptor that the caller closes. Neither the file nor its name is durable yet.

    Raises:
        FileExistsError: The name is taken, be it by a dangling link.
        OSError: Our disk failed; with ENOSPC the space is not there. Nothing was left behind.
    """
    if name in {"", ".", ".."} or "/" in name:
        raise ValueError(f"not one path component: {name!r}")
    dir_fd = directory if isinstance(directory, int) else None
    path = name if isinstance(directory, int) else directory / name
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(path, flags, mode, dir_fd=dir_fd)
    if preallocate_bytes:
        try:
            _preallocate(fd, preallocate_bytes)
        except BaseException:
            os.close(fd)
            os.unlink(path, dir_fd=dir_fd)
            raise
    return fd


def extend_reservation(fd: int, size_bytes: int) -> None:
    """Set room aside so that an open file can have *size_bytes*; its length stays.

    Where the file system cannot, nothing is set aside. `os.ftruncate` to the file's own length
    gives unused room back.

    Raises:
        OSError: Our disk failed; with ENOSPC the room is not there.
    """
    _preallocate(fd, size_bytes)


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write the whole of *data*, however little the disk takes at a time.

    Raises:
        OSError: Our disk failed; how much was written is unknown.
    """
    rest = memoryview(data).cast("B")
    while rest:
        written = os.write(fd, rest)
        if written == 0:
            raise OSError(errno.EIO, "write made no progress")
        rest = rest[written:]


def begin_writing(fd: int) -> None:
    """Let the kernel begin to write what an open file holds, without waiting; promises nothing.

    Many files that are synced afterwards share what the first sync does.
    """
    _libc.sync_file_range(fd, 0, 0, _SYNC_FILE_RANGE_WRITE)


def sync_file(fd: int) -> None:
    """Make the content and the size of an open file durable; its name is another matter.

    Raises:
        OSError: The content is lost. Never call this again for the same file: see above.
    """
    os.fdatasync(fd)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable.

    Raises:
        OSError: Our disk failed; which names survive is unknown.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def rename_no_replace(src: Path, dst: Path) -> None:
    """Give *src* the name *dst*, durably, unless that name is taken.

    Where the file system cannot rename exclusively, a file gets its new name as a hard link first:
    a power cut may then leave both names, never none and never a replaced file.

    Raises:
        FileExistsError: *dst* exists; nothing was changed.
        OSError: Our disk failed, or a directory cannot be renamed exclusively on it. Once the
            rename is done, an error means that which of the two names survives is unknown.
    """
    rename_all_no_replace([(src, dst)])


def rename_all_no_replace(names: Sequence[tuple[Path, Path]]) -> None:
    """Rename many files, then sync each of their directories once.

    Raises:
        FileExistsError: A new name is taken; those before it were renamed, and may not be durable.
        OSError: As `rename_no_replace`; which of the names survive is unknown.
    """
    for src, dst in names:
        code = _rename_exclusively(src, dst)
        if code in _CANNOT_RENAME_EXCLUSIVELY and not src.is_dir():
            _link_and_unlink(src, dst)
        elif code:
            raise OSError(code, os.strerror(code), str(src), None, str(dst))
    # New names first: a name too many is found at the next start, one too few is a lost file.
    for directory in dict.fromkeys(
        [*(dst.parent for _, dst in names), *(src.parent for src, _ in names)]
    ):
        sync_directory(directory)


def write_file(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Create a small file durably: after a power cut it is there whole, or not at all.

    Raises:
        FileExistsError: *path* exists, and was left alone.
        OSError: Our disk failed.
    """
    with _written_beside(path, data, mode=mode) as partial:
        rename_no_replace(partial, path)


def replace_file(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Create or replace a small file durably: after a power cut it is the old one or the new one.

    Raises:
        OSError: Our disk failed; once the rename is done, which of the two is there is unknown.
    """
    with _written_beside(path, data, mode=mode) as partial:
        partial.replace(path)
        sync_directory(path.parent)


def make_directories(path: Path, *, mode: int = 0o700) -> None:
    """Create a directory and its missing parents, durably; one that exists is left as it is.

    Raises:
        FileExistsError: One of them is no directory.
        OSError: Our disk failed.
    """
    missing = [path]
    while not missing[-1].is_dir():
        missing.append(missing[-1].parent)
    existing = missing.pop()
    # An earlier run may have stopped between creating this one and syncing its name. A parent that
    # we may not even read is not one that we created a directory in.
    with contextlib.suppress(PermissionError):
        sync_directory(existing.parent)
    for directory in reversed(missing):
        try:
            directory.mkdir(mode)
        except FileExistsError:
            if not directory.is_dir():
                raise
        sync_directory(directory.parent)


@contextlib.contextmanager
def _written_beside(path: Path, data: bytes, *, mode: int) -> Iterator[Path]:
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    fd = create_exclusive(partial.parent, partial.name, preallocate_bytes=len(data), mode=mode)
    try:
        try:
            write_all(fd, data)
            sync_file(fd)
        finally:
            os.close(fd)
        yield partial
    except BaseException:
        # What is reported is the first error; a partial file left behind harms nobody.
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def _preallocate(fd: int, size_bytes: int) -> None:
    # ext4 takes all that is left before it says ENOSPC: for that moment nobody else could write.
    space = os.fstatvfs(fd)
    lacking_bytes = size_bytes - os.fstat(fd).st_blocks * _BLOCK_BYTES
    if space.f_blocks and lacking_bytes > space.f_bavail * space.f_frsize:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    while _libc.fallocate64(fd, _FALLOC_FL_KEEP_SIZE, 0, size_bytes) != 0:
        code = ctypes.get_errno()
        if code in _CANNOT_PREALLOCATE:
            return
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))


def _rename_exclusively(src: Path, dst: Path) -> int:
    """Return 0, or the errno that renameat2(2) gave."""
    done = _libc.renameat2(
        _AT_FDCWD, os.fsencode(src), _AT_FDCWD, os.fsencode(dst), _RENAME_NOREPLACE
    )
    return 0 if done == 0 else ctypes.get_errno()


def _link_and_unlink(src: Path, dst: Path) -> None:
    os.link(src, dst, follow_symlinks=False)
    sync_directory(dst.parent)
    src.unlink()
