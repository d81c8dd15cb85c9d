"""From what one docking claims to signed manifests, each linked to the one before."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Final, TypeVar
from zoneinfo import ZoneInfo

from msgspec import Struct

from edge_agent.ingest.files import FileId, FileRow
from edge_agent.ingest.inventory import (
    EARLIEST_PLAUSIBLE,
    LATEST_AFTER_DOCKING,
    FoundClip,
    local_time,
)
from edge_agent.manifest.settling import ClaimedFile, ClaimedRecording, Settlement
from protocol import envelope, strict_json
from protocol.chain import ChainHead
from protocol.digest import sha256_hex
from protocol.errors import IdentifierError
from protocol.findings import Finding
from protocol.identifiers import (
    BayNumber,
    DockId,
    DockingId,
    ManifestId,
    OfficerId,
    RecordingId,
    parse_officer,
)
from protocol.keys import SigningKey
from protocol.manifest import (
    MAX_FILES,
    Clip,
    ClockFacts,
    DateBasis,
    EvidenceLevel,
    Incomplete,
    Isolation,
    KnownFile,
    Manifest,
    NotTaken,
    RecorderFacts,
    Recording,
    StagedFile,
    WatchedLog,
    exact_path,
    name_of,
)
from protocol.versions import Statement

T = TypeVar("T", bound=Struct)

# The envelope holds at most 24 MiB of payload; a part is closed long before.
PART_BYTES: Final = 8 * 1024 * 1024
# Of a part with recordings: the bag of each of them carries the manifest, and reads it when it is
# closed. A thousand photographs in one manifest would be a thousand copies of a thousand lines.
RECORDINGS_PART_BYTES: Final = 64 * 1024
# Other names of one recording's contents; what is more is listed as known in a later part.
ALIAS_BYTES: Final = 256 * 1024
# As long as any: what a recording takes is known before it is claimed.
_SOME_ID: Final = RecordingId("00000000-0000-7000-8000-000000000000")


@dataclass(frozen=True, slots=True, kw_only=True)
class DockingFacts:
    """What a manifest says about the docking as a whole; times are aware."""

    dock: DockId
    docking_id: DockingId
    bay: BayNumber
    recorder: RecorderFacts
    officer: OfficerId | None
    clock: ClockFacts
    isolation: Isolation
    log: WatchedLog | None
    evidence_level: EvidenceLevel
    agent: str
    docked_at: datetime
    ended_at: datetime
    zone: ZoneInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedManifest:
    """One signed manifest, and which files it claims."""

    manifest: Manifest
    payload_sha256: str
    envelope: bytes
    claims: tuple[FileId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """All that one docking's manifests list."""

    settlement: Settlement
    not_taken: tuple[NotTaken, ...] = ()
    findings: tuple[Finding, ...] = ()


Mint = Callable[[], str]


def seal_docking(
    facts: DockingFacts,
    content: Content,
    head: ChainHead,
    *,
    key: SigningKey,
    mint: Mint,
    sealed_at: datetime,
    first_part: int = 1,
    is_end: bool = True,
) -> Iterator[SealedManifest]:
    """Yield the manifests of a docking, or of a piece of it: at least one, as many as are needed.

    A recording is never split over two of them. Each is built when it is asked for.

    Args:
        facts: Of the docking.
        content: What is listed.
        head: Where the dock's chain ends now.
        key: The dock's.
        mint: Gives a new UUIDv7 each time.
        sealed_at: Now, aware.
        first_part: The docking's number of the first of them.
        is_end: Whether the docking has no more.
    """
    parts = _fill_parts(facts, content, mint)
    for number, part in enumerate(parts, start=first_part):
        is_last = is_end and part is parts[-1]
        manifest = _manifest(
            facts, part, head, mint, sealed_at=sealed_at, number=number, is_last=is_last
        )
        payload = strict_json.encode(manifest)
        head = ChainHead(sequence=manifest.sequence, payload_sha256=sha256_hex(payload))
        yield SealedManifest(
            manifest=manifest,
            payload_sha256=head.payload_sha256,
            envelope=envelope.seal(payload, Statement.MANIFEST, key),
            claims=tuple(part.claims()),
        )


def _manifest(
    facts: DockingFacts,
    part: "_Part",
    head: ChainHead,
    mint: Mint,
    *,
    sealed_at: datetime,
    number: int,
    is_last: bool,
) -> Manifest:
    recordings = tuple(part.recordings(facts, mint))
    other_files = tuple(part.other_files())
    return Manifest(
        manifest_id=part.manifest_id,
        dock=facts.dock,
        sequence=head.sequence + 1,
        previous_sha256=head.payload_sha256,
        sealed_at=sealed_at,
        docking_id=facts.docking_id,
        part=number,
        last_part=is_last,
        docked_at=facts.docked_at,
        ended_at=facts.ended_at,
        bay=facts.bay,
        recorder=facts.recorder,
        officer=facts.officer,
        clock=facts.clock,
        isolation=facts.isolation,
        log=facts.log,
        evidence_level=_proved_level(facts.evidence_level, recordings, other_files),
        agent=facts.agent,
        recordings=recordings,
        other_files=other_files,
        known=tuple(part.known),
        not_taken=tuple(part.not_taken),
        incomplete=tuple(part.incomplete),
        findings=tuple(part.findings),
    )


