"""What a dock claims about one docking: version 1 of the manifest.

A docking of more than MAX_FILES files is claimed in several manifests
(``part`` 1, 2, …). Each is numbered per dock without gaps and names the digest
of the one before: see protocol.chain.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date, datetime
from enum import Enum, unique
from typing import Annotated, Final

from msgspec import Meta

from protocol.digest import Digests, HexDigest
from protocol.findings import MAX_PATH_CHARACTERS, Finding, FindingCode
from protocol.identifiers import (
    BayField,
    DockField,
    DockingField,
    ManifestField,
    OfficerField,
    RecorderField,
    RecordingField,
)
from protocol.strict_json import Message

# A choice: one manifest stays about 1 MiB, and a dock's memory flat, whatever a recorder holds.
MAX_FILES: Final = 2_000
# Of one file that cannot be read whole. What is more is counted in ``taken_bytes``.
MAX_RANGES: Final = 1_000
_INT64_MAX: Final = (1 << 63) - 1

UtcTime = Annotated[datetime, Meta(tz=True)]
RecorderTime = Annotated[datetime, Meta(tz=False)]
SizeBytes = Annotated[int, Meta(ge=0, le=_INT64_MAX)]
MtimeNs = Annotated[int, Meta(ge=-_INT64_MAX, le=_INT64_MAX)]
Label = Annotated[str, Meta(max_length=128)]
PathText = Annotated[str, Meta(min_length=1, max_length=MAX_PATH_CHARACTERS)]
RawPath = Annotated[bytes, Meta(min_length=1, max_length=8_192)]


@unique
class EvidenceLevel(Enum):
    """How far a copy was proved: hash of the stream; evicted read-back; source read twice."""

    L1 = "L1"
    L2 = "L2"
    L3 = "L3"


@unique
class Isolation(Enum):
    """What the dock knows of the no-internet rule while it read this recorder."""

    HOLDING = "holding"
    BREACHED = "breached"
    RESTORED = "restored"
    NOT_ENFORCED = "not_enforced"


@unique
class LogState(Enum):
    """What a dock makes of the archive's log."""

    CONSISTENT = "consistent"
    DOUBTED = "doubted"
    CONTRADICTED = "contradicted"


class WatchedLog(Message, frozen=True, kw_only=True):
    """What a dock saw last of the archive's custody log; each of its manifests says so.

    Attributes:
        origin: The log's name.
        size: Entries.
        root_sha256: Of their tree.
        state: Doubted: what came since was not shown to go on from here. Contradicted: the archive
            signed something that cannot be true beside it.
    """

    origin: Annotated[str, Meta(min_length=1, max_length=200)]
    size: Annotated[int, Meta(ge=0, le=_INT64_MAX)]
    root_sha256: HexDigest
    state: LogState


@unique
class ClipKind(Enum):
    """What a clip is, by its name; nobody opened it."""

    VIDEO = "video"
    AUDIO = "audio"
    PHOTO = "photo"


@unique
class IncompleteReason(Enum):
    """Why a file that was seen is not in this manifest's archive list."""

    RECORDER_LEFT = "recorder_left"
    UNREADABLE = "unreadable"
    SIZE_CHANGED = "size_changed"
    AGENT_STOPPED = "agent_stopped"
    NO_SPACE = "no_space"
    HELD = "held"


@unique
class DateBasis(Enum):
    """What a recording's date rests on."""

    RECORDER_CLOCK = "recorder_clock"
    CORRECTED_CLOCK = "corrected_clock"
    FILE_TIME = "file_time"


class FileName(Message, frozen=True, kw_only=True):
    r"""A path on the recorder.

    ``path`` is its text, with "/" between components; where the bytes are not
    UTF-8 the text shows each wrong byte as \xNN and ``raw_path`` has the exact bytes.
    """

    path: PathText
    raw_path: RawPath | None = None


class StagedFile(Message, frozen=True, kw_only=True):
    """A file of which the dock holds a durable copy, proved to ``evidence``."""

    name: FileName
    size_bytes: SizeBytes
    mtime_ns: MtimeNs
    digests: Digests
    evidence: EvidenceLevel
    also_named: tuple[FileName, ...] = ()


class Clip(Message, frozen=True, kw_only=True):
    """One file of a recording, with what its name says."""

    file: StagedFile
    kind: ClipKind
    sequence: int | None = None
    started: RecorderTime | None = None
    marked: bool = False


class Recording(Message, frozen=True, kw_only=True):
    """One activation of a recorder: its clips in order; ``started`` by the recorder's clock.

    ``recorded_on`` is the local date, corrected by the drift if that is known.
    """

    recording_id: RecordingField
    clips: Annotated[tuple[Clip, ...], Meta(min_length=1, max_length=MAX_FILES)]
    recorded_on: date
    date_basis: DateBasis
    started: RecorderTime | None = None
    officer: OfficerField | None = None
    complete: bool = True

    @property
    def marked(self) -> bool:
        """Whether the officer marked any clip as important."""
        return any(clip.marked for clip in self.clips)


class KnownFile(Message, frozen=True, kw_only=True):
    """A file still on the recorder that an earlier manifest claimed; not read again."""

    name: FileName
    size_bytes: SizeBytes
    mtime_ns: MtimeNs
    sha256: HexDigest
    manifest_id: ManifestField
    marked: bool = False


class NotTaken(Message, frozen=True, kw_only=True):
    """An entry that was seen and is no evidence, by the code of the finding that says why."""

    name: FileName
    code: FindingCode
    size_bytes: SizeBytes | None = None


class ByteRange(Message, frozen=True, kw_only=True):
    """A part of a file on the recorder, with the digest of just that part."""

    offset_bytes: SizeBytes
    size_bytes: Annotated[int, Meta(ge=1, le=_INT64_MAX)]
    sha256: HexDigest

    @property
    def end_bytes(self) -> int:
        """Where the part ends."""
        return self.offset_bytes + self.size_bytes


