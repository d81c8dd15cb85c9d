"""What is wrong with a volume, or with reading it, as data: one small volume for each finding.

A case names the model's profile, the listing exactly as a volume gives it, the faults of recorder
and dock, and the findings that the manifest must have. A content is a recipe, so that no large
file is committed: {"repeat": text, "times": count}.
"""

import json
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

from edge_agent.ingest.told import Told
from edge_agent.ingest.volume import MAX_DEPTH, EntryKind
from protocol import strict_json
from protocol.findings import FindingCode
from protocol.manifest import EvidenceLevel, name_of

Fault = Mapping[str, object]

_ZONE: Final = timezone(timedelta(hours=8))  # the profile's
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DOCKED_AT: Final = "2026-11-23T10:00:00Z"
_MORNING: Final = datetime(2026, 11, 21, 8, 30, 12, tzinfo=_ZONE)
_CLIP_LENGTH: Final = timedelta(seconds=12)
_CLIP_BYTES: Final = 1_000
# Shown paths are cut where Linux' PATH_MAX is.
_SHOWN_BYTES: Final = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of the listing; *repeat* and *times* make the content of a file."""

    path: bytes
    kind: EntryKind = EntryKind.FILE
    written: datetime = _MORNING
    repeat: str = ""
    times: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeCase:
    """One volume and what must be said about it.

    Attributes:
        name: Of the file beside the first case of the same code; empty for that one.
        wrong: The paths that the findings of *code* are about, in any order; None for the volume.
        companions: Codes that come along because the same facts cause them.
        lists_folders: Off where the folders' own long names would make a large file.
    """

    code: FindingCode | None
    text: str
    entries: tuple[Entry, ...]
    wrong: tuple[bytes | None, ...] = ()
    companions: tuple[FindingCode, ...] = ()
    faults: tuple[Fault, ...] = ()
    evidence: EvidenceLevel = EvidenceLevel.L2
    max_entries: int | None = None
    told: Told | None = None
    lists_folders: bool = True
    name: str = ""

    @property
    def file_name(self) -> str:
        """Where the case is committed, below the vectors' folder."""
        folder = self.code.value if self.code else "good/volume"
        return f"{folder}/case-{self.name}.json" if self.name else f"{folder}/case.json"


def volume_vectors() -> Iterator[tuple[str, bytes]]:
    """Yield the files of all cases; the good volume's is one of them."""
    listed = (_GOOD, *_listing_cases(), *_name_cases(), *_reading_cases())
    for case in (*listed, *_copy_cases(), *_talk_cases()):
        yield case.file_name, _encoded(case)


def _clip(
    number: int,
    *,
    started: datetime | None = None,
    mark: str = "",
    folder: bytes = b"100MEDIA",
) -> Entry:
    """Return a clip of a DSJ-A8; without *started* it follows the clip before without a gap."""
    begun = started or _MORNING + (number - 1) * _CLIP_LENGTH
    name = f"012345_0000017_{begun:%Y%m%d%H%M%S}_{number:04d}{mark}.MP4"
    return Entry(
        path=b"DCIM/" + folder + b"/" + name.encode(),
        written=begun + _CLIP_LENGTH,
        repeat=f"{begun:%y%m%d%H%M%S} {number:04d}  \n",  # 20 bytes; a marked copy has the same
        times=_CLIP_BYTES // 20,
    )


def _other(path: bytes, text: str = "line\n") -> Entry:
    return Entry(path=path, repeat=text, times=20)


def _odd(path: bytes, kind: EntryKind) -> Entry:
    return Entry(path=path, kind=kind)


_FIRST: Final = _clip(1)
_SECOND: Final = _clip(2)
_LATER: Final = _clip(2, started=_MORNING + timedelta(hours=2))
_GOOD: Final = VolumeCase(
    code=None,
    text="two clips of one recording and a log: nothing is to be said",
    entries=(_FIRST, _SECOND, _other(b"LOG/20261121.LOG")),
)


