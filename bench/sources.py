"""Recorders' volumes made of random bytes: what is docked, and what the peers copy."""

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from bench.figures import MIB
from demo.site import Registered

PHOTO_BYTES: Final = 16 << 10
_START: Final = datetime(2026, 11, 20, 8, 0, 0, tzinfo=ZoneInfo("Asia/Shanghai"))
_PHOTOS_IN_FOLDER: Final = 1000
_APART: Final = timedelta(seconds=30)  # further than clips of one recording are


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is docked at once.

    Attributes:
        bays: How many recorders.
        clip_bytes: Size of the one clip of each recorder; 0 is none.
        photos: How many small files of PHOTO_BYTES each recorder has.
    """

    bays: int
    clip_bytes: int = 0
    photos: int = 0

    @property
    def files(self) -> int:
        """How many files all recorders have together."""
        return self.bays * ((self.clip_bytes > 0) + self.photos)

    @property
    def bay_bytes(self) -> int:
        """How much each recorder holds."""
        return self.clip_bytes + self.photos * PHOTO_BYTES

    @property
    def total_bytes(self) -> int:
        """How much all recorders hold together."""
        return self.bays * self.bay_bytes


def recorder(bay: int) -> Registered:
    """Return the recorder that is docked in a bay."""
    return Registered(
        recorder_id=f"R-{bay:04d}",
        make="DSJ",
        model="DSJ-A8",
        serial=f"{bay:07d}",
        officer=f"{bay + 10_000:06d}",
        officer_name="张伟",
    )


def write_volumes(folder: Path, load: Load) -> list[Path]:
    """Write the recorders' volumes below *folder*, synced; return them in the order of the bays."""
    return [_write_volume(folder / f"bay-{bay:02d}", bay, load) for bay in range(1, load.bays + 1)]


def _write_volume(volume: Path, bay: int, load: Load) -> Path:
    if load.clip_bytes:
        write_file(_path(volume, bay, 0, "MP4"), load.clip_bytes, _START)
    for number in range(1, load.photos + 1):
        write_file(_path(volume, bay, number, "JPG"), PHOTO_BYTES, _START + number * _APART)
    return volume


def _path(volume: Path, bay: int, number: int, suffix: str) -> Path:
    who = recorder(bay)
    started = _START + number * _APART
    folder = f"{100 + number // _PHOTOS_IN_FOLDER}MEDIA"
    sequence = number % 10_000
    name = f"{who.officer}_{who.serial}_{started:%Y%m%d%H%M%S}_{sequence:04d}.{suffix}"
    return volume / "DCIM" / folder / name


def write_file(path: Path, size_bytes: int, modified: datetime) -> None:
    """Write one file of random bytes, synced, with a recorder's time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as opened:
        for offset in range(0, size_bytes, MIB):
            opened.write(os.urandom(min(MIB, size_bytes - offset)))
        opened.flush()
        os.fsync(opened.fileno())
    os.utime(path, (modified.timestamp(), modified.timestamp()))
