"""What one docking may claim: which recordings are whole, which are held, what is known already.

A content is claimed once per recorder, with all its names. A recording is claimed when nothing of
it is missing; until then its clips stay on the dock, listed as held.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from edge_agent.ingest.files import FileId, FileKey, FileRow, FileState
from edge_agent.ingest.grouping import ClipGroup
from edge_agent.ingest.inventory import FoundClip, FoundFile
from protocol.findings import MAX_DETAIL_CHARACTERS, Finding, FindingCode
from protocol.identifiers import DockingId
from protocol.manifest import (
    MAX_RANGES,
    ByteRange,
    Incomplete,
    IncompleteReason,
    KnownFile,
    covered_bytes,
    name_of,
)

_UNREAD: Final = frozenset({IncompleteReason.UNREADABLE, IncompleteReason.SIZE_CHANGED})


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedFile:
    """A content to be claimed: the row whose name it gets, and the rows of its other names."""

    row: FileRow
    also: tuple[FileRow, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedClip:
    """A content that is a clip."""

    clip: FoundClip
    file: ClaimedFile


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedRecording:
    """A recording to be claimed; *complete* is False when a clip of it was given up."""

    clips: tuple[ClaimedClip, ...]
    complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What a docking claims, and what it says about the rest."""

    recordings: tuple[ClaimedRecording, ...] = ()
    others: tuple[ClaimedFile, ...] = ()
    known: tuple[KnownFile, ...] = ()
    incomplete: tuple[Incomplete, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a docking knows at its end.

    Attributes:
        docking_id: This one.
        groups: Recordings as their clips' names make them, oldest first; of the listing, and of
            files that are staged since an earlier docking and gone from the recorder.
        others: Files that are no clips, likewise.
        listed: What is on the recorder now.
        absent: Unfinished files that are gone from it for good.
        rows: All that the journal has of this recorder.
        reasons: Why a file was not taken, where *default_reason* is not it.
    """

    docking_id: DockingId
    groups: tuple[ClipGroup, ...]
    others: tuple[FoundFile, ...]
    listed: Collection[FileKey]
    rows: Mapping[FileKey, FileRow]
    reasons: Mapping[FileKey, IncompleteReason]
    default_reason: IncompleteReason
    absent: Collection[FileKey] = frozenset()


def settle(seen: Seen) -> Settlement:
    """Return what the docking claims; a pure function of what it saw.

    A clip that could not be read at this docking, nor at an earlier one, or is gone from the
    recorder, no longer holds up the others: their recording is claimed as not complete.
    """
    chosen = _Chosen(seen.rows)
    recordings: list[ClaimedRecording] = []
    findings: list[Finding] = []
    for group in seen.groups:
        missing = [clip for clip in group.clips if _is_missing(seen, clip.key)]
        is_open = not all(_is_given_up(seen, clip.key) for clip in missing)
        if missing and len(missing) < len(group.clips) and not _is_settled(seen, group):
            findings.append(_lacks_clips(group, len(missing), is_open=is_open))
        if not is_open:
            recordings += _recordings(group, chosen, complete=not missing)
    others = [file for found in seen.others if (file := chosen.take(found.key)) is not None]
    keys = _all_keys(seen)
    return Settlement(
        recordings=tuple(recordings),
        others=tuple(others),
        known=tuple(_known(seen, keys)),
        incomplete=tuple(_incomplete(seen, keys, chosen)),
        findings=(*findings, *chosen.alias_findings()),
    )


class _Chosen:
    """Which contents are claimed, each once, by the first that takes it."""

    def __init__(self, rows: Mapping[FileKey, FileRow]) -> None:
        self._rows = rows
        self._names: dict[FileId, list[FileRow]] = defaultdict(list)
        for row in sorted(rows.values(), key=lambda row: row.key):
            if row.state is FileState.STAGED:
                self._names[row.content_id].append(row)
        self._contents: set[FileId] = set()
        self._aliases: list[tuple[FileRow, FileRow]] = []

    def row(self, key: FileKey) -> FileRow | None:
        """Return what the journal has of a file that was read to its end."""
        row = self._rows.get(key)
        return None if row is None or row.state is FileState.COPYING else row

    def is_claimed(self, row: FileRow) -> bool:
        """Return whether this docking claims the row's content, by whatever name."""
        return row.content_id in self._contents

    def take(self, *names: FileKey) -> ClaimedFile | None:
        """Claim the content of the first of *names* that is staged under that name."""
        for key in names:
            row = self._rows.get(key)
            if row is None or row.state is not FileState.STAGED or self.is_claimed(row):
                continue
            self._contents.add(row.content_id)
            also = tuple(one for one in self._names[row.content_id] if one is not row)
            self._aliases += [(row, one) for one in also]
            return ClaimedFile(row=row, also=also)
        return None

    def alias_findings(self) -> Iterator[Finding]:
        for row, alias in self._aliases:
            yield Finding(
                code=FindingCode.SAME_CONTENT,
                path=name_of(alias.key.path).path,
                detail=f"the same content as {name_of(row.key.path).path!r}"[
                    :MAX_DETAIL_CHARACTERS
                ],
            )


def _recordings(group: ClipGroup, chosen: _Chosen, *, complete: bool) -> Iterator[ClaimedRecording]:
    """Yield the group's recording, then one for each marked copy that has another content."""
    chain: list[ClaimedClip] = []
    strays: list[ClaimedClip] = []
    for slot in group.slots:
        read = [(clip, row) for clip in slot.candidates if (row := chosen.row(clip.key))]
        # Of equal contents the marked one gives the name.
        for content, clips in _by_content(read):
            file = chosen.take(*(clip.key for clip in clips))
            if file is not None:
                clip = next(one for one in clips if one.key == file.row.key)
                place = chain if content == read[0][1].content_id else strays
                place.append(ClaimedClip(clip=clip, file=file))
    if chain:
        yield ClaimedRecording(clips=tuple(chain), complete=complete)
    for stray in strays:
        yield ClaimedRecording(clips=(stray,), complete=True)


def _by_content(
    read: Iterable[tuple[FoundClip, FileRow]],
) -> Iterator[tuple[FileId, list[FoundClip]]]:
    contents: dict[FileId, list[FoundClip]] = defaultdict(list)
    for clip, row in read:
        contents[row.content_id].append(clip)
    for content, clips in contents.items():
        yield content, sorted(clips, key=lambda clip: not clip.marked)


def _is_missing(seen: Seen, key: FileKey) -> bool:
    row = seen.rows.get(key)
    return row is None or row.state is FileState.COPYING


def _is_settled(seen: Seen, group: ClipGroup) -> bool:
    """Return whether earlier manifests have said all of a recording that there is to say."""
    return all(_is_told(seen, clip.key) for clip in group.clips)


def _is_told(seen: Seen, key: FileKey) -> bool:
    row = seen.rows.get(key)
    if row is None or row.state is FileState.COPYING:
        return row is not None and row.lost and key in seen.absent
    return row.manifest_id is not None


def _is_given_up(seen: Seen, key: FileKey) -> bool:
    if key in seen.absent:
        return True
    row = seen.rows.get(key)
    return (
        row is not None
        and row.docking_id != seen.docking_id
        and seen.reasons.get(key, seen.default_reason) in _UNREAD
    )


def _all_keys(seen: Seen) -> list[tuple[FileKey, bool]]:
    """Return all files, each with whether its name says that it is marked."""
    return [
        *((clip.key, clip.marked) for group in seen.groups for clip in group.clips),
        *((found.key, False) for found in seen.others),
    ]


def _known(seen: Seen, keys: Iterable[tuple[FileKey, bool]]) -> Iterator[KnownFile]:
    for key, marked in keys:
        row = seen.rows.get(key)
        if row and row.manifest_id and row.digests and key in seen.listed:
            yield KnownFile(
                name=name_of(key.path),
                size_bytes=key.size_bytes,
                mtime_ns=key.mtime_ns,
                sha256=row.digests.sha256,
                manifest_id=row.manifest_id,
                marked=marked,
            )


def _incomplete(
    seen: Seen, keys: Iterable[tuple[FileKey, bool]], chosen: _Chosen
) -> Iterator[Incomplete]:
    told = {clip.key for group in seen.groups if _is_settled(seen, group) for clip in group.clips}
    told |= {found.key for found in seen.others if _is_told(seen, found.key)}
    for key, _ in keys:
        if key in told:
            continue
        row = seen.rows.get(key)
        if row is None or row.state is FileState.COPYING:
            reason = seen.reasons.get(key, seen.default_reason)
            if key in seen.absent:
                reason = IncompleteReason.UNREADABLE
            yield unfinished(key, row, reason)
        elif row.state is FileState.STAGED and not chosen.is_claimed(row):
            yield held_back(key)


def held_back(key: FileKey) -> Incomplete:
    """Return what a manifest says of a staged file that waits for others of its recording."""
    return Incomplete(
        name=name_of(key.path),
        reason=IncompleteReason.HELD,
        size_bytes=key.size_bytes,
        taken_bytes=key.size_bytes,
    )


def unfinished(key: FileKey, row: FileRow | None, reason: IncompleteReason) -> Incomplete:
    """Return what a manifest says of a file that was not taken whole, as far as it is held.

    Of a file that has changed, only how much had been taken: parts of two contents are no file.
    """
    held: tuple[ByteRange, ...] = ()
    if row is not None and row.salvaged and reason is not IncompleteReason.SIZE_CHANGED:
        held = row.held_ranges
    return Incomplete(
        name=name_of(key.path),
        reason=reason,
        size_bytes=key.size_bytes,
        taken_bytes=max(0 if row is None else row.verified_bytes, covered_bytes(held)),
        readable=held[:MAX_RANGES],
    )


def _lacks_clips(group: ClipGroup, missing: int, *, is_open: bool) -> Finding:
    what = "held until the recorder is back" if is_open else "claimed without what cannot be read"
    return Finding(
        code=FindingCode.RECORDING_INCOMPLETE,
        path=name_of(group.slots[0].first.key.path).path,
        detail=f"{missing} of {len(group.clips)} clips missing: {what}",
    )
