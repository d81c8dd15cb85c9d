"""A folder that stands for a recorder's volume.

Nothing outside the folder is ever read: each component of a path is opened relative to the one
before, without following links. Every call blocks.
"""

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from edge_agent.errors import SourceUnreadableError, SourceVanishedError
from edge_agent.ingest.volume import MAX_DEPTH, EntryKind, RawEntry, Stamp, clamp_mtime
from runtime.reading import CHUNK_BYTES, read_chunks

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Opening a pipe that took a file's place since the listing must not wait for a writer.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# What `RawEntry.node` is about.
_HAS_NODE: Final = frozenset({EntryKind.FILE, EntryKind.DIRECTORY})


class DirectoryVolume:
    """The volume; keeps the contract of `Volume`. To be used in one thread at a time."""

    def __init__(self, root_fd: int, root: Path, *, read_limit_bytes_s: int | None) -> None:
        self._root_fd = root_fd
        self._root = root
        self._pace = None if read_limit_bytes_s is None else _Pace(read_limit_bytes_s)
        self._identity = _identity(os.fstat(root_fd))

    @classmethod
    @contextlib.contextmanager
    def mount(
        cls, root: Path, *, read_limit_bytes_s: int | None = None
    ) -> Iterator["DirectoryVolume"]:
        """Open the folder; everything afterwards is about this very folder.

        Args:
            root: Not a link.
            read_limit_bytes_s: Read no faster than this, as a device would; None is no limit.

        Raises:
            SourceVanishedError: There is no such folder.
        """
        try:
            root_fd = os.open(root, _DIRECTORY)
        except OSError as error:
            raise SourceVanishedError(f"no volume: {error.strerror}") from error
        try:
            yield cls(root_fd, root, read_limit_bytes_s=read_limit_bytes_s)
        finally:
            os.close(root_fd)

    def entries(self) -> Iterator[RawEntry]:
        """List everything below the folder; folders, then what is in them."""
        folders = [b""]
        while folders:
            yield from self._list(folders.pop(), folders)
        self._check_docked()

    def read_small(self, path: bytes, *, max_bytes: int) -> bytes:
        """Return the whole of a small file."""
        with self.open(path) as file:
            if file.size_bytes > max_bytes:
                raise SourceUnreadableError(f"{path!r}: {file.size_bytes} bytes are not small")
            content = bytearray()
            for chunk in file.chunks(offset_bytes=0):
                content += chunk
                if len(content) > max_bytes:
                    raise SourceUnreadableError(f"{path!r}: more than {max_bytes} bytes")
        return bytes(content)

    @contextlib.contextmanager
    def open(self, path: bytes) -> Iterator["DirectoryFile"]:
        """Open a regular file."""
        self._check_docked()
        with self.reading(path):
            fd = open_below(self._root_fd, path, _FILE)
        try:
            with self.reading(path):
                found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise SourceUnreadableError(f"{path!r}: not a regular file")
            yield DirectoryFile(self, fd, path, found)
        finally:
            os.close(fd)

    def read_part(self, fd: int, path: bytes, *, offset_bytes: int, size_bytes: int) -> bytes:
        """Read a part of an open file, from the device where the kernel lets go."""
        self._check_docked()
        part = b""
        with self.reading(path):
            os.posix_fadvise(fd, offset_bytes, size_bytes, os.POSIX_FADV_DONTNEED)
            while more := os.pread(fd, size_bytes - len(part), offset_bytes + len(part)):
                part += more
        return part

    def read_on(self, fd: int, path: bytes) -> Iterator[memoryview]:
        """Read an open file from where it stands, at the volume's pace, while it is docked."""
        chunks = read_chunks(fd, chunk_bytes=self._pace.chunk_bytes if self._pace else CHUNK_BYTES)
        while True:
            self._check_docked()
            with self.reading(path):
                chunk = next(chunks, None)
            if chunk is None:
                return
            if self._pace:
                self._pace.wait_for(len(chunk))
            yield chunk

    def _list(self, folder: bytes, folders: list[bytes]) -> Iterator[RawEntry]:
        """List one folder, and put those that are in it on the pile; empty is the root."""
        prefix = folder and folder + b"/"
        inside: dict[bytes, None] = {}
        try:
            with contextlib.ExitStack() as stack:
                fd = open_below(self._root_fd, folder or b".", _DIRECTORY)
                stack.callback(os.close, fd)
                for found in stack.enter_context(os.scandir(fd)):
                    entry = _entry(found, prefix)
                    if entry.kind is EntryKind.DIRECTORY:
                        inside[entry.path] = None
                    elif entry.kind is EntryKind.UNREADABLE:
                        self._check_docked()
                    yield entry
        except OSError as error:
            self._check_docked()
            if not folder:
                raise SourceUnreadableError(f"the root folder: {error.strerror}") from error
            yield RawEntry(path=folder, kind=EntryKind.UNREADABLE_DIRECTORY)
        folders += inside

    @contextlib.contextmanager
    def reading(self, path: bytes) -> Iterator[None]:
        """Turn what the volume's system calls say into our words."""
        try:
            yield
        except OSError as error:
            # A device that is gone answers EIO, too.
            self._check_docked()
            raise SourceUnreadableError(f"{path!r}: {error.strerror}") from error

    def _check_docked(self) -> None:
        try:
            found = _identity(self._root.lstat())
        except OSError as error:
            raise SourceVanishedError(f"the volume is gone: {error.strerror}") from error
        if found != self._identity:
            raise SourceVanishedError("the volume is gone: another one is there now")


