"""Whether a file of the listing is one that was taken before; its name, size and time do not say.

A recorder whose clock begins anew after each dead battery writes other bytes under the same name,
with the same time and, in clips of a fixed length, the same size.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from edge_agent.errors import SourceUnreadableError
from edge_agent.ingest.copying import hash_again
from edge_agent.ingest.files import FileKey, FileRow, FileState
from edge_agent.ingest.inventory import found_file, implausible_times
from edge_agent.ingest.profile import Profile
from edge_agent.ingest.volume import SourceFile, Volume
from protocol.findings import MAX_DETAIL_CHARACTERS, Finding, FindingCode
from protocol.identifiers import DockingId
from protocol.manifest import name_of

_BLOCK_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognition:
    """What a look at files that seem to be known has shown.

    Attributes:
        generations: By key of the listing, where it is not 0.
        findings: About files that could not be looked at; they are taken for known.
    """

    generations: Mapping[FileKey, int]
    findings: tuple[Finding, ...] = ()


def fingerprint(source: SourceFile, size_bytes: int) -> str:
    """Return the SHA-256 of the first, the middle and the last 64 KiB of a file.

    Raises:
        IngestError: From *source*.
    """
    digest = hashlib.sha256()
    last = max(0, size_bytes - _BLOCK_BYTES)
    for offset_bytes in (0, last // 2, last):
        digest.update(source.read_at(offset_bytes, _BLOCK_BYTES))
    return digest.hexdigest()


def fingerprint_of(content: bytes) -> str:
    """Return what `fingerprint` returns of a file with this content."""
    digest = hashlib.sha256()
    last = max(0, len(content) - _BLOCK_BYTES)
    for offset_bytes in (0, last // 2, last):
        digest.update(content[offset_bytes : offset_bytes + _BLOCK_BYTES])
    return digest.hexdigest()


def newest_rows(rows: Iterable[FileRow]) -> dict[FileKey, FileRow]:
    """Return the row of the last generation for each key as a listing gives it."""
    newest: dict[FileKey, FileRow] = {}
    for row in sorted(rows, key=lambda row: row.key.generation):
        newest[replace(row.key, generation=0)] = row
    return newest


def recognise(
    volume: Volume,
    keys: Collection[FileKey],
    rows: Iterable[FileRow],
    profile: Profile,
    *,
    docking_id: DockingId,
    docked_at: datetime,
    progress: Callable[[], None],
) -> Recognition:
    """Look at each file that seems to be known: by samples, or whole where its time says nothing.

    Args:
        volume: Of the recorder; blocks.
        keys: Of the listing.
        rows: All that the journal has of this recorder.
        profile: Of its model.
        docking_id: Of the docking; what it read itself is not looked at again.
        docked_at: Aware.
        progress: Called often; may raise CopyStoppedError.

    Raises:
        SourceVanishedError: The recorder left.
    """
    newest = newest_rows(rows)
    generations: dict[FileKey, int] = {}
    findings: list[Finding] = []
    for key in keys:
        row = newest.get(key)
        if row is None:
            continue
        generation = row.key.generation
        if row.state is not FileState.COPYING and row.docking_id != docking_id:
            progress()
            in_full = bool(implausible_times(found_file(key, profile), profile.zone, docked_at))
            try:
                generation += not _is_same(volume, row, in_full=in_full, progress=progress)
            except SourceUnreadableError as error:
                findings.append(_not_compared(key, error))
        if generation:
            generations[key] = generation
    return Recognition(generations=generations, findings=tuple(findings))


def _is_same(volume: Volume, row: FileRow, *, in_full: bool, progress: Callable[[], None]) -> bool:
    with volume.open(row.key.path) as source:
        if fingerprint(source, row.key.size_bytes) != row.fingerprint:
            return False
        if not in_full:
            return True
        return row.digests is not None and hash_again(source, progress=progress) == (
            row.digests.sha256
        )


def _not_compared(key: FileKey, error: SourceUnreadableError) -> Finding:
    return Finding(
        code=FindingCode.UNREADABLE_FILE,
        path=name_of(key.path).path,
        detail=f"was taken before, and cannot be compared with that now: {error}"[
            :MAX_DETAIL_CHARACTERS
        ],
    )