def _one_bad(code: FindingCode, text: str, bad: Entry, *, name: str = "") -> VolumeCase:
    """Return a good clip beside one bad entry."""
    return VolumeCase(code=code, text=text, entries=(_FIRST, bad), wrong=(bad.path,), name=name)


def _listing_cases() -> Iterator[VolumeCase]:
    """Yield what is wrong with an entry, whatever its name."""
    yield _one_bad(
        FindingCode.LINK,
        "a link under a clip's name",
        _odd(_SECOND.path, EntryKind.LINK),
    )
    yield _one_bad(
        FindingCode.SPECIAL_FILE,
        "a device under a clip's name",
        _odd(_SECOND.path, EntryKind.SPECIAL),
    )
    yield _one_bad(
        FindingCode.EMPTY_FILE,
        "a clip of no bytes",
        Entry(path=_SECOND.path),
    )
    yield _one_bad(
        FindingCode.UNREADABLE_DIRECTORY,
        "a folder that cannot be listed",
        _odd(b"DCIM/101MEDIA", EntryKind.UNREADABLE_DIRECTORY),
    )
    yield VolumeCase(
        code=FindingCode.UNREADABLE_DIRECTORY,
        text="a folder that lists one name twice",
        entries=(_FIRST, _SECOND, _SECOND),
        wrong=(_SECOND.path,),
        name="twice",
    )
    yield VolumeCase(
        code=FindingCode.TOO_MANY_ENTRIES,
        text="one entry more than are listed",
        entries=(_FIRST, _SECOND, _clip(3)),
        wrong=(None,),
        max_entries=4,
    )
    yield _one_bad(
        FindingCode.PATH_TOO_LONG,
        "a component of 256 characters",
        _other(b"LOG/" + b"n" * 252 + b".LOG"),
    )
    long = _other(b"/".join([b"d" * 240] * 16 + [b"n" * 241]))
    deep = _odd(b"/".join([b"d"] * MAX_DEPTH), EntryKind.TOO_DEEP)
    for name, text, bad in (
        ("whole-path", "a path of 4,097 bytes", long),
        ("too-deep", "a folder as deep as none is entered", deep),
    ):
        yield replace(
            _one_bad(FindingCode.PATH_TOO_LONG, text, bad, name=name), lists_folders=False
        )


def _name_cases() -> Iterator[VolumeCase]:
    """Yield what names and times say."""
    gbk = _clip(2, folder="执法".encode("gbk"))
    yield _one_bad(FindingCode.NAME_NOT_UTF8, "a folder named in GBK", gbk)
    unsafe = (b"AUX", b"101MEDIA.", b"102\x1bMEDIA", "103\u202eMEDIA".encode(), b"104:MEDIA")
    clips = tuple(_clip(number, folder=folder) for number, folder in enumerate(unsafe, start=2))
    yield VolumeCase(
        code=FindingCode.UNSAFE_NAME,
        text="a device of Windows, a last dot, a control character, a turn of the text, a stream",
        entries=(_FIRST, *clips),
        wrong=tuple(clip.path for clip in clips),
    )
    logs = (_other(b"LOG/20261121.LOG", "one\n"), _other(b"LOG/20261121.log", "another\n"))
    yield VolumeCase(
        code=FindingCode.NAMES_DIFFER_BY_CASE,
        text="two logs that are one where case is ignored",
        entries=(_FIRST, *logs),
        wrong=tuple(log.path for log in logs),
    )
    windows = (_other(b"autorun.inf", "[autorun]\n"), _other(b"Desktop.ini"))
    yield VolumeCase(
        code=FindingCode.FOREIGN_FILE,
        text="what Windows acts upon when it sees a volume",
        entries=(_FIRST, *windows),
        wrong=tuple(file.path for file in windows),
    )
    yield _one_bad(
        FindingCode.FOREIGN_FILE,
        "a program, as Windows reads its name",
        _other(b"DCIM/setup.EXE. "),
        name="program",
    )
    yield _one_bad(
        FindingCode.UNKNOWN_FILE, "a file that no rule of the model names", _other(b"NOTES.TXT")
    )
    dead_battery = _clip(1, started=datetime(1980, 1, 1, 0, 0, 5, tzinfo=_ZONE))
    ahead = _clip(2, started=datetime(2026, 11, 24, 18, 0, 1, tzinfo=_ZONE))
    yield VolumeCase(
        code=FindingCode.IMPLAUSIBLE_TIME,
        text="a clock whose battery died, and one a second more than a day ahead",
        entries=(_FIRST, dead_battery, ahead),
        wrong=(dead_battery.path, ahead.path),
    )
    after_gap = _clip(4)
    yield VolumeCase(
        code=FindingCode.SEQUENCE_GAP,
        text="numbers 2 and 3 are missing",
        entries=(_FIRST, after_gap),
        wrong=(after_gap.path,),
    )


