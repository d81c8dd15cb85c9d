"""Block devices and mounts, by the kernel's own calls; blocking, and for root alone."""

import contextlib
import ctypes
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edge_agent.adapters.usb_tree import BlockDevice
from edge_agent.mounting.errors import (
    EraseFailedError,
    MountRefusedError,
    NoDiskError,
    NotReadOnlyError,
    StrangeDeviceError,
)

# <linux/fs.h>, <sys/mount.h>
_BLKROSET: Final = 0x125D
_BLKROGET: Final = 0x125E
_BLKFLSBUF: Final = 0x1261
_MNT_DETACH: Final = 2

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.mount.argtypes = (
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
)
_LIBC.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_LIBC.syncfs.argtypes = (ctypes.c_int,)


@contextlib.contextmanager
def open_read_only(device: BlockDevice, folder: Path = Path("/dev")) -> Iterator[int]:
    """Open a device that nobody can write to from here on, until it leaves.

    Args:
        device: As the kernel lists it.
        folder: Where device nodes stand.

    Raises:
        NoDiskError: It is gone, or holds no medium.
        StrangeDeviceError: Something else stands under its name.
        NotReadOnlyError: It does not become read-only.
    """
    path = folder / device.name
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise NoDiskError(f"{path}: {error.strerror}") from error
    try:
        found = os.fstat(fd)
        is_it = stat.S_ISBLK(found.st_mode) and (
            (os.major(found.st_rdev), os.minor(found.st_rdev)) == device.number
        )
        if not is_it:
            raise StrangeDeviceError(f"{path} is not the block device {device.number}")
        set_read_only(fd)
        yield fd
    finally:
        os.close(fd)


def refuse_used(device: BlockDevice, folder: Path = Path("/dev")) -> None:
    """Return if no file system of a device is mounted by anybody.

    Raises:
        EraseFailedError: One is, or the device cannot be asked.
    """
    try:
        # open(2): with O_EXCL a block device that is in use by the system is refused.
        fd = os.open(folder / device.name, os.O_RDONLY | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise EraseFailedError(f"{device.name} is in use: {error.strerror}") from error
    os.close(fd)


def read_head(fd: int, size_bytes: int) -> bytes:
    """Return the first bytes of a device, less where it ends before.

    Raises:
        MountRefusedError: It cannot be read.
    """
    try:
        return os.pread(fd, size_bytes, 0)
    except OSError as error:
        raise MountRefusedError(f"its first bytes cannot be read: {error.strerror}") from error


def mount(fd: int, target: Path, *, kind: str, flags: int, options: str) -> None:
    """Mount the block device that *fd* is.

    Raises:
        MountRefusedError: The kernel did not; OSError's words.
    """
    source = f"/proc/self/fd/{fd}"  # the very device that was looked at
    words = (source.encode(), os.fsencode(target), kind.encode(), flags, options.encode())
    if _LIBC.mount(*words) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise MountRefusedError(f"{kind}: {reason}")


def detach(target: Path) -> bool:
    """Take a mount away, at once and whoever uses it; False if nothing was mounted there."""
    return bool(_LIBC.umount2(os.fsencode(target), _MNT_DETACH) == 0)


def unmount(target: Path) -> None:
    """Take a mount away that nobody uses.

    Raises:
        EraseFailedError: Somebody does.
    """
    if _LIBC.umount2(os.fsencode(target), 0) != 0:
        raise EraseFailedError(f"it cannot be unmounted: {os.strerror(ctypes.get_errno())}")


def sync_file_system(root_fd: int) -> None:
    """Return when all that was written to a file system is on its device.

    Raises:
        EraseFailedError: Something of it may not be.
    """
    if _LIBC.syncfs(root_fd) != 0:
        raise EraseFailedError(f"it is not on the disk: {os.strerror(ctypes.get_errno())}")


def forget_cached(fd: int) -> None:
    """Have the kernel read a block device anew that it has read before.

    Raises:
        EraseFailedError: The device failed.
    """
    try:
        os.fsync(fd)
        fcntl.ioctl(fd, _BLKFLSBUF, 0)
    except OSError as error:
        raise EraseFailedError(f"the disk: {error.strerror}") from error


def set_read_only(fd: int) -> None:
    """Have nobody write to a block device from here on.

    Raises:
        NotReadOnlyError: It does not become read-only.
    """
    if not _set_write_protection(fd, wanted=1):
        raise NotReadOnlyError("it can still be written to")


def set_writable(fd: int) -> None:
    """Let a block device be written to.

    Raises:
        NotReadOnlyError: The kernel failed.
        EraseFailedError: It has a write protection of its own.
    """
    if not _set_write_protection(fd, wanted=0):
        raise EraseFailedError("the disk is write-protected by itself")


def _set_write_protection(fd: int, *, wanted: int) -> bool:
    try:
        fcntl.ioctl(fd, _BLKROSET, struct.pack("i", wanted))
        answer = fcntl.ioctl(fd, _BLKROGET, struct.pack("i", 0))
    except OSError as error:
        raise NotReadOnlyError(str(error.strerror)) from error
    return bool(struct.unpack("i", answer)[0] == wanted)
