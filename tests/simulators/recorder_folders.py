"""Folders that stand for docked recorders, with random bytes for footage: quick to make."""

import hashlib
import os
import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from demo.site import Registered

ZONE = ZoneInfo("Asia/Shanghai")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderFolder:
    """A recorder, its volume, and the SHA-256 (hex) of each file by its path."""

    registered: Registered
    folder: Path
    digests: dict[str, str]


def build_recorder(
    folder: Path,
    *,
    number: int,
    recordings: int,
    clips: int,
    clip_bytes: int,
    seed: int,
) -> RecorderFolder:
    """Write a DSJ-A8's volume: *recordings* of *clips* contiguous clips each, and a log."""
    noise = random.Random(f"{seed}-{number}")
    serial, officer = f"{number:07d}", f"{10_000 + number:06d}"
    digests: dict[str, str] = {}
    sequence, morning = 0, datetime(2026, 11, 20, 8, 0, 0, tzinfo=ZONE)
    for recording in range(recordings):
        start = morning + timedelta(hours=recording)
        for _ in range(clips):
            sequence += 1
            stamp = f"{start:%Y%m%d%H%M%S}"
            path = f"DCIM/100MEDIA/{officer}_{serial}_{stamp}_{sequence:04d}.MP4"
            start += timedelta(seconds=60)
            content = noise.randbytes(noise.randrange(clip_bytes // 2, clip_bytes))
            digests[path] = _write(folder / path, content, start)
    digests["LOG/20261120.LOG"] = _write(
        folder / "LOG" / "20261120.LOG", f"log of {serial}\n".encode(), morning
    )
    return RecorderFolder(
        registered=Registered(
            recorder_id=f"R-{number:04d}",
            make="DSJ",
            model="DSJ-A8",
            serial=serial,
            officer=officer,
            officer_name=f"officer {number}",
        ),
        folder=folder,
        digests=digests,
    )


def _write(path: Path, content: bytes, modified: datetime) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (modified.timestamp(), modified.timestamp()))
    return hashlib.sha256(content).hexdigest()
