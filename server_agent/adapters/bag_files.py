"""The files of one bag on the disk: listed and opened without ever leaving its folder."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Final

from protocol.digest import Digests, StreamDigest
from runtime.reading import read_chunks
from server_agent.archive.verification import Found

# A manifest has 2,000 files at most; beyond this nobody looks, so that a bag cannot tire us out.
_MAX_ENTRIES: Final = 10_000
_MAX_DEPTH: Final = 8

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Not to wait for a writer, should somebody put a pipe in the place of a file.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def list_bag(bag_fd: int) -> Found:
    """Return everything below an open folder; links are listed, never followed.

    Raises:
        OSError: Our disk failed, or we may not look.
    """
    listing = _Listing()
    listing.add(bag_fd, prefix="", depth=1)
    return Found(
        sizes_bytes=listing.sizes_bytes, irregular=listing.irregular, cut_short=listing.cut_short
    )


def open_inside(bag_fd: int, path: str) -> int:
    """Open a regular file of a bag for reading.

    Args:
        bag_fd: The bag's folder.
        path: As `list_bag` found it.

    Returns:
        A descriptor that the caller closes.

    Raises:
        OSError: It is no longer there, a component has become a link, or our disk failed.
    """
    *folders, name = PurePosixPath(path).parts
    folder_fd = os.dup(bag_fd)
    try:
        for folder in folders:
            inner_fd = os.open(folder, _FOLDER, dir_fd=folder_fd)
            os.close(folder_fd)
            folder_fd = inner_fd
        fd = os.open(name, _FILE, dir_fd=folder_fd)
    finally:
        os.close(folder_fd)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return fd


def digest_file(
    fd: int, *, with_sm3: bool = False, on_chunk: Callable[[int], None] | None = None
) -> Digests:
    """Return the digests of an open file, from where it stands to its end.

    Args:
        fd: Open for reading.
        with_sm3: Whether to compute SM3 as well.
        on_chunk: Called with the size of each piece that was read, in bytes.

    Raises:
        OSError: Our disk failed.
    """
    stream = StreamDigest(with_sm3=with_sm3)
    for chunk in read_chunks(fd):
        stream.update(chunk)
        if on_chunk is not None:
            on_chunk(len(chunk))
    return stream.digests()


class _Listing:
    def __init__(self) -> None:
        self.sizes_bytes: dict[str, int] = {}
        self.irregular: dict[str, str] = {}
        self.cut_short = False
        self._entries = 0

    def add(self, folder_fd: int, *, prefix: str, depth: int) -> None:
        with os.scandir(folder_fd) as entries:
            for entry in entries:
                self._entries += 1
                if self._entries > _MAX_ENTRIES:
                    self.cut_short = True
                    return
                self._add_entry(entry, folder_fd, prefix + entry.name, depth)

    def _add_entry(self, entry: os.DirEntry[str], folder_fd: int, path: str, depth: int) -> None:
        if entry.is_dir(follow_symlinks=False):
            if depth == _MAX_DEPTH:
                self.irregular[path] = "a folder nested too deeply"
                return
            inner_fd = os.open(entry.name, _FOLDER, dir_fd=folder_fd)
            try:
                self.add(inner_fd, prefix=f"{path}/", depth=depth + 1)
            finally:
                os.close(inner_fd)
        elif entry.is_file(follow_symlinks=False):
            self.sizes_bytes[path] = entry.stat(follow_symlinks=False).st_size
        else:
            self.irregular[path] = "a link" if entry.is_symlink() else "no regular file"
