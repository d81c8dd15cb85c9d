"""Disks of this machine's kernel that are files; only root may have them."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from edge_agent.adapters.usb_tree import BlockDevice

_PATH = {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}


def ext4_image(image: Path, content: Path, *, size_bytes: int = 16 << 20) -> Path:
    """Make a file system that holds what is in a folder."""
    with image.open("wb") as file:
        file.truncate(size_bytes)
    run("mkfs.ext4", "-q", "-F", "-L", "DSJ", "-d", str(content), str(image))
    return image


def fat_image(image: Path, *, size_bytes: int = 16 << 20) -> Path:
    """Make an empty file system of a kind that this kernel may not have."""
    with image.open("wb") as file:
        file.truncate(size_bytes)
    run("mkfs.vfat", str(image))
    return image


@contextlib.contextmanager
def loop_disk(image: Path) -> Iterator[BlockDevice]:
    """Let the kernel have a file as a disk."""
    node = run("losetup", "--find", "--show", str(image)).strip()
    try:
        found = Path(node).stat()
        yield BlockDevice(
            name=Path(node).name,
            number=(os.major(found.st_rdev), os.minor(found.st_rdev)),
            size_bytes=image.stat().st_size,
        )
    finally:
        # The device is used again by whoever wants a disk next: it stays as it was set.
        run("blockdev", "--setrw", node)
        run("losetup", "--detach", node)


def run(*command: str) -> str:
    """Run a stock tool of the system; return what it says."""
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=_PATH)
    return done.stdout
