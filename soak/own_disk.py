"""Disks for a while: one that is small enough to fill, and one that has room for endless zeros."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_TIMEOUT_S: Final = 120
_FILLER: Final = "filler"
_ZRAM: Final = Path("/sys/class/zram-control")


class SmallDisk:
    """A mounted disk; from `small_disk`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def fill(self, *, leave_bytes: int) -> None:
        """Take all room but *leave_bytes*, if there is more."""
        facts = os.statvfs(self._root)
        take_bytes = facts.f_bavail * facts.f_frsize - leave_bytes
        if take_bytes <= 0:
            return
        with (self._root / _FILLER).open("ab") as filler, contextlib.suppress(OSError):
            # Somebody else may have been faster; then it is as full as it gets.
            os.posix_fallocate(filler.fileno(), filler.tell(), take_bytes)

    def free(self) -> None:
        """Give the room back."""
        (self._root / _FILLER).unlink(missing_ok=True)


def unmount_below(folder: Path) -> None:
    """Unmount what a run that was killed left mounted somewhere below *folder*.

    Raises:
        OSError: The kernel does not let us.
    """
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    for target in (Path(line.split()[1].encode().decode("unicode_escape")) for line in mounts):
        if target.is_relative_to(folder.resolve()):
            _run("umount", "--lazy", str(target))


@contextlib.contextmanager
def small_disk(folder: Path, *, size_bytes: int) -> Iterator[SmallDisk]:
    """Mount a new disk at *folder* for the length of the block. Only root may.

    Raises:
        OSError: The kernel or the tools do not let us.
    """
    folder.mkdir(parents=True, exist_ok=True)
    image = folder.with_name(f"{folder.name}.ext4")
    with image.open("wb") as opened:
        opened.truncate(size_bytes)
    _run("mkfs.ext4", "-q", "-m", "0", "-F", str(image))
    _run("mount", "-o", "loop", str(image), str(folder))
    try:
        yield SmallDisk(folder)
    finally:
        _run("umount", "--lazy", str(folder))
        image.unlink()


@contextlib.contextmanager
def zeros_disk(folder: Path, *, size_bytes: int) -> Iterator[None]:
    """Mount a disk in memory at *folder* on which pages of zeros take next to none. Only root may.

    Raises:
        OSError: The kernel (zram) or the tools do not let us.
    """
    folder.mkdir(parents=True, exist_ok=True)
    number = int((_ZRAM / "hot_add").read_text())
    device = f"/dev/zram{number}"
    try:
        Path(f"/sys/block/zram{number}/disksize").write_text(str(size_bytes))
        _run("mkfs.ext4", "-q", "-m", "0", "-E", "nodiscard", device)
        _run("mount", device, str(folder))
        try:
            yield
        finally:
            _run("umount", str(folder))
    finally:
        (_ZRAM / "hot_remove").write_text(str(number))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
