"""Drop a file from the page cache, and prove that it is gone.

Reading a copy back proves something about the disk only if the bytes do not come from memory.
"""

import ctypes
import errno
import mmap
import os
from enum import Enum, unique
from typing import Final

# linux/magic.h. Only where the page cache stands directly on a block device do no cached pages
# mean that the next read asks the disk; tmpfs has no disk, overlay and FUSE have a second cache.
_ON_BLOCK_DEVICE: Final = frozenset(
    {
        0xEF53,  # ext2, ext3, ext4
        0x58465342,  # xfs
        0x9123683E,  # btrfs
        0xF2F52010,  # f2fs
    }
)
_SYS_CACHESTAT: Final = 451  # the same number on every architecture since Linux 6.5
_STATFS_BYTES: Final = 256  # more than struct statfs has anywhere; it begins with f_type
# Pages still on another processor's batch survive the first call, which flushes the batches.
_ATTEMPTS: Final = 3

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.mmap64.restype = ctypes.c_void_p
_libc.mmap64.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int64,
]
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_MAP_FAILED: Final = ctypes.c_void_p(-1).value


@unique
class Eviction(Enum):
    """What is known after asking the kernel to forget a file."""

    PROVED = "proved"
    UNPROVED = "unproved"


class _CachestatRange(ctypes.Structure):
    _fields_ = (("off", ctypes.c_uint64), ("len", ctypes.c_uint64))


class _Cachestat(ctypes.Structure):
    _fields_ = (
        ("nr_cache", ctypes.c_uint64),
        ("nr_dirty", ctypes.c_uint64),
        ("nr_writeback", ctypes.c_uint64),
        ("nr_evicted", ctypes.c_uint64),
        ("nr_recently_evicted", ctypes.c_uint64),
    )


def evict(fd: int, *, size_bytes: int) -> Eviction:
    """Drop a file from the page cache.

    Args:
        fd: Open in any mode. The file was synced after its last write: the kernel keeps what it
            has not written yet.
        size_bytes: The size of the file.

    Returns:
        PROVED only if the kernel shows no cached page of the file, on a file system whose next
        read then comes from the disk; UNPROVED when in doubt.

    Raises:
        OSError: Our disk failed.
    """
    if _file_system_type(fd) not in _ON_BLOCK_DEVICE:
        return Eviction.UNPROVED
    for _ in range(_ATTEMPTS):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        if cached_pages(fd, size_bytes) == 0:
            return Eviction.PROVED
    return Eviction.UNPROVED


def cached_pages(fd: int, size_bytes: int) -> int | None:
    """Return how many pages of the first *size_bytes* are in memory; None if nobody can say."""
    if size_bytes == 0:
        return 0
    counted = _Cachestat()
    window = _CachestatRange(off=0, len=size_bytes)
    done = _libc.syscall(
        ctypes.c_long(_SYS_CACHESTAT),
        ctypes.c_int(fd),
        ctypes.byref(window),
        ctypes.byref(counted),
        ctypes.c_uint(0),
    )
    if done == 0:
        return int(counted.nr_cache)
    # A sandbox that has never heard of the call answers EPERM.
    if ctypes.get_errno() in {errno.ENOSYS, errno.EPERM}:
        return _resident_pages(fd, size_bytes)
    return None


def _resident_pages(fd: int, size_bytes: int) -> int | None:
    """Count by mincore(2), as kernels before 6.5 can; mapping a file reads none of it."""
    try:
        readable = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        address = _libc.mmap64(None, size_bytes, mmap.PROT_READ, mmap.MAP_SHARED, readable, 0)
    finally:
        os.close(readable)
    if address == _MAP_FAILED:
        return None
    try:
        vector = ctypes.create_string_buffer(-(-size_bytes // mmap.PAGESIZE))
        if _libc.mincore(address, size_bytes, vector) != 0:
            return None
        return len(vector.raw) - vector.raw.count(0)
    finally:
        _libc.munmap(address, size_bytes)


def _file_system_type(fd: int) -> int:
    answer = ctypes.create_string_buffer(_STATFS_BYTES)
    if _libc.fstatfs(fd, answer) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return ctypes.c_ulong.from_buffer(answer).value & 0xFFFFFFFF
