"""Reading and writing whole blocks of our own disk, past the page cache where that can be had.

A copy of footage is read once more and then not again for hours: in the page cache it only drives
out what others need, and costs the processor twice as much as the disk's own work.

Every function here is blocking. An `OSError` is our own disk's and is passed on as it is.
"""

import contextlib
import errno
import fcntl
import math
import mmap
import os
import secrets
import time
from dataclasses import dataclass
from enum import Enum, unique
from pathlib import Path
from typing import Final

from runtime import durable
from runtime.eviction import evict

# What O_DIRECT asks of offsets, sizes and memory: no disk that we know has larger blocks.
ALIGNMENT_BYTES: Final = 4096
# Smaller ones leave a fast disk idle between two calls; larger ones take more memory than they save
# time, with many bays.
BLOCK_BYTES: Final = 1024 * 1024

_RWF_DONTCACHE: Final = 0x80  # linux/fs.h, since Linux 6.14
_UNAVAILABLE: Final = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS})
_PROBE_BYTES: Final = 16 * 1024 * 1024


@unique
class DiskMode(Enum):
    """How blocks come to and from a disk."""

    DIRECT = "direct"
    DONTCACHE = "dontcache"
    BUFFERED = "buffered"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeFigure:
    """What one mode did on one disk: write, sync and read back.

    Attributes:
        seconds: By the clock; None if the mode cannot be had there.
        cpu_s: Of this thread.
    """

    mode: DiskMode
    size_bytes: int
    seconds: float | None = None
    cpu_s: float = 0.0

    @property
    def cost_s(self) -> float:
        """What to compare: a second of the processor is missing elsewhere, as one of waiting is."""
        return math.inf if self.seconds is None else self.seconds + self.cpu_s


def new_block() -> mmap.mmap:
    """Return memory for one block, aligned as O_DIRECT wants it."""
    return mmap.mmap(-1, BLOCK_BYTES)


def set_mode(fd: int, mode: DiskMode) -> None:
    """Make an open file take whole, aligned blocks in *mode*.

    Raises:
        OSError: With EINVAL: the file system has no such mode.
    """
    if mode is DiskMode.DIRECT:
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_DIRECT)


def write_block(fd: int, block: memoryview, offset_bytes: int, mode: DiskMode) -> None:
    """Write the whole of *block*, however little the disk takes at a time.

    Args:
        fd: Open for writing, in *mode*.
        block: In DIRECT mode aligned: its memory, its size and *offset_bytes*.
        offset_bytes: Where in the file.
        mode: As `set_mode` was told.

    Raises:
        OSError: Our disk failed; how much was written is unknown.
    """
    flags = _RWF_DONTCACHE if mode is DiskMode.DONTCACHE else 0
    while block:
        written = os.pwritev(fd, [block], offset_bytes, flags)
        if written == 0:
            raise OSError(errno.EIO, "write made no progress")
        block = block[written:]
        offset_bytes += written


def read_block(fd: int, block: memoryview, offset_bytes: int, mode: DiskMode) -> int:
    """Fill *block* from a file as far as it goes; return how many bytes, 0 at its end.

    Raises:
        OSError: Our disk failed.
    """
    return os.preadv(fd, [block], offset_bytes, _RWF_DONTCACHE if mode is DiskMode.DONTCACHE else 0)


def measure_modes(folder: Path, *, size_bytes: int = _PROBE_BYTES) -> tuple[ModeFigure, ...]:
    """Try each mode on the disk of a folder, with a file that is gone afterwards; cheapest first.

    Raises:
        OSError: Our disk failed; with ENOSPC there is no room to measure.
    """
    # Twice, and the better one counts: the first meets a cold disk, and others use it meanwhile.
    tries = [_try(folder, mode, size_bytes) for _ in range(2) for mode in DiskMode]
    best: dict[DiskMode, ModeFigure] = {}
    for figure in sorted(tries, key=lambda one: one.cost_s):
        best.setdefault(figure.mode, figure)
    return tuple(best.values())


def _try(folder: Path, mode: DiskMode, size_bytes: int) -> ModeFigure:
    path = folder / f".{mode.value}.{secrets.token_hex(8)}.probe"
    with contextlib.ExitStack() as stack:
        writing = durable.create_exclusive(folder, path.name, preallocate_bytes=size_bytes)
        stack.callback(os.close, writing)
        try:
            try:
                reading = open_for_reading(path, mode)
            finally:
                path.unlink()  # nobody has to clear it away, whatever ends us
            stack.callback(os.close, reading)
            memory = stack.enter_context(contextlib.closing(new_block()))
            block = stack.enter_context(memoryview(memory))
            began_s, cpu_s = time.perf_counter(), time.thread_time()
            _write_and_read(writing, reading, block, mode, size_bytes)
        except OSError as error:
            if error.errno in _UNAVAILABLE:
                return ModeFigure(mode=mode, size_bytes=size_bytes)
            raise
        return ModeFigure(
            mode=mode,
            size_bytes=size_bytes,
            seconds=time.perf_counter() - began_s,
            cpu_s=time.thread_time() - cpu_s,
        )


def _write_and_read(
    writing: int, reading: int, block: memoryview, mode: DiskMode, size: int
) -> None:
    """Whole blocks, and one that is as short as a file's end may be."""
    set_mode(writing, mode)
    offsets = range(0, size, BLOCK_BYTES)
    for offset_bytes in offsets:
        write_block(writing, block, offset_bytes, mode)
    with block[:ALIGNMENT_BYTES] as tail:
        write_block(writing, tail, size, mode)
    durable.sync_file(writing)
    evict(writing, size_bytes=size + ALIGNMENT_BYTES)
    for offset_bytes in (*offsets, size):
        read_block(reading, block, offset_bytes, mode)


def open_for_reading(path: Path, mode: DiskMode) -> int:
    """Open a file for `read_block`; the caller closes the descriptor.

    Raises:
        OSError: Our disk failed, or the file system has no such mode.
    """
    direct = os.O_DIRECT if mode is DiskMode.DIRECT else 0
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | direct)