class DirectoryFile:
    """An open file of the volume; keeps the contract of `SourceFile`."""

    def __init__(
        self, volume: DirectoryVolume, fd: int, path: bytes, found: os.stat_result
    ) -> None:
        self._volume = volume
        self._fd = fd
        self._path = path
        self.size_bytes = found.st_size
        self.mtime_ns = clamp_mtime(found.st_mtime_ns)

    def stamp(self) -> Stamp:
        """Return size and times as they are now."""
        with self._volume.reading(self._path):
            found = os.fstat(self._fd)
        return Stamp(
            size_bytes=found.st_size,
            mtime_ns=clamp_mtime(found.st_mtime_ns),
            changed_ns=found.st_ctime_ns,
        )

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Return a small part."""
        return self._volume.read_part(
            self._fd, self._path, offset_bytes=offset_bytes, size_bytes=size_bytes
        )

    def chunks(self, *, offset_bytes: int) -> Iterator[memoryview]:
        """Read from *offset_bytes* to the end, from the device where the kernel lets go."""
        with self._volume.reading(self._path):
            os.lseek(self._fd, offset_bytes, os.SEEK_SET)
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return self._volume.read_on(self._fd, self._path)


class _Pace:
    """Holds reading back to a rate, over all files of a volume together."""

    def __init__(self, limit_bytes_s: int) -> None:
        self._limit_bytes_s = limit_bytes_s
        # Four chunks a second at least, so that a slow volume still shows progress.
        self.chunk_bytes = max(1, min(CHUNK_BYTES, limit_bytes_s // 4))
        self._free_at_s = time.monotonic()

    def wait_for(self, size_bytes: int) -> None:
        now_s = time.monotonic()
        self._free_at_s = max(self._free_at_s, now_s) + size_bytes / self._limit_bytes_s
        time.sleep(self._free_at_s - now_s)


def _entry(found: os.DirEntry[str], prefix: bytes) -> RawEntry:
    path = prefix + os.fsencode(found.name)
    try:
        facts = found.stat(follow_symlinks=False)
    except OSError:
        return RawEntry(path=path, kind=EntryKind.UNREADABLE)
    kinds = {stat.S_IFREG: EntryKind.FILE, stat.S_IFLNK: EntryKind.LINK}
    if stat.S_ISDIR(facts.st_mode):
        is_too_deep = path.count(b"/") + 1 >= MAX_DEPTH
        kind = EntryKind.TOO_DEEP if is_too_deep else EntryKind.DIRECTORY
    else:
        kind = kinds.get(stat.S_IFMT(facts.st_mode), EntryKind.SPECIAL)
    # A folder has no second name; its links are those of the folders in it.
    has_one_name = stat.S_ISDIR(facts.st_mode) or facts.st_nlink == 1
    return RawEntry(
        path=path,
        kind=kind,
        size_bytes=facts.st_size if kind is EntryKind.FILE else 0,
        mtime_ns=clamp_mtime(facts.st_mtime_ns),
        node=_identity(facts) if kind in _HAS_NODE and has_one_name else None,
    )


def open_below(root_fd: int, path: bytes, flags: int) -> int:
    """Open what is below a folder, following no link in any component.

    Raises:
        OSError: It is not there, or not what *flags* say.
    """
    *folders, name = path.split(b"/")
    if folders or name != b".":
        _check_components((*folders, name))
    fd = root_fd
    for component, how in (*((folder, _DIRECTORY) for folder in folders), (name, flags)):
        parent_fd, fd = fd, -1
        try:
            fd = os.open(component, how, dir_fd=parent_fd)
        finally:
            if parent_fd != root_fd:
                os.close(parent_fd)
    return fd


def _check_components(components: Sequence[bytes]) -> None:
    if not {b"", b".", b".."}.isdisjoint(components):
        raise OSError(errno.EINVAL, "not a path of the listing")


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