def _proved_level(
    requested: EvidenceLevel, recordings: Iterable[Recording], other_files: Iterable[StagedFile]
) -> EvidenceLevel:
    clips = (clip.file for recording in recordings for clip in recording.clips)
    levels = (file.evidence for file in (*clips, *other_files))
    return min((requested, *levels), key=lambda level: level.value)


@dataclass(slots=True, kw_only=True)
class _Part:
    """One manifest that is being filled, with what it claims as it was settled."""

    manifest_id: ManifestId
    claimed: list[ClaimedRecording | ClaimedFile] = field(default_factory=list)
    known: list[KnownFile] = field(default_factory=list)
    not_taken: list[NotTaken] = field(default_factory=list)
    incomplete: list[Incomplete] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    files: int = 0
    weight_bytes: int = 0
    has_recordings: bool = False
    paths: set[bytes] = field(default_factory=set)

    def has_room(self, weight_bytes: int, *, for_recording: bool = False) -> bool:
        light = self.has_recordings or for_recording
        most_bytes = RECORDINGS_PART_BYTES if light else PART_BYTES
        # What is heavier than a whole part gets one of its own.
        return not self.weight_bytes or self.weight_bytes + weight_bytes <= most_bytes

    def takes(self, unit: "_Unit") -> bool:
        return (
            self.files + unit.files <= MAX_FILES
            and self.has_room(unit.weight_bytes, for_recording=unit.is_recording)
            and self.paths.isdisjoint(unit.paths)
        )

    def add(self, unit: "_Unit") -> None:
        self.claimed.append(unit.claimed)
        self.files += unit.files
        self.weight_bytes += unit.weight_bytes
        self.has_recordings |= unit.is_recording
        self.paths |= unit.paths

    def recordings(self, facts: DockingFacts, mint: Mint) -> Iterator[Recording]:
        for one in self.claimed:
            if isinstance(one, ClaimedRecording):
                yield _recording(one, facts, RecordingId(mint()))

    def other_files(self) -> Iterator[StagedFile]:
        for one in self.claimed:
            if isinstance(one, ClaimedFile):
                yield _staged(one, _room_for_names([one])[0])

    def claims(self) -> Iterator[FileId]:
        for file in (file for one in self.claimed for file in _files_of(one)):
            yield file.row.file_id
            yield from (row.file_id for row in file.also)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unit:
    """What goes into one manifest whole, a recording or another file, and what it takes there.

    ``spilled`` are names for which there was no room beside their content.
    """

    claimed: ClaimedRecording | ClaimedFile
    files: int
    spilled: tuple[FileRow, ...]
    weight_bytes: int
    paths: frozenset[bytes]

    @property
    def is_recording(self) -> bool:
        return isinstance(self.claimed, ClaimedRecording)


def _fill_parts(facts: DockingFacts, content: Content, mint: Mint) -> list[_Part]:
    parts = [_Part(manifest_id=ManifestId(mint()))]
    spilled: list[KnownFile] = []
    for unit in _units(facts, content.settlement):
        # A file that changed since an earlier docking has one path and two contents.
        part = next((one for one in parts[-2:] if one.takes(unit)), None)
        if part is None:
            # Nobody looks any more at what is in those before the last two.
            for full in parts[-2:-1]:
                full.paths = set()
            part = _Part(manifest_id=ManifestId(mint()))
            parts.append(part)
        part.add(unit)
        spilled += [_known_as(row, part.manifest_id) for row in unit.spilled]
    findings = (*content.findings, *content.settlement.findings)
    _spread(parts, content.settlement.known, lambda part: part.known, MAX_FILES, mint)
    _spread(parts, content.not_taken, lambda part: part.not_taken, MAX_FILES, mint)
    _spread(parts, content.settlement.incomplete, lambda part: part.incomplete, MAX_FILES, mint)
    _spread(parts, findings, lambda part: part.findings, 2 * MAX_FILES, mint)
    if spilled:
        # Known is what an earlier manifest claims.
        parts.append(_Part(manifest_id=ManifestId(mint())))
        later = len(parts) - 1
        _spread(parts, spilled, lambda part: part.known, MAX_FILES, mint, first=later)
    return parts


def _spread(
    parts: list[_Part],
    items: Iterable[T],
    place: Callable[[_Part], list[T]],
    limit: int,
    mint: Mint,
    *,
    first: int = 0,
) -> None:
    """Put *items* into the parts in order from *first* on, opening new ones when all are full."""
    index = first
    for item in items:
        weight_bytes = len(strict_json.encode(item))
        while len(place(parts[index])) >= limit or not parts[index].has_room(weight_bytes):
            index += 1
            if index == len(parts):
                parts.append(_Part(manifest_id=ManifestId(mint())))
        place(parts[index]).append(item)
        parts[index].weight_bytes += weight_bytes


