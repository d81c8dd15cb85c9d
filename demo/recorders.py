"""What is on the demo's four recorders: a plan in values, nothing is made here."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum, unique
from typing import Final
from zoneinfo import ZoneInfo

from demo.footage import ClipShot, PhotoShot, Shot, Wearer

ZONE: Final = ZoneInfo("Asia/Shanghai")

_WIDE_PX: Final = (854, 480)
_BIG_RATE_KBIT_S: Final = 14_000
_THUMBNAIL_PX: Final = (160, 90)
_MARKED_AFTER: Final = timedelta(seconds=34)


@unique
class Role(Enum):
    """What a file is to the recorder that carries it."""

    CLIP = "clip"
    OTHER = "other"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFile:
    """One file to be made.

    Attributes:
        path: Relative to the volume, with slashes.
        modified: Aware; for a clip, its end by the recorder's clock.
        recording: For a clip: which activation of the recorder, counted from 1; else 0.
        alias_of: For a clip: the path of the marked clip with the same content.
    """

    path: str
    content: Shot | bytes
    modified: datetime
    role: Role = Role.OTHER
    recording: int = 0
    marked: bool = False
    alias_of: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRecorder:
    """One recorder; *recorder_id* is None for the one that is on no register."""

    folder: str
    recorder_id: str | None
    wearer: Wearer
    officer_name: str
    files: tuple[PlannedFile, ...]


def plan_recorders(today: date) -> tuple[PlannedRecorder, ...]:
    """Return the four recorders, the unregistered one last; all footage is older than *today*."""
    day1, day2 = today - timedelta(days=2), today - timedelta(days=1)
    return (
        _contiguous_and_marked(day1, day2),
        _big(day1, day2),
        _with_foreign_files(day2),
        _unregistered(day2),
    )


def _contiguous_and_marked(day1: date, day2: date) -> PlannedRecorder:
    wearer = Wearer(model="DSJ-A8", serial="0000017", officer="012345")
    # FAT keeps even seconds only: starts and lengths are even, so that mtimes are exact.
    starts = [_at(day1, 8, 30, 12) + timedelta(seconds=12 * n) for n in range(3)]
    clips = [
        _clip_a8(ClipShot(wearer=wearer, start=start, duration_s=12, sequence=n), recording=1)
        for n, start in enumerate(starts, start=1)
    ]
    end = starts[-1] + timedelta(seconds=12)
    thumbnail = PhotoShot(
        wearer=wearer,
        start=starts[0],
        sequence=1,
        width_px=_THUMBNAIL_PX[0],
        height_px=_THUMBNAIL_PX[1],
    )
    shot = ClipShot(wearer=wearer, start=_at(day2, 14, 2, 40), duration_s=10, sequence=4)
    marked = _clip_a8(shot, recording=2, marked=True)
    plain = _clip_a8(shot, recording=2, alias_of=marked.path)
    name = clips[0].path.removesuffix(".MP4")
    return PlannedRecorder(
        folder="R-0001",
        recorder_id="R-0001",
        wearer=wearer,
        officer_name="张伟",
        files=(
            *clips,
            marked,
            plain,
            PlannedFile(path=f"{name}.THM", content=thumbnail, modified=end),
            PlannedFile(path=f"LOG/{day1:%Y%m%d}.LOG", content=_log(starts[0], end), modified=end),
            PlannedFile(
                path=f"GPS/{day1:%Y%m%d}.NMEA", content=_track(starts[0], end), modified=end
            ),
        ),
    )


def _big(day1: date, day2: date) -> PlannedRecorder:
    """Return the recorder that is pulled in mid-copy: one clip of 40 MB."""
    wearer = Wearer(model="DSJ-V2", serial="V200042", officer="012346")
    width_px, height_px = _WIDE_PX
    first = ClipShot(
        wearer=wearer,
        start=_at(day1, 16, 41, 6),
        duration_s=10,
        sequence=2,
        width_px=width_px,
        height_px=height_px,
    )
    big = ClipShot(
        wearer=wearer,
        start=_at(day2, 14, 15, 0),
        duration_s=24,
        sequence=3,
        width_px=width_px,
        height_px=height_px,
        rate_kbit_s=_BIG_RATE_KBIT_S,
    )
    photo = PhotoShot(wearer=wearer, start=_at(day2, 14, 20, 30), sequence=4)
    device = "serial=V200042\r\nmodel=DSJ-V2\r\npolice=012346\r\nname=李娜\r\nunit=稽查科\r\n"
    return PlannedRecorder(
        folder="R-0002",
        recorder_id="R-0002",
        wearer=wearer,
        officer_name="李娜",
        files=(
            _clip_v2(first, recording=1),
            _clip_v2(big, recording=2),
            _clip_v2(photo, recording=3),
            PlannedFile(
                path="SYSTEM/DEVICE.TXT",
                content=device.encode("gbk"),
                modified=_at(day1, 7, 58, 0),
            ),
        ),
    )


def _with_foreign_files(day: date) -> PlannedRecorder:
    wearer = Wearer(model="DSJ-A8", serial="0000018", officer="012347")
    shots = (
        ClipShot(wearer=wearer, start=_at(day, 10, 5, 30), duration_s=12, sequence=1),
        ClipShot(wearer=wearer, start=_at(day, 10, 5, 42), duration_s=8, sequence=2),
    )
    foreign = {
        "autorun.inf": b"[autorun]\r\nopen=setup.exe\r\n",
        "setup.exe": b"MZ\x90\x00" + b"This is text and no program.\r\n" * 64,
    }
    return PlannedRecorder(
        folder="R-0003",
        recorder_id="R-0003",
        wearer=wearer,
        officer_name="王强",
        files=(
            *(_clip_a8(shot, recording=1) for shot in shots),
            *(
                PlannedFile(
                    path=path, content=content, modified=_at(day, 3, 0, 0), role=Role.FOREIGN
                )
                for path, content in foreign.items()
            ),
        ),
    )


def _unregistered(day: date) -> PlannedRecorder:
    wearer = Wearer(model="DSJ-A8", serial="9999999", officer="099999")
    shot = ClipShot(wearer=wearer, start=_at(day, 17, 20, 0), duration_s=6, sequence=1)
    return PlannedRecorder(
        folder="unregistered",
        recorder_id=None,
        wearer=wearer,
        officer_name="陈静",
        files=(_clip_a8(shot, recording=1),),
    )


def _clip_a8(
    shot: ClipShot, *, recording: int, marked: bool = False, alias_of: str | None = None
) -> PlannedFile:
    who = f"{shot.wearer.officer}_{shot.wearer.serial}"
    mark = "IMP" if marked else ""
    name = f"{who}_{shot.start:%Y%m%d%H%M%S}_{shot.sequence:04d}{mark}.MP4"
    end = shot.start + timedelta(seconds=shot.duration_s)
    return PlannedFile(
        path=f"DCIM/100MEDIA/{name}",
        content=shot,
        # Marking writes a copy under a new name, some time after the clip's end.
        modified=end + _MARKED_AFTER if marked else end,
        role=Role.CLIP,
        recording=recording,
        marked=marked,
        alias_of=alias_of,
    )


def _clip_v2(shot: Shot, *, recording: int) -> PlannedFile:
    length_s, extension = (shot.duration_s, "MP4") if isinstance(shot, ClipShot) else (0, "JPG")
    name = f"{shot.start:%Y%m%d%H%M%S}_{shot.sequence:04d}.{extension}"
    return PlannedFile(
        path=f"DCIM/{shot.start:%Y%m%d}/{name}",
        content=shot,
        modified=shot.start + timedelta(seconds=length_s),
        role=Role.CLIP,
        recording=recording,
    )


def _log(start: datetime, end: datetime) -> bytes:
    events = (
        (start - timedelta(seconds=18), "POWER ON BATTERY 96"),
        (start, "RECORD START 0001"),
        (end, "RECORD STOP 0003"),
        (end, "BATTERY 93"),
    )
    return "".join(f"{at:%Y-%m-%d %H:%M:%S} {what}\r\n" for at, what in events).encode()


def _track(start: datetime, end: datetime) -> bytes:
    """Return a walk northwards, one NMEA 0183 RMC sentence every two seconds."""
    sentences = []
    for step in range(0, int((end - start).total_seconds()) + 1, 2):
        at = (start + timedelta(seconds=step)).astimezone(UTC)
        body = (
            f"GPRMC,{at:%H%M%S}.00,A,3113.{8220 + step * 4:04d},N,12128.4220,E,"
            f"2.6,000.0,{at:%d%m%y},,,A"
        )
        checksum = 0
        for byte in body.encode():
            checksum ^= byte
        sentences.append(f"${body}*{checksum:02X}\r\n")
    return "".join(sentences).encode()


def _at(day: date, hour: int, minute: int, second: int) -> datetime:
    return datetime.combine(day, time(hour, minute, second), tzinfo=ZONE)
