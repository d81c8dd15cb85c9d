"""How dockings end in the journal: sealed by the docking itself, or later when it was cut short."""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Final
from zoneinfo import ZoneInfo

from edge_agent.errors import ProfileError
from edge_agent.ingest.division import divide
from edge_agent.ingest.files import Device, FileId, FileKey, FileRow, FileState
from edge_agent.ingest.grouping import group_clips
from edge_agent.ingest.inventory import FoundClip, FoundFile, found_file
from edge_agent.ingest.profile import Profile
from edge_agent.ingest.told import told_findings
from edge_agent.manifest.sealing import Content, DockingFacts, seal_docking
from edge_agent.manifest.settling import Seen, Settlement, held_back, settle, unfinished
from edge_agent.ports import (
    DockingJournal,
    DockingOutcome,
    DockingPorts,
    DockingSettings,
    OpenDocking,
    OutcomeKind,
)
from protocol.findings import Finding, FindingCode
from protocol.identifiers import ManifestId
from protocol.manifest import ClockFacts, IncompleteReason

# In an outcome; all of them are in the manifests.
MOST_FINDINGS: Final = 1_000
_NO_ZONE: Final = ZoneInfo("UTC")


async def close_interrupted_dockings(
    ports: DockingPorts, settings: DockingSettings
) -> tuple[DockingOutcome, ...]:
    """Close every docking that the journal has as open, at the agent's start.

    What is whole is sealed; the rest is listed as not taken because the agent stopped, and is held
    until the recorder is back. Of a model that has no profile any more everything is held.
    """
    return tuple(
        [
            await close_interrupted(opened, ports, settings)
            for opened in await ports.journal.open_dockings()
        ]
    )


async def close_interrupted(
    opened: OpenDocking, ports: DockingPorts, settings: DockingSettings
) -> DockingOutcome:
    """Close one docking that nobody is busy with, a piece at a time."""
    # Only what was begun is known: what had been claimed before the docking says nothing new.
    keys = await ports.journal.unclaimed_keys(opened.device)
    profile = {one.name: one for one in settings.profiles}.get(opened.recorder.profile)
    kind, code, text = OutcomeKind.LEFT, None, ""
    if profile is None:
        kind, code = OutcomeKind.ATTENTION, ProfileError.code
        text = f"{opened.recorder.profile}: no such profile any more"
        most = settings.piece_files
        pieces = [keys[first : first + most] for first in range(0, len(keys), most)] or [()]
    else:
        division = partial(divide, (), keys, profile, most_files=settings.piece_files)
        pieces = [piece.gone for piece in await asyncio.to_thread(division)]
    said = Said()
    for number, piece in enumerate(pieces, start=1):
        rows = await rows_to_settle(ports.journal, opened.device, {key.path for key in piece})
        if profile is None:
            content = _all_held((rows[key] for key in piece), text)
        else:
            content = Content(settlement=settle(_seen(opened, piece, rows, profile)))
        zone = _NO_ZONE if profile is None else profile.zone
        is_end = number == len(pieces)
        content = with_told(content, opened) if is_end else content
        sealed = await seal(opened, zone, content, ports, settings, is_end=is_end)
        said.add(content, sealed)
    return said.outcome(kind, opened, problem=(code, text))


async def rows_to_settle(
    journal: DockingJournal, device: Device, paths: Collection[bytes]
) -> dict[FileKey, FileRow]:
    """Return what the journal has of some paths, and of other names of their staged contents."""
    rows = await journal.files_at(device, paths)
    staged = (row.digests for row in rows if row.state is FileState.STAGED)
    named = await journal.files_of(device, {one.sha256 for one in staged if one is not None})
    return {row.key: row for row in (*named, *rows)}


def _seen(
    opened: OpenDocking,
    keys: Collection[FileKey],
    rows: Mapping[FileKey, FileRow],
    profile: Profile,
) -> Seen:
    files = [found_file(key, profile) for key in keys]
    lost = frozenset(key for key in keys if rows[key].lost)
    return Seen(
        docking_id=opened.docking_id,
        groups=group_clips((one for one in files if isinstance(one, FoundClip)), profile),
        others=tuple(one for one in files if isinstance(one, FoundFile)),
        listed=frozenset(keys) - lost,
        rows=rows,
        reasons={},
        default_reason=IncompleteReason.AGENT_STOPPED,
        absent=lost,
    )