def _reading_cases() -> Iterator[VolumeCase]:
    """Yield what shows only when files are read."""
    marked = _clip(1, mark="IMP")
    yield VolumeCase(
        code=FindingCode.SAME_CONTENT,
        text="a clip and the copy that marking it made",
        entries=(_FIRST, marked),
        wrong=(_FIRST.path,),
    )
    yield VolumeCase(
        code=FindingCode.RECORDING_INCOMPLETE,
        text="the dock's disk fills up between two clips of one recording",
        entries=(_FIRST, _SECOND),
        wrong=(_FIRST.path,),
        faults=({"fault": "disk_full", "after_bytes": 1_500},),
    )
    yield VolumeCase(
        code=FindingCode.RECORDING_INCOMPLETE,
        text="the second of two clips of one recording cannot be read",
        entries=(_FIRST, _SECOND),
        wrong=(_FIRST.path,),
        companions=(FindingCode.UNREADABLE_FILE,),
        faults=(_at(_SECOND, "unreadable", from_byte=600),),
        name="unreadable",
    )
    yield VolumeCase(
        code=FindingCode.UNREADABLE_FILE,
        text="a clip with a bad sector; the other recording is read",
        entries=(_FIRST, _LATER),
        wrong=(_FIRST.path,),
        faults=(_at(_FIRST, "unreadable", from_byte=600),),
    )
    for name, size_bytes in (("", 1_200), ("shrunk", 700)):
        yield VolumeCase(
            code=FindingCode.SIZE_CHANGED,
            text=f"a clip of {size_bytes} bytes when it is read",
            entries=(_FIRST, _LATER),
            wrong=(_FIRST.path,),
            faults=(_at(_FIRST, "size_changes", size_bytes=size_bytes),),
            name=name,
        )
    yield VolumeCase(
        code=FindingCode.RECORDER_LEFT,
        text="the recorder is pulled while its first clip is read",
        entries=(_FIRST, _LATER),
        wrong=(_FIRST.path,),
        faults=({"fault": "leaves", "after_bytes": 400},),
    )


def _copy_cases() -> Iterator[VolumeCase]:
    """Yield what shows only when the dock looks at its copy, or at the recorder again."""
    yield VolumeCase(
        code=FindingCode.EVIDENCE_LOWERED,
        text="nobody can prove that the copy was read back from the disk; told once",
        entries=(_FIRST, _LATER),
        wrong=(_FIRST.path,),
        faults=({"fault": "eviction_unproved"},),
    )
    yield VolumeCase(
        code=FindingCode.EVIDENCE_LOWERED,
        text="the recorder gives other bytes the second time; both digests and the level are told",
        entries=(_FIRST, _LATER),
        wrong=(_LATER.path, _LATER.path),
        faults=(_at(_LATER, "second_read_differs", content=_recipe("?", _CLIP_BYTES)),),
        evidence=EvidenceLevel.L3,
        name="second-read",
    )
    yield VolumeCase(
        code=FindingCode.COPY_DIFFERED,
        text="the dock's disk gives back other bytes than it was given, once",
        entries=(_FIRST, _LATER),
        wrong=(_FIRST.path,),
        faults=({"fault": "read_back_differs", "copies": 1},),
    )


