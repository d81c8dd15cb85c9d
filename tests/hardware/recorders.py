"""Recorders as disk images: what is on them, and what must be in the archive afterwards."""

import hashlib
import os
import re
import subprocess
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from demo.site import Registered

ZONE = ZoneInfo("Asia/Shanghai")
_MORNING = datetime(2026, 11, 20, 8, 30, 0, tzinfo=ZONE)
_LENGTH = timedelta(seconds=12)
_TOOLS = {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin", "TZ": "Asia/Shanghai"}


@dataclass(frozen=True, slots=True, kw_only=True)
class UsbRecorder:
    """A recorder's footage in a folder, and the same on a disk.

    Attributes:
        digests: SHA-256 in hex of each clip, by its path.
    """

    registered: Registered
    folder: Path
    digests: dict[str, str]

    def image(self, path: Path, *, size_bytes: int = 160 << 20) -> Path:
        """Make a disk with one FAT32 that has the footage, as recorders format theirs."""
        _blank(path, size_bytes)
        _run("mkfs.vfat", "-F", "32", "-n", "DSJ", str(path))
        _run("mcopy", "-i", str(path), "-s", "-m", *map(str, self.folder.iterdir()), "::")
        return path

    def ext4_image(self, path: Path, *, size_bytes: int = 160 << 20) -> Path:
        """Make the same with an ext4."""
        _blank(path, size_bytes)
        _run("mkfs.ext4", "-q", "-F", "-d", str(self.folder), str(path))
        return path


def recorder(
    folder: Path, number: int, *, clips: int = 2, clip_bytes: int = 1 << 20
) -> UsbRecorder:
    """Make a recorder with one recording; its times have even seconds, as FAT's have."""
    serial, officer = f"{number:07d}", f"{number + 12_000:06d}"
    digests: dict[str, str] = {}
    for sequence in range(1, clips + 1):
        started = _MORNING + number * timedelta(hours=1) + (sequence - 1) * _LENGTH
        name = f"{officer}_{serial}_{started:%Y%m%d%H%M%S}_{sequence:04d}.MP4"
        content = hashlib.shake_128(name.encode()).digest(clip_bytes)
        path = folder / "DCIM/100MEDIA" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        ended_s = (started + _LENGTH).timestamp()
        os.utime(path, (ended_s, ended_s))
        digests[f"DCIM/100MEDIA/{name}"] = hashlib.sha256(content).hexdigest()
    registered = Registered(
        recorder_id=f"R-{number:04d}",
        make="DSJ",
        model="DSJ-A8",
        serial=serial,
        officer=officer,
        officer_name="张伟",
    )
    return UsbRecorder(registered=registered, folder=folder, digests=digests)


def hide_second_clip(image: Path) -> None:
    """Damage a FAT32 with two clips: their names differ by the case of a letter, no more.

    The last part of a long name is the third slot of 32 bytes, and stands first on the disk.
    """
    disk = bytearray(image.read_bytes())
    found = [one.start() for one in re.finditer(rb"C.{10}\x0f\0.{9}M\0P", disk, re.DOTALL)]
    first, second = (at for at in found if at % 32 == 0)
    checksum = disk[second + 13]
    disk[second : second + 32] = disk[first : first + 32].replace(b"M\0", b"m\0")
    disk[second + 13] = checksum
    image.write_bytes(disk)


def names_on(image: Path) -> list[str]:
    """Return the paths of all files on a FAT32, sorted; it has to be sound, and not in use."""
    _run("fsck.vfat", "-n", str(image))
    listed = _run("mdir", "-/", "-b", "-a", "-i", str(image), "::").split()
    return sorted(name.removeprefix("::/") for name in listed if not name.endswith("/"))


def blank_exfat(path: Path, *, size_bytes: int = 160 << 20) -> Path:
    """Make a disk with an empty exFAT; only a kernel can fill it."""
    _blank(path, size_bytes)
    _run("mkfs.exfat", str(path))
    return path


def _blank(path: Path, size_bytes: int) -> None:
    with path.open("wb") as file:
        file.truncate(size_bytes)


def _run(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=_TOOLS)
    return done.stdout