def _units(facts: DockingFacts, settlement: Settlement) -> Iterator[_Unit]:
    for claimed in settlement.recordings:
        recording = _recording(claimed, facts, _SOME_ID)
        yield _unit(claimed, recording, [clip.file for clip in recording.clips])
    for file in settlement.others:
        staged = _staged(file, _room_for_names([file])[0])
        yield _unit(file, staged, [staged])


def _unit(
    claimed: ClaimedRecording | ClaimedFile,
    value: Recording | StagedFile,
    staged: Sequence[StagedFile],
) -> _Unit:
    _, spilled = _room_for_names(_files_of(claimed))
    return _Unit(
        claimed=claimed,
        files=len(staged),
        spilled=spilled,
        weight_bytes=len(strict_json.encode(value)),
        paths=frozenset(exact_path(n) for file in staged for n in (file.name, *file.also_named)),
    )


def _files_of(claimed: ClaimedRecording | ClaimedFile) -> list[ClaimedFile]:
    if isinstance(claimed, ClaimedFile):
        return [claimed]
    return [one.file for one in claimed.clips]


def _recording(
    claimed: ClaimedRecording, facts: DockingFacts, recording_id: RecordingId
) -> Recording:
    names, _ = _room_for_names(_files_of(claimed))
    first = claimed.clips[0].clip
    recorded_on, basis = date_recording(first, facts)
    return Recording(
        recording_id=recording_id,
        clips=tuple(
            Clip(
                file=_staged(one.file, names),
                kind=one.clip.kind,
                sequence=one.clip.sequence,
                started=one.clip.started,
                marked=one.clip.marked or any(row.marked for row in one.file.also),
            )
            for one in claimed.clips
        ),
        recorded_on=recorded_on,
        date_basis=basis,
        started=first.started,
        officer=_officer_of(first) or facts.officer,
        complete=claimed.complete,
    )


def _room_for_names(
    files: Sequence[ClaimedFile],
) -> tuple[set[FileId], tuple[FileRow, ...]]:
    """Return which other names are listed beside their content, and the rows of those that are not.

    A name that stands twice, with two times, is listed once.
    """
    named: set[FileId] = set()
    spilled: list[FileRow] = []
    paths = Counter(file.row.key.path for file in files)
    room_bytes = ALIAS_BYTES
    for file in files:
        for row in file.also:
            room_bytes -= len(row.key.path)
            if room_bytes < 0 or paths[row.key.path]:
                spilled.append(row)
            else:
                named.add(row.file_id)
                paths[row.key.path] += 1
    return named, tuple(spilled)


def _staged(file: ClaimedFile, named: set[FileId]) -> StagedFile:
    row = file.row
    if row.digests is None or row.evidence is None:
        raise ValueError(f"{row.file_id} is claimed before it was staged")
    return StagedFile(
        name=name_of(row.key.path),
        size_bytes=row.key.size_bytes,
        mtime_ns=row.key.mtime_ns,
        digests=row.digests,
        evidence=row.evidence,
        also_named=tuple(name_of(one.key.path) for one in file.also if one.file_id in named),
    )


def _known_as(row: FileRow, manifest_id: ManifestId) -> KnownFile:
    if row.digests is None:
        raise ValueError(f"{row.file_id} is claimed before it was staged")
    return KnownFile(
        name=name_of(row.key.path),
        size_bytes=row.key.size_bytes,
        mtime_ns=row.key.mtime_ns,
        sha256=row.digests.sha256,
        manifest_id=manifest_id,
        marked=row.marked,
    )


def date_recording(first: FoundClip, facts: DockingFacts) -> tuple[date, DateBasis]:
    """Return a recording's local date and what it rests on.

    The recorder's own word for the start, less its known drift; where that is missing or cannot
    be right, the file's time; where that cannot be right either, what there is.
    """
    latest = (facts.docked_at + LATEST_AFTER_DOCKING).astimezone(facts.zone).replace(tzinfo=None)
    earliest = EARLIEST_PLAUSIBLE.replace(tzinfo=None)
    basis = DateBasis.RECORDER_CLOCK
    started = first.started
    if started is not None and facts.clock.drift_ms is not None:
        basis = DateBasis.CORRECTED_CLOCK
        try:
            started -= timedelta(milliseconds=facts.clock.drift_ms)
        except OverflowError:
            basis = DateBasis.RECORDER_CLOCK
    written = local_time(first.key.mtime_ns, facts.zone)
    candidates = [
        (moment, because)
        for moment, because in ((started, basis), (written, DateBasis.FILE_TIME))
        if moment is not None
    ]
    plausible = [one for one in candidates if earliest <= one[0] <= latest]
    for moment, because in (*plausible, *candidates):
        return moment.date(), because
    return facts.docked_at.astimezone(facts.zone).date(), DateBasis.FILE_TIME


def _officer_of(clip: FoundClip) -> OfficerId | None:
    try:
        return None if clip.officer is None else parse_officer(clip.officer)
    except IdentifierError:
        return None