class Incomplete(Message, frozen=True, kw_only=True):
    """A file that should have been taken and was not, as far as it came.

    ``taken_bytes`` is how many different bytes of it the dock holds. ``readable`` says which, by
    offset, where some beyond the beginning are held as well: a part that an earlier docking held
    may overlap the one before it. What was not read is a hole, not zeros.
    """

    name: FileName
    reason: IncompleteReason
    size_bytes: SizeBytes
    taken_bytes: SizeBytes = 0
    readable: Annotated[tuple[ByteRange, ...], Meta(max_length=MAX_RANGES)] = ()


class RecorderFacts(Message, frozen=True, kw_only=True):
    """The recorder as it named itself, and as the registry knows it."""

    recorder_id: RecorderField
    make: Label
    model: Label
    serial: Label
    profile: Label
    firmware: Label | None = None
    battery_percent: Annotated[int, Meta(ge=0, le=100)] | None = None


class ClockFacts(Message, frozen=True, kw_only=True):
    """The dock's time at docking, and the recorder's before anything was set."""

    dock_time: UtcTime
    timezone: Label
    synchronised: bool | None = None
    recorder_time: RecorderTime | None = None
    drift_ms: int | None = None


class Manifest(Message, frozen=True, kw_only=True):
    """One docking, or one part of a large one, as its dock signs it."""

    manifest_id: ManifestField
    dock: DockField
    sequence: Annotated[int, Meta(ge=1, le=_INT64_MAX)]
    previous_sha256: HexDigest
    sealed_at: UtcTime
    docking_id: DockingField
    part: Annotated[int, Meta(ge=1)]
    last_part: bool
    docked_at: UtcTime
    ended_at: UtcTime
    bay: BayField
    recorder: RecorderFacts
    officer: OfficerField | None
    clock: ClockFacts
    isolation: Isolation
    evidence_level: EvidenceLevel
    agent: Label
    recordings: Annotated[tuple[Recording, ...], Meta(max_length=MAX_FILES)] = ()
    other_files: Annotated[tuple[StagedFile, ...], Meta(max_length=MAX_FILES)] = ()
    known: Annotated[tuple[KnownFile, ...], Meta(max_length=MAX_FILES)] = ()
    not_taken: Annotated[tuple[NotTaken, ...], Meta(max_length=MAX_FILES)] = ()
    incomplete: Annotated[tuple[Incomplete, ...], Meta(max_length=MAX_FILES)] = ()
    findings: Annotated[tuple[Finding, ...], Meta(max_length=2 * MAX_FILES)] = ()
    log: WatchedLog | None = None

    def staged_files(self) -> Iterator[StagedFile]:
        """Yield every file whose bytes this manifest promises, clips first, in order."""
        for recording in self.recordings:
            for clip in recording.clips:
                yield clip.file
        yield from self.other_files


def contradictions(manifest: Manifest) -> tuple[str, ...]:
    """Return where *manifest* contradicts itself, in English; empty when it does not.

    Source:
        docs/architecture.md, admission check 9.
    """
    found: list[str] = []
    files = list(manifest.staged_files())
    if len(files) > MAX_FILES:
        found.append(f"{len(files)} files, at most {MAX_FILES}")
    names = Counter(exact_path(name) for file in files for name in (file.name, *file.also_named))
    found += [f"{path!r} is named {count} times" for path, count in names.items() if count > 1]
    recordings = Counter(recording.recording_id for recording in manifest.recordings)
    found += [
        f"recording {one} stands {count} times" for one, count in recordings.items() if count > 1
    ]
    sizes: dict[str, int] = {}
    for file in files:
        known = sizes.setdefault(file.digests.sha256, file.size_bytes)
        if known != file.size_bytes:
            found.append(f"{file.digests.sha256} has two sizes: {known} and {file.size_bytes}")
    digests = Counter(file.digests.sha256 for file in files)
    found += [f"{one} is listed {count} times" for one, count in digests.items() if count > 1]
    if any(file.evidence.value < manifest.evidence_level.value for file in files):
        found.append("a file is proved to less than the manifest's evidence level")
    found += [
        f"{one.name.path!r}: its readable parts are not parts of it"
        for one in manifest.incomplete
        if not _are_parts(one)
    ]
    if (manifest.sequence == 1) != (manifest.previous_sha256 == "0" * 64):
        found.append("only a dock's first manifest has no predecessor")
    return tuple(found)


def covered_bytes(ranges: Iterable[ByteRange]) -> int:
    """Return how many different bytes *ranges*, which are in the order of their offsets, hold."""
    covered = reached = 0
    for one in ranges:
        covered += max(0, one.end_bytes - max(reached, one.offset_bytes))
        reached = max(reached, one.end_bytes)
    return covered


def _are_parts(incomplete: Incomplete) -> bool:
    offsets = [one.offset_bytes for one in incomplete.readable]
    return (
        offsets == sorted(set(offsets))
        and all(one.end_bytes <= incomplete.size_bytes for one in incomplete.readable)
        and covered_bytes(incomplete.readable) <= incomplete.taken_bytes <= incomplete.size_bytes
    )


def exact_path(name: FileName) -> bytes:
    """Return the path's exact bytes as the recorder has them."""
    return name.path.encode() if name.raw_path is None else name.raw_path


def name_of(path: bytes) -> FileName:
    """Return a path's exact bytes as a FileName; never fails and loses nothing."""
    try:
        return FileName(path=path.decode())
    except UnicodeDecodeError:
        return FileName(path=path.decode(errors="backslashreplace"), raw_path=path)
