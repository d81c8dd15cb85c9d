"""Real H.264/AAC clips and JPEG photographs, as a recorder would have left them.

The picture carries what a recorder burns into it: the running clock, model and serial number,
officer and sequence number. The same shot gives the same bytes on every run of one ffmpeg, so
that a digest in a report means something.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

FONT: Final = Path("/usr/share/fonts/truetype/dejavu/DejaVuSansMono-Bold.ttf")
INSTALL: Final = "sudo apt-get install --yes ffmpeg fonts-dejavu-core"

_PARALLEL: Final = 2
_TIMEOUT_S: Final = 300
_FORGET_AFTER_S: Final = 3 * 86_400
_SAFE: Final = re.compile(r"[A-Za-z0-9-]{1,32}")
_CACHED: Final = re.compile(r"[0-9a-f]{32}\.(mp4|jpg)")
_FRAMES_PER_S: Final = 25
_GRAIN: Final = 24


class FootageError(Exception):
    """No footage can be made; the text says what to do."""


class MissingToolError(FootageError):
    """ffmpeg or the font is not on this machine."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is not installed; install it with: {INSTALL}")


class EncodingError(FootageError):
    """ffmpeg ran and failed."""

    def __init__(self, stderr: str) -> None:
        super().__init__(f"ffmpeg could not make a shot: {stderr.strip()[-500:]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wearer:
    """Whose recorder it is, as burnt into the picture: letters, digits and hyphens only."""

    model: str
    serial: str
    officer: str

    def __post_init__(self) -> None:
        for text in (self.model, self.serial, self.officer):
            # These words become part of ffmpeg's filter language, which has many quoting levels.
            if _SAFE.fullmatch(text) is None:
                raise ValueError(f"{text!r} cannot be burnt into a picture")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipShot:
    """One video file with sound.

    Attributes:
        start: Of the first frame, aware, in the zone of the recorder's clock.
        duration_s: At least 1.
        rate_kbit_s: Constant rate of the video, filled with sensor grain; None lets the
            picture decide. The file has about ``rate_kbit_s * duration_s * 125`` bytes.
    """

    wearer: Wearer
    start: datetime
    duration_s: int
    sequence: int
    width_px: int = 640
    height_px: int = 360
    rate_kbit_s: int | None = None

    suffix = ".mp4"

    def arguments(self) -> list[str]:
        """Return ffmpeg's arguments, without the program and the output."""
        picture = [_painted(self, grain=self.rate_kbit_s is not None)]
        rate = [] if self.rate_kbit_s is None else _constant_rate(self.rate_kbit_s)
        tone_hz = 300 + _character(self.wearer) * 2
        return [
            *_source(f"testsrc2=size={self.width_px}x{self.height_px}:rate={_FRAMES_PER_S}"),
            *_source(f"sine=frequency={tone_hz}:beep_factor=4:sample_rate=16000"),
            *("-vf", ",".join(picture), "-t", str(self.duration_s)),
            *("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"),
            # One thread per clip: x264's output depends on the number of threads.
            *("-threads", "1", "-g", str(2 * _FRAMES_PER_S), *rate),
            *("-c:a", "aac", "-b:a", "32k", "-ac", "1"),
            *("-map_metadata", "-1", "-metadata", f"creation_time={_utc_text(self.start)}"),
            # A recorder's own encoder leaves no trace of Lavc or x264; editing software does.
            *("-metadata:s:v", "encoder=H.264", "-metadata:s:v", "handler_name=Video"),
            *("-metadata:s:a", "handler_name=Audio", "-bsf:v", "filter_units=remove_types=6"),
            *("-fflags", "+bitexact", "-flags:v", "+bitexact", "-flags:a", "+bitexact"),
            *("-movflags", "+faststart"),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoShot:
    """One JPEG photograph; *start* is the moment it was taken, aware."""

    wearer: Wearer
    start: datetime
    sequence: int
    width_px: int = 1280
    height_px: int = 720

    suffix = ".jpg"

    def arguments(self) -> list[str]:
        """Return ffmpeg's arguments, without the program and the output."""
        return [
            *_source(f"testsrc2=size={self.width_px}x{self.height_px}:rate={_FRAMES_PER_S}"),
            *("-vf", _painted(self, grain=False), "-frames:v", "1", "-q:v", "3"),
            *("-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact"),
        ]


Shot = ClipShot | PhotoShot


def make_footage(
    shots: Iterable[Shot], cache: Path, *, search_path: str | None = None
) -> Mapping[Shot, Path]:
    """Make what is not yet in *cache*, two shots at a time; a shot in the cache costs nothing.

    Several processes may share a cache: one makes, the others wait and find. Files there that
    nobody asked for in three days are removed. Copy a file before changing anything about it.

    Args:
        shots: What to make; equal shots are made once.
        cache: A folder for the files, created if need be.
        search_path: Where to look for ffmpeg, in the form of PATH, which is the default.

    Raises:
        FootageError: ffmpeg or the font is missing, or ffmpeg failed; nothing half-made stays
            under a final name.
    """
    files = {shot: cache / _cached_name(shot) for shot in shots}
    cache.mkdir(parents=True, exist_ok=True)
    with _only_maker(cache):
        missing = {shot: file for shot, file in files.items() if not file.exists()}
        if missing:
            _make(missing, ffmpeg=_ffmpeg(search_path))
        for file in files.values():
            os.utime(file)
        _forget_unused(cache)
    return files


def _make(missing: Mapping[Shot, Path], *, ffmpeg: str) -> None:
    with ThreadPoolExecutor(max_workers=_PARALLEL, thread_name_prefix="ffmpeg") as pool:
        running = [pool.submit(_encode, s, f, ffmpeg) for s, f in missing.items()]
        for one in running:
            one.result()


def _encode(shot: Shot, file: Path, ffmpeg: str) -> None:
    part = file.with_suffix(f".part{shot.suffix}")
    quiet = ["-nostdin", "-hide_banner", "-v", "error", "-y"]
    command = [ffmpeg, *quiet, *shot.arguments(), str(part)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
        if done.returncode != 0:
            raise EncodingError(done.stderr)
        part.rename(file)
    finally:
        part.unlink(missing_ok=True)


def _ffmpeg(search_path: str | None) -> str:
    ffmpeg = shutil.which("ffmpeg", path=search_path)
    if ffmpeg is None:
        raise MissingToolError("ffmpeg")
    if not FONT.is_file():
        raise MissingToolError("the font DejaVu Sans Mono")
    return ffmpeg


@contextmanager
def _only_maker(cache: Path) -> Iterator[None]:
    with (cache / ".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _forget_unused(cache: Path) -> None:
    oldest_s = time.time() - _FORGET_AFTER_S
    for file in cache.iterdir():
        if _CACHED.fullmatch(file.name) and file.stat().st_mtime < oldest_s:
            file.unlink()


def _cached_name(shot: Shot) -> str:
    # The arguments say all that decides the bytes: a change to this module is a new key, too.
    key = hashlib.sha256("\0".join(shot.arguments()).encode()).hexdigest()
    return f"{key[:32]}{shot.suffix}"


def _source(graph: str) -> list[str]:
    return ["-f", "lavfi", "-i", graph]


def _constant_rate(rate_kbit_s: int) -> list[str]:
    rate = f"{rate_kbit_s}k"
    # A small buffer: what it holds comes on top, and would count in a short clip.
    buffer = f"{rate_kbit_s // 4}k"
    bounds = ["-b:v", rate, "-minrate", rate, "-maxrate", rate, "-bufsize", buffer]
    return [*bounds, "-x264-params", "nal-hrd=cbr"]


def _painted(shot: Shot, *, grain: bool) -> str:
    """Return the filters that colour the picture and burn the recorder's lines into it."""
    bar_px = shot.height_px // 10
    wearer = shot.wearer
    filters = [f"hue=h={_character(wearer)}:s=0.55"]
    if grain:
        filters.append(f"noise=alls={_GRAIN}:allf=t:all_seed={shot.sequence}")
    filters += [
        f"drawbox=x=0:y={y}:w=iw:h={bar_px}:color=black:t=fill"
        for y in (0, shot.height_px - bar_px)
    ]
    top = f"({bar_px}-text_h)/2"
    bottom = f"h-{bar_px}+({bar_px}-text_h)/2"
    right = f"w-text_w-{bar_px // 3}"
    # gmtime of the wall clock taken as UTC: the picture must not depend on this machine's zone.
    clock = f"%{{pts\\:gmtime\\:{_wall_clock_s(shot.start)}\\:%F %T}}"
    lines = (
        (clock, f"{bar_px // 3}", top),
        (f"{wearer.model} {wearer.serial}", right, top),
        (f"OFFICER {wearer.officer}", f"{bar_px // 3}", bottom),
        (f"{shot.sequence:04d}", right, bottom),
    )
    look = f"fontfile={FONT}:fontsize={bar_px * 6 // 10}:fontcolor=white"
    filters += [f"drawtext={look}:x={x}:y={y}:text='{text}'" for text, x, y in lines]
    return ",".join(filters)


def _wall_clock_s(moment: datetime) -> int:
    return int(moment.replace(tzinfo=UTC).timestamp())


def _utc_text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _character(wearer: Wearer) -> int:
    """Return 0 to 255, the same for each recorder always: its hue and its tone."""
    return hashlib.sha256(wearer.serial.encode()).digest()[0]
