"""Recorders that are worn between dockings: what was ever on them is remembered."""

import hashlib
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from demo.site import Registered
from soak.checker import Original

KIB: Final = 1 << 10
MIB: Final = 1 << 20

_ZONE: Final = ZoneInfo("Asia/Shanghai")
_FIRST_MORNING: Final = datetime(2026, 11, 2, 8, 0, 0, tzinfo=_ZONE)
_CLIP_S: Final = 60
# What a clock shows after its battery was empty, and the last hours that FAT can write.
_LOST_CLOCKS: Final = (
    datetime(1980, 1, 1, tzinfo=_ZONE),
    datetime(2000, 1, 1, tzinfo=_ZONE),
    datetime(2015, 1, 1, tzinfo=_ZONE),
    datetime(2107, 12, 31, 18, 0, 0, tzinfo=_ZONE),
)
# Names that are a topic, SQL, HTML, a command, a device, and no text at all.
_HOSTILE: Final = (
    b"bayward/v1/docks/+/#.TXT",
    b"'; DROP TABLE file; --.TXT",
    b"<script>alert(1)<.TXT",
    b"$(reboot) && `halt`.TXT",
    b"-rf .TXT",
    b"CON.TXT",
    b"ends with a dot.",
    b"two\nlines.TXT",
    b"\xff\xfe\x80.TXT",
    "右往左来\u202eTXT.4pm".encode(),
    ("长" * 80).encode(),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """What a recorder's wearer does between two dockings; sizes are bytes.

    Attributes:
        clips: How many clips a recording has at most.
        large_clip_bytes: The size of the largest clips; most are much smaller.
        large_photo_bytes: The size of the largest photographs.
        is_odd: Hostile names and clocks that were lost, too.
    """

    clips: int = 3
    large_clip_bytes: int = 3 * MIB
    large_photo_bytes: int = 64 * KIB
    is_odd: bool = False


class WornRecorder:
    """A DSJ-A8's volume in a folder, and a record of all that ever was on it.

    Attributes:
        originals: Every file that was ever filmed, erased ones too.
    """

    def __init__(self, folder: Path, *, number: int, seed: int, habits: Habits) -> None:
        self.registered = Registered(
            recorder_id=f"R-{number:04d}",
            make="DSJ",
            model="DSJ-A8",
            serial=f"{number:07d}",
            officer=f"{10_000 + number:06d}",
            officer_name=f"officer {number}",
        )
        self.folder = folder
        self.originals: list[Original] = []
        self._habits = habits
        self._dice = random.Random(f"{seed} recorder {number}")
        self._now = _FIRST_MORNING
        self._sequence = 0
        self._kept: dict[bytes, Original] = {}

    @property
    def on_card(self) -> tuple[Original, ...]:
        """What is on the volume now."""
        return tuple(self._kept.values())

    def film(self) -> None:
        """Be worn for a while: one recording at least, and whatever else comes."""
        dice = self._dice
        if self._habits.is_odd and not dice.randrange(10):
            self._now, self._sequence = dice.choice(_LOST_CLOCKS), 0
        elif self._now.year != _FIRST_MORNING.year and not dice.randrange(2):
            self._now = _FIRST_MORNING + timedelta(days=dice.randrange(20))
        for _ in range(dice.randint(1, 2)):
            self._record(dice.randint(1, self._habits.clips))
        for _ in range(dice.randint(0, 3)):
            self.take_photo()
        if not dice.randrange(3):
            self._mark_a_clip()
        self._write_log()
        if self._habits.is_odd:
            self._be_odd()

    def take_photo(self) -> None:
        """Take a photograph; now and then it has no byte, because the battery was empty."""
        self._now += timedelta(minutes=1)
        self._sequence += 1
        most = self._habits.large_photo_bytes
        size_bytes = self._dice.choice([0, *(self._dice.randint(1, most) for _ in range(5))])
        self._write(self._clip_name("JPG"), self._dice.randbytes(size_bytes))

    def keep_logs(self, count: int) -> None:
        """Write so many files that are no recordings."""
        for number in range(count):
            self._write(b"LOG/%06d.TXT" % number, b"%d of %d\n" % (number, count))

    def film_darkness(self, size_bytes: int) -> None:
        """Film one clip of nothing but zeros, which takes no room on the volume."""
        self._now += timedelta(hours=1)
        self._sequence += 1
        path, digest = self._clip_name("MP4"), hashlib.sha256()
        zeros = memoryview(bytes(MIB))
        for offset in range(0, size_bytes, MIB):
            digest.update(zeros[: size_bytes - offset])
        self._on_disk(path).parent.mkdir(parents=True, exist_ok=True)
        with self._on_disk(path).open("wb") as clip:
            clip.truncate(size_bytes)
        self._remember(path, size_bytes, digest.hexdigest())

    def erase(self) -> None:
        """Let the wearer empty the volume; the record stays."""
        shutil.rmtree(self.folder)
        self._kept.clear()

    def _record(self, clips: int) -> None:
        self._now += timedelta(minutes=self._dice.randint(10, 50))
        for content in (self._content() for _ in range(clips)):
            self._sequence += 1
            self._write(self._clip_name("MP4"), content, after_s=_CLIP_S)

    def _mark_a_clip(self) -> None:
        clips = [path for path in self._kept if path.endswith(b"MP4") and b"IMP" not in path]
        if clips:
            path = self._dice.choice(clips)
            self._write(path.replace(b".MP4", b"IMP.MP4"), self._on_disk(path).read_bytes())

    def _write_log(self) -> None:
        path = f"LOG/{self._now:%Y%m%d}.LOG".encode()
        lines = f"{self.registered.serial} {self._now} {self._sequence}\n".encode()
        self._write(path, lines)

    def _be_odd(self) -> None:
        if not self._dice.randrange(3):
            name = b"NOTES/" + self._dice.choice(_HOSTILE)
            self._write(name, self._dice.randbytes(self._dice.randint(1, 4 * KIB)))

    def _content(self) -> bytes:
        """Return a clip; now and then one that was there before, or that every recorder has."""
        if not self._dice.randrange(20):
            return b"the same on every recorder" * 1000
        before = [path for path, one in self._kept.items() if one.size_bytes and b"MP4" in path]
        if before and not self._dice.randrange(20):
            return self._on_disk(self._dice.choice(before)).read_bytes()
        most = self._habits.large_clip_bytes
        return self._dice.randbytes(int(most ** self._dice.uniform(0.5, 1)))

    def _clip_name(self, suffix: str) -> bytes:
        officer, serial = self.registered.officer, self.registered.serial
        stamp = f"{self._now:%Y%m%d%H%M%S}"
        number = self._sequence % 10_000
        return f"DCIM/100MEDIA/{officer}_{serial}_{stamp}_{number:04d}.{suffix}".encode()

    def _write(self, path: bytes, content: bytes, *, after_s: int = 0) -> None:
        """Write a file, unless there is one of that name: a clock may show a time twice."""
        self._now += timedelta(seconds=after_s)
        if path in self._kept:
            return
        file = self._on_disk(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        self._remember(path, len(content), hashlib.sha256(content).hexdigest())

    def _remember(self, path: bytes, size_bytes: int, sha256: str) -> None:
        seconds = self._now.timestamp()
        os.utime(self._on_disk(path), (seconds, seconds))
        original = Original(
            serial=self.registered.serial, path=path, size_bytes=size_bytes, sha256=sha256
        )
        self.originals.append(original)
        self._kept[path] = original

    def _on_disk(self, path: bytes) -> Path:
        return self.folder / os.fsdecode(path)


def worn_recorders(root: Path, count: int, *, seed: int, habits: Habits) -> Iterator[WornRecorder]:
    """Yield recorders that have been worn once."""
    for number in range(1, count + 1):
        recorder = WornRecorder(root / str(number), number=number, seed=seed, habits=habits)
        recorder.film()
        yield recorder
