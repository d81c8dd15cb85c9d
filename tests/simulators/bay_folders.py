"""A recorder as a folder that appears in a bay and vanishes, both in one step."""

import os
from datetime import timedelta
from pathlib import Path

from tests.simulators.docking_site import MORNING, clip_path, mtime_ns, noise

CLIP_BYTES = 400_000


def dock_recorder(
    folder: Path,
    *,
    clips: int = 3,
    first: int = 1,
    serial: str = "0000017",
    clip_bytes: int = CLIP_BYTES,
    marked: int = 0,
) -> dict[str, bytes]:
    """Let a recorder with one recording appear, and one of *marked* clips; return it, by path."""
    arriving = folder.with_name(f".{folder.name}.arriving")
    contents: dict[str, bytes] = {}
    started = MORNING + timedelta(hours=first)
    for number in range(first, first + clips + marked):
        is_marked = number >= first + clips
        if number == first + clips:
            started += timedelta(hours=1)
        path = clip_path(started, number, serial=serial, mark="IMP" if is_marked else "")
        contents[path.decode()] = noise(path, clip_bytes)
        started += timedelta(seconds=12)
        _write(arriving / path.decode(), contents[path.decode()], mtime_ns(started))
    folder.parent.mkdir(exist_ok=True)
    arriving.rename(folder)
    return contents


def pull_recorder(folder: Path) -> Path:
    """Take what is in a bay away; return where it is now."""
    pulled = folder.with_name(f".{folder.name}.pulled")
    folder.rename(pulled)
    return pulled


def _write(path: Path, content: bytes, modified_ns: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, ns=(modified_ns, modified_ns))