def _all_held(rows: Iterable[FileRow], problem: str) -> Content:
    incomplete = tuple(
        held_back(row.key)
        if row.state is FileState.STAGED
        else unfinished(row.key, row, IncompleteReason.AGENT_STOPPED)
        for row in rows
    )
    held = sum(one.reason is IncompleteReason.HELD for one in incomplete)
    finding = Finding(
        code=FindingCode.RECORDING_INCOMPLETE, detail=f"{problem}: {held} files are held"
    )
    return Content(settlement=Settlement(incomplete=incomplete), findings=(finding,))


def with_told(content: Content, opened: OpenDocking) -> Content:
    """Return what a docking says at its end, with what its recorder told before."""
    if opened.told is None:
        return content
    said = told_findings(opened.told, opened.recorder, opened.officer)
    return replace(content, findings=(*said, *content.findings))


async def seal(
    opened: OpenDocking,
    zone: ZoneInfo,
    content: Content,
    ports: DockingPorts,
    settings: DockingSettings,
    *,
    lost: Iterable[FileId] = (),
    is_end: bool = True,
) -> tuple[ManifestId, ...]:
    """Note manifests of a docking in the journal, and that it has ended unless it goes on.

    *lost* as in `DockingJournal.seal`.
    """
    told, docked_at = opened.told, datetime.fromtimestamp(opened.docked_at_ms / 1000, UTC)
    ended_at = ports.clock()
    facts = DockingFacts(
        dock=settings.dock,
        docking_id=opened.docking_id,
        bay=opened.bay,
        recorder=opened.recorder,
        officer=opened.officer,
        clock=ClockFacts(
            dock_time=docked_at,
            timezone=zone.key,
            recorder_time=None if told is None else told.recorder_time,
            drift_ms=None if told is None else told.drift_ms,
        ),
        isolation=ports.isolation(),
        log=ports.watched_log(),
        evidence_level=settings.evidence_level,
        agent=settings.agent,
        docked_at=docked_at,
        ended_at=ended_at,
        zone=zone,
    )
    return await ports.journal.seal(
        opened.docking_id,
        lambda head, first_part: seal_docking(
            facts,
            content,
            head,
            key=settings.key,
            mint=ports.mint,
            sealed_at=ended_at,
            first_part=first_part,
            is_end=is_end,
        ),
        ended_at_ms=unix_ms(ended_at) if is_end else None,
        lost=tuple(lost),
    )


@dataclass(slots=True)
class Said:
    """What all manifests of a docking come to."""

    manifest_ids: list[ManifestId] = field(default_factory=list)
    known_manifest_ids: set[ManifestId] = field(default_factory=set)
    incomplete_files: int = 0
    findings: list[Finding] = field(default_factory=list)
    findings_total: int = 0

    def add(self, content: Content, sealed: Iterable[ManifestId]) -> None:
        """Count what manifests that were sealed say."""
        settlement = content.settlement
        self.manifest_ids += sealed
        self.known_manifest_ids |= {known.manifest_id for known in settlement.known}
        self.incomplete_files += len(settlement.incomplete)
        found = (*content.findings, *settlement.findings)
        self.findings_total += len(found)
        self.findings += found[: max(0, MOST_FINDINGS - len(self.findings))]

    def outcome(
        self,
        kind: OutcomeKind,
        opened: OpenDocking,
        *,
        problem: tuple[str | None, str] = (None, ""),
    ) -> DockingOutcome:
        """Return what the docking came to; *problem* is a code and a text."""
        return DockingOutcome(
            kind=kind,
            code=problem[0],
            text=problem[1],
            docking_id=opened.docking_id,
            recorder=opened.recorder,
            officer=opened.officer,
            manifest_ids=tuple(self.manifest_ids),
            known_manifest_ids=frozenset(self.known_manifest_ids),
            incomplete_files=self.incomplete_files,
            findings=tuple(self.findings),
            findings_total=self.findings_total,
        )


def unix_ms(moment: datetime) -> int:
    """Return a moment as the journal keeps it."""
    return int(moment.timestamp() * 1000)
