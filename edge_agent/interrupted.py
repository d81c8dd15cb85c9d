"""How dockings end in the journal: sealed by the docking itself, or later when it was cut short."""

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial
from typing import Final
from zoneinfo import ZoneInfo

from edge_agent.errors import ProfileError
from edge_agent.ingest.files import FileId, FileRow, FileState
from edge_agent.ingest.grouping import group_clips
from edge_agent.ingest.inventory import FoundClip, FoundFile, found_file
from edge_agent.ingest.profile import Profile
from edge_agent.manifest.sealing import Content, DockingFacts, seal_docking
from edge_agent.manifest.settling import Seen, Settlement, held_back, settle, unfinished
from edge_agent.ports import (
    DockingOutcome,
    DockingPorts,
    DockingSettings,
    OpenDocking,
    OutcomeKind,
)
from protocol.findings import Finding, FindingCode
from protocol.identifiers import ManifestId
from protocol.manifest import ClockFacts, IncompleteReason

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
    """Close one docking that nobody is busy with."""
    rows = [
        row
        for row in await ports.journal.known_files(opened.device)
        # Only what was begun is known: what had been claimed before the docking says nothing new.
        if row.state in {FileState.COPYING, FileState.STAGED}
    ]
    profile = {one.name: one for one in settings.profiles}.get(opened.recorder.profile)
    if profile is None:
        problem = f"{opened.recorder.profile}: no such profile any more"
        content = _all_held(rows, problem)
        sealed = await seal(opened, _NO_ZONE, content, ports, settings)
        kind, code, text = OutcomeKind.ATTENTION, ProfileError.code, problem
    else:
        content = Content(settlement=settle(_seen(opened, rows, profile)))
        sealed = await seal(opened, profile.zone, content, ports, settings)
        kind, code, text = OutcomeKind.LEFT, None, ""
    return outcome(kind, opened, content, sealed, problem=(code, text))


def _seen(opened: OpenDocking, rows: Iterable[FileRow], profile: Profile) -> Seen:
    by_key = {row.key: row for row in rows}
    files = [found_file(key, profile) for key in by_key]
    lost = frozenset(key for key, row in by_key.items() if row.lost)
    return Seen(
        docking_id=opened.docking_id,
        groups=group_clips((one for one in files if isinstance(one, FoundClip)), profile),
        others=tuple(one for one in files if isinstance(one, FoundFile)),
        listed=by_key.keys() - lost,
        rows=by_key,
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


async def seal(
    opened: OpenDocking,
    zone: ZoneInfo,
    content: Content,
    ports: DockingPorts,
    settings: DockingSettings,
    *,
    lost: Iterable[FileId] = (),
) -> tuple[ManifestId, ...]:
    """End a docking in the journal with its manifests; *lost* as in `DockingJournal.seal`."""
    docked_at = datetime.fromtimestamp(opened.docked_at_ms / 1000, UTC)
    ended_at = ports.clock()
    facts = DockingFacts(
        dock=settings.dock,
        docking_id=opened.docking_id,
        bay=opened.bay,
        recorder=opened.recorder,
        officer=opened.officer,
        clock=ClockFacts(dock_time=docked_at, timezone=zone.key),
        isolation=settings.isolation,
        evidence_level=settings.evidence_level,
        agent=settings.agent,
        docked_at=docked_at,
        ended_at=ended_at,
        zone=zone,
    )
    return await ports.journal.seal(
        opened.docking_id,
        partial(
            seal_docking,
            facts,
            content,
            key=settings.key,
            mint=ports.mint,
            sealed_at=ended_at,
        ),
        ended_at_ms=unix_ms(ended_at),
        lost=tuple(lost),
    )


def outcome(
    kind: OutcomeKind,
    opened: OpenDocking,
    content: Content,
    sealed: tuple[ManifestId, ...],
    *,
    problem: tuple[str | None, str] = (None, ""),
) -> DockingOutcome:
    """Return what a docking that was sealed came to; *problem* is a code and a text."""
    settlement = content.settlement
    return DockingOutcome(
        kind=kind,
        code=problem[0],
        text=problem[1],
        docking_id=opened.docking_id,
        recorder=opened.recorder,
        officer=opened.officer,
        manifest_ids=sealed,
        known_manifest_ids=frozenset(known.manifest_id for known in settlement.known),
        incomplete_files=len(settlement.incomplete),
        findings=(*content.findings, *settlement.findings),
    )


def unix_ms(moment: datetime) -> int:
    """Return a moment as the journal keeps it."""
    return int(moment.timestamp() * 1000)