def _talk_cases() -> Iterator[VolumeCase]:
    """Yield what recorders told over their serial ports, before a good volume was read."""
    told = {
        FindingCode.CLOCK_WAS_OFF: Told(
            driver="line-protocol-1",
            recorder_time=_MORNING.replace(tzinfo=None),
            drift_ms=-90_000,
            is_clock_set=True,
        ),
        FindingCode.SERIAL_DIFFERS: Told(driver="line-protocol-1", serial="0000018"),
        FindingCode.OFFICER_DIFFERS: Told(
            driver="line-protocol-1", serial="0000017", officer="999999"
        ),
        FindingCode.DIALOG_INCOMPLETE: Told(
            driver="line-protocol-1", failed=("read-battery: E-DRV-101",)
        ),
        FindingCode.NETWORK_SETTINGS: Told(driver="line-protocol-1", networks=("Wi-Fi 'home'",)),
    }
    for code, one in told.items():
        yield VolumeCase(
            code=code,
            text="what was told before the volume was read",
            entries=(_FIRST, _SECOND),
            wrong=(None,),
            told=one,
        )


def _at(entry: Entry, fault: str, **facts: object) -> Fault:
    return {"fault": fault, **_path(entry.path), **facts}


def _path(path: bytes) -> dict[str, str]:
    return {"path": name_of(path).path, "path_base64": b64encode(path).decode()}


def _recipe(repeat: str, times: int) -> dict[str, Any]:
    return {"repeat": repeat, "times": times}


def _with_folders(entries: Sequence[Entry]) -> Iterator[Entry]:
    """Yield each folder before what is in it, each once."""
    seen: set[bytes] = set()
    for entry in entries:
        above = entry.path.split(b"/")[:-1]
        for depth in range(1, len(above) + 1):
            folder = b"/".join(above[:depth])
            if folder not in seen:
                seen.add(folder)
                yield _odd(folder, EntryKind.DIRECTORY)
        yield entry


def _listed(entries: Iterable[Entry]) -> Iterator[dict[str, Any]]:
    for entry in entries:
        if entry.kind is EntryKind.FILE:
            yield _path(entry.path) | {
                "kind": entry.kind.value,
                "size_bytes": len(entry.repeat.encode()) * entry.times,
                "mtime_ns": (entry.written - _EPOCH) // timedelta(microseconds=1) * 1_000,
                "content": _recipe(entry.repeat, entry.times),
            }
        else:
            yield _path(entry.path) | {"kind": entry.kind.value}


def _encoded(case: VolumeCase) -> bytes:
    wrong = (None if path is None else name_of(path[:_SHOWN_BYTES]).path for path in case.wrong)
    entries = _with_folders(case.entries) if case.lists_folders else case.entries
    value: dict[str, Any] = {
        "text": case.text,
        "profile": "dsj-a8",
        "docked_at": _DOCKED_AT,
        "evidence_level": case.evidence.value,
        "entries": list(_listed(entries)),
        "faults": list(case.faults),
        "expect": case.code.value if case.code else None,
        "expect_paths": list(wrong),
        "companions": [code.value for code in case.companions],
    }
    if case.max_entries is not None:
        value["max_entries"] = case.max_entries
    if case.told is not None:
        value["told"] = json.loads(strict_json.encode(case.told))
    # In ASCII: a name that turns the text around turns it around in an editor as well.
    return json.dumps(value, indent=2, sort_keys=True).encode() + b"\n"
