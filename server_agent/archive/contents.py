"""bayward/recording.json: what a bag holds, for whoever finds the bag and nothing else.

All of it is a view of the dock's signed manifest, with the names below data/ added;
`contradictions_with` is what keeps it one.
"""

from datetime import date
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from protocol.digest import Digests
from protocol.identifiers import (
    BayField,
    DockField,
    DockingField,
    ManifestField,
    OfficerField,
    RecordingField,
)
from protocol.manifest import (
    MAX_FILES,
    ClipKind,
    ClockFacts,
    DateBasis,
    EvidenceLevel,
    FileName,
    Isolation,
    Manifest,
    MtimeNs,
    PathText,
    RawPath,
    RecorderFacts,
    RecorderTime,
    Recording,
    SizeBytes,
    StagedFile,
    UtcTime,
    exact_path,
)
from protocol.strict_json import Message, encode, parse
from server_agent.archive.request import BagFile

FORMAT: Final = "bayward-recording-1"
# As much as an envelope of the largest size can become: names stand twice, one value to a line.
MAX_CONTENTS_BYTES: Final = 160 * 1024 * 1024


class OriginalName(Message, frozen=True, kw_only=True):
    """A file's path on the recorder: as text, and its exact bytes (base64 in JSON)."""

    path: PathText
    path_bytes: RawPath


class ContentFile(Message, frozen=True, kw_only=True):
    """One payload file: its name below data/, and what the dock's manifest says of it."""

    stored_as: Annotated[str, Meta(min_length=1, max_length=180)]
    original: OriginalName
    size_bytes: SizeBytes
    digests: Digests
    mtime_ns: MtimeNs
    evidence: EvidenceLevel
    also_named: tuple[OriginalName, ...] = ()
    kind: ClipKind | None = None
    sequence: int | None = None
    started: RecorderTime | None = None
    marked: bool = False


class RecordingFacts(Message, frozen=True, kw_only=True):
    """What the dock's manifest says of the recording; times by the recorder's clock."""

    recording_id: RecordingField
    recorded_on: date
    date_basis: DateBasis
    complete: bool
    started: RecorderTime | None = None


class BagContents(Message, frozen=True, kw_only=True):
    """The whole of recording.json; ``recording`` is None in the bag of a docking's other files."""

    format: str
    manifest_id: ManifestField
    dock: DockField
    bay: BayField
    docking_id: DockingField
    part: Annotated[int, Meta(ge=1)]
    docked_at: UtcTime
    ended_at: UtcTime
    recorder: RecorderFacts
    clock: ClockFacts
    isolation: Isolation
    files: Annotated[tuple[ContentFile, ...], Meta(min_length=1, max_length=MAX_FILES)]
    officer: OfficerField | None = None
    recording: RecordingFacts | None = None


def describe(
    manifest: Manifest, recording: Recording | None, files: tuple[BagFile, ...]
) -> BagContents:
    """Return what the bag of *recording*, or of a docking's other files, holds.

    Args:
        manifest: The dock's claim.
        recording: One of the manifest's recordings, or None.
        files: The bag's files with their names below data/, in the manifest's order.
    """
    clips = {clip.file.digests.sha256: clip for clip in recording.clips} if recording else {}
    described: list[ContentFile] = []
    for bag_file in files:
        clip = clips.get(bag_file.file.digests.sha256)
        described.append(
            ContentFile(
                stored_as=bag_file.safe_name,
                original=_original(bag_file.file.name),
                also_named=tuple(map(_original, bag_file.file.also_named)),
                size_bytes=bag_file.file.size_bytes,
                digests=bag_file.file.digests,
                mtime_ns=bag_file.file.mtime_ns,
                evidence=bag_file.file.evidence,
                kind=clip.kind if clip else None,
                sequence=clip.sequence if clip else None,
                started=clip.started if clip else None,
                marked=clip.marked if clip else False,
            )
        )
    return BagContents(
        format=FORMAT,
        manifest_id=manifest.manifest_id,
        dock=manifest.dock,
        bay=manifest.bay,
        docking_id=manifest.docking_id,
        part=manifest.part,
        docked_at=manifest.docked_at,
        ended_at=manifest.ended_at,
        recorder=manifest.recorder,
        clock=manifest.clock,
        isolation=manifest.isolation,
        files=tuple(described),
        officer=(recording.officer if recording else None) or manifest.officer,
        recording=_facts(recording) if recording else None,
    )


def encode_contents(contents: BagContents) -> bytes:
    """Return recording.json: the same value gives the same bytes; lines for people to read."""
    return msgspec.json.format(encode(contents), indent=2) + b"\n"


def parse_contents(untrusted: bytes) -> BagContents:
    """Return what a recording.json says.

    Raises:
        ProtocolError: It is not one.
    """
    return parse(untrusted, BagContents, max_bytes=MAX_CONTENTS_BYTES)


def promised_files(manifest: Manifest, contents: BagContents) -> tuple[StagedFile, ...] | None:
    """Return the files that *manifest* promises for the bag that *contents* describes.

    Returns:
        In the manifest's order; None if the manifest knows no such recording, or no other files.
    """
    if contents.recording is None:
        return manifest.other_files or None
    wanted = contents.recording.recording_id
    for recording in manifest.recordings:
        if recording.recording_id == wanted:
            return tuple(clip.file for clip in recording.clips)
    return None


def contradictions_with(manifest: Manifest, contents: BagContents) -> tuple[str, ...]:
    """Return where *contents* says something else than the signed *manifest*, in English."""
    promised = promised_files(manifest, contents)
    if promised is None:
        return ("the dock's manifest promises no such files",)
    recordings = {recording.recording_id: recording for recording in manifest.recordings}
    recording = recordings.get(contents.recording.recording_id) if contents.recording else None
    names = {file.digests.sha256: file.stored_as for file in contents.files}
    missing = [file for file in promised if file.digests.sha256 not in names]
    if missing or len(contents.files) != len(promised):
        counts = f"{len(contents.files)} files where {len(promised)} were promised"
        return (f"{counts}, {len(missing)} of which are not there",)
    files = tuple(BagFile(safe_name=names[file.digests.sha256], file=file) for file in promised)
    signed = describe(manifest, recording, files)
    return tuple(
        f"{field} is not what the dock's manifest says"
        for field in BagContents.__struct_fields__
        if getattr(signed, field) != getattr(contents, field)
    )


def _original(name: FileName) -> OriginalName:
    return OriginalName(path=name.path, path_bytes=exact_path(name))


def _facts(recording: Recording) -> RecordingFacts:
    return RecordingFacts(
        recording_id=recording.recording_id,
        recorded_on=recording.recorded_on,
        date_basis=recording.date_basis,
        complete=recording.complete,
        started=recording.started,
    )
