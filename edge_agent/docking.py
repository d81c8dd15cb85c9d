"""One docking, from a volume in a bay to sealed manifests, over ports.

Blocking work is done in a thread of the docking's own: a recorder that hangs holds up no other
bay. A cancelled docking seals nothing: it stays open in the journal, and is closed at the next
start by `close_interrupted_dockings`, or when a recorder comes into the same bay.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from edge_agent.errors import (
    CopyDiffersError,
    EdgeError,
    ProfileError,
    RecorderBusyError,
    SizeMismatchError,
    SourceUnreadableError,
    SourceVanishedError,
    UnidentifiedRecorderError,
    UnregisteredRecorderError,
)
from edge_agent.file_copier import NO_SPACE, FileCopier
from edge_agent.ingest.files import FileId, FileKey, FileState
from edge_agent.ingest.grouping import group_clips
from edge_agent.ingest.identity import (
    MAX_IDENTITY_FILE_BYTES,
    Identity,
    identify,
    identity_files,
)
from edge_agent.ingest.inventory import FoundClip, FoundFile, Listing, found_file, take_listing
from edge_agent.ingest.plan import CopyStep
from edge_agent.ingest.profile import Profile
from edge_agent.ingest.progress import BayProgress, RateMeter
from edge_agent.ingest.survey import survey
from edge_agent.ingest.volume import Volume
from edge_agent.manifest.sealing import Content, DockingFacts, SealedManifest, seal_docking
from edge_agent.manifest.settling import Seen, settle
from edge_agent.one_thread import OneThread
from edge_agent.ports import (
    DISK_FAULT,
    NO_ROOM,
    DockingOutcome,
    DockingPorts,
    DockingSettings,
    NewCopy,
    OpenDocking,
    OutcomeKind,
)
from protocol.findings import MAX_DETAIL_CHARACTERS, Finding, FindingCode
from protocol.identifiers import BayNumber, DockingId
from protocol.manifest import ClockFacts, IncompleteReason, RecorderFacts, name_of
from protocol.registry import RecorderEntry

Report = Callable[[BayProgress], None]

# After these a recorder was read to its end, but not all that is on it is known.
_TO_BE_SEEN: Final = frozenset(
    {
        FindingCode.PATH_TOO_LONG,
        FindingCode.TOO_MANY_ENTRIES,
        FindingCode.UNREADABLE_DIRECTORY,
        FindingCode.UNREADABLE_FILE,
    }
)


async def run_docking(
    volume: Volume,
    *,
    bay: BayNumber,
    ports: DockingPorts,
    settings: DockingSettings,
    report: Report,
) -> DockingOutcome:
    """Read one recorder: identify it, take what is new, and seal what is whole.

    Args:
        volume: Of the recorder; used in one thread at a time, and not after the return.
        bay: Where it is docked; one docking runs in a bay at a time.
        ports: The world.
        settings: Of the dock.
        report: Called in the event loop: first once the recorder has been identified, then for
            every MiB or so.

    Raises:
        sqlite3.Error: The journal failed; the docking stays open in it.
        JournalContradictionError: Likewise: our bug.
    """
    docked_at = ports.clock()
    async with OneThread(f"bay-{bay}") as thread:
        try:
            listing, identity = await thread.run(partial(_meet, volume, settings))
            entry = _registered(identity, ports)
            opened = await _open(
                identity, entry, bay=bay, docked_at=docked_at, ports=ports, settings=settings
            )
        except SourceVanishedError as error:
            return DockingOutcome(kind=OutcomeKind.LEFT, text=str(error))
        except (UnidentifiedRecorderError, UnregisteredRecorderError) as error:
            return _not_begun(OutcomeKind.REFUSED, error)
        except (SourceUnreadableError, RecorderBusyError) as error:
            return _not_begun(OutcomeKind.ATTENTION, error)
        docking = _Docking(
            opened, identity.profile, volume, thread, ports=ports, settings=settings, report=report
        )
        await docking.prepare(listing, docked_at)
        await docking.read()
        return await docking.close()


async def close_interrupted_dockings(
    ports: DockingPorts, settings: DockingSettings
) -> tuple[DockingOutcome, ...]:
    """Close every docking that the journal has as open, at the agent's start.

    What is whole is sealed; the rest is listed as not taken because the agent stopped, and is held
    until the recorder is back. A docking of a model that has no profile any more stays open.
    """
    return tuple(
        [
            await _close_interrupted(opened, ports, settings)
            for opened in await ports.journal.open_dockings()
        ]
    )


class _Docking:
    """One docking of a registered recorder, which is open in the journal."""

    def __init__(
        self,
        opened: OpenDocking,
        profile: Profile,
        volume: Volume,
        thread: OneThread,
        *,
        ports: DockingPorts,
        settings: DockingSettings,
        report: Report,
    ) -> None:
        self._opened = opened
        self._profile = profile
        self._thread = thread
        self._ports = ports
        self._settings = settings
        self._copier = FileCopier(
            volume,
            thread,
            opened.recorder.recorder_id,
            ports=ports,
            settings=settings,
            on_bytes=self._on_bytes,
        )
        self._report = report
        self._progress = BayProgress(
            docking_id=opened.docking_id, recorder=opened.recorder, officer=opened.officer
        )
        self._monotonic_s = ports.monotonic_s
        self._rate = RateMeter()
        self._done_bytes = 0
        self._skipped_bytes = 0
        self._is_first_word = True
        self._findings: list[Finding] = []
        self._reasons: dict[FileKey, IncompleteReason] = {}
        self._rest = IncompleteReason.AGENT_STOPPED
        self._problem: tuple[str, str] | None = None

    async def prepare(self, listing: Listing, docked_at: datetime) -> None:
        """Survey the recorder, and note in the journal all that is going to be read."""
        journal, staging = self._ports.journal, self._ports.staging
        recorder_id = self._opened.recorder.recorder_id
        rows = await journal.known_files(recorder_id)
        free_bytes = await self._thread.run(staging.free_bytes)
        self._survey = found = await self._thread.run(
            partial(
                survey, listing, rows, self._profile, docked_at=docked_at, free_bytes=free_bytes
            )
        )
        self._findings += found.findings
        await journal.drop_copies([row.file_id for row in found.outdated])
        for row in found.outdated:
            await self._thread.run(partial(staging.remove, row.file_id))
        steps = (*found.plan.steps, *found.plan.no_space)
        self._file_ids = {
            step.key: step.row.file_id if step.row else FileId(self._ports.mint()) for step in steps
        }
        new = [
            NewCopy(file_id=self._file_ids[step.key], key=step.key, marked=step.marked)
            for step in steps
            if step.row is None
        ]
        await journal.begin_copies(self._opened.docking_id, recorder_id, new)
        self._tell(files_total=len(found.plan.steps), bytes_total=found.plan.total_bytes)

    async def read(self) -> None:
        """Copy what the plan says, as far as recorder and disk go along."""
        for step in self._survey.plan.no_space:
            self._reasons[step.key] = IncompleteReason.NO_SPACE
        for step in self._survey.plan.steps:
            self._is_first_word = True
            self._tell(current_file=name_of(step.key.path).path)
            try:
                await self._copier.copy(step, self._file_ids[step.key])
            except (SizeMismatchError, SourceUnreadableError) as error:
                self._note_unread(step, error)
            except (SourceVanishedError, CopyDiffersError, OSError) as error:
                self._note_end(step, error)
                break
            else:
                self._done_bytes += step.key.size_bytes
                self._tell(files_done=self._progress.files_done + 1, bytes_done=self._done_bytes)
        self._tell(current_file=None, bytes_done=self._done_bytes)

    async def close(self) -> DockingOutcome:
        """Seal what is whole, and say how it went."""
        opened, found = self._opened, self._survey
        rows = await self._ports.journal.known_files(opened.recorder.recorder_id)
        seen = Seen(
            docking_id=opened.docking_id,
            groups=found.groups,
            others=found.others,
            listed=found.listed,
            rows={row.key: row for row in rows},
            reasons=self._reasons,
            default_reason=self._rest,
        )
        content = Content(
            settlement=await self._thread.run(partial(settle, seen)),
            not_taken=found.not_taken,
            findings=(*self._findings, *self._copier.findings),
        )
        sealed = await _seal(opened, self._profile, content, self._ports, self._settings)
        outcome = _outcome(self._kind(), opened, content, sealed)
        code, text = self._problem or (None, "")
        return dataclasses.replace(
            outcome,
            code=code,
            text=text,
            disk_faults=tuple(self._copier.disk_faults),
            lacking_bytes=found.plan.lacking_bytes,
        )

    def _kind(self) -> OutcomeKind:
        if self._rest is IncompleteReason.RECORDER_LEFT:
            return OutcomeKind.LEFT
        if self._problem is None:
            self._problem = self._to_be_seen()
        return OutcomeKind.SEALED if self._problem is None else OutcomeKind.ATTENTION

    def _to_be_seen(self) -> tuple[str, str] | None:
        if lacking_bytes := self._survey.plan.lacking_bytes:
            return NO_ROOM, f"{lacking_bytes} bytes more room are needed"
        for finding in self._findings:
            if finding.code in _TO_BE_SEEN:
                return finding.code.value, f"{finding.path!r}: {finding.detail}"
        return None

    def _note_unread(self, step: CopyStep, error: EdgeError) -> None:
        """One file could not be read; the others can."""
        code, reason = FindingCode.UNREADABLE_FILE, IncompleteReason.UNREADABLE
        if isinstance(error, SizeMismatchError):
            code, reason = FindingCode.SIZE_CHANGED, IncompleteReason.SIZE_CHANGED
        self._reasons[step.key] = reason
        self._find(code, step, str(error))
        if self._problem is None:
            self._problem = code.value, str(error)

    def _note_end(self, step: CopyStep, error: EdgeError | OSError) -> None:
        """Nothing more can be read."""
        if isinstance(error, SourceVanishedError):
            self._rest = IncompleteReason.RECORDER_LEFT
            self._find(FindingCode.RECORDER_LEFT, step, str(error))
        elif isinstance(error, CopyDiffersError):
            self._problem = error.code, str(error)
        elif isinstance(error, OSError):
            full = error.errno in NO_SPACE
            self._rest = IncompleteReason.NO_SPACE if full else self._rest
            self._problem = NO_ROOM if full else DISK_FAULT, str(error)

    def _find(self, code: FindingCode, step: CopyStep, detail: str) -> None:
        path = name_of(step.key.path).path
        self._findings.append(Finding(code=code, path=path, detail=detail[:MAX_DETAIL_CHARACTERS]))

    def _on_bytes(self, held_bytes: int) -> None:
        """Tell how much of the current file is held; the first word says what we had of it."""
        if self._is_first_word:
            self._is_first_word = False
            self._skipped_bytes += held_bytes
        bytes_done = self._done_bytes + held_bytes
        self._rate.note(at_s=self._monotonic_s(), bytes_done=bytes_done - self._skipped_bytes)
        self._tell(
            bytes_done=bytes_done,
            rate_bytes_s=self._rate.bytes_s,
            remaining_s=self._rate.remaining_s(self._progress.bytes_total - bytes_done),
        )

    def _tell(self, **changes: Any) -> None:
        self._progress = dataclasses.replace(
            self._progress, findings=len(self._findings), **changes
        )
        self._report(self._progress)


def _meet(volume: Volume, settings: DockingSettings) -> tuple[Listing, Identity]:
    """Blocking: list the volume, and let the recorder say who it is."""
    listing = take_listing(volume.entries(), settings.limits)
    paths = listing.file_paths
    contents: dict[bytes, bytes] = {}
    for path in identity_files(settings.profiles, paths):
        with contextlib.suppress(SourceUnreadableError):
            contents[path] = volume.read_small(path, max_bytes=MAX_IDENTITY_FILE_BYTES)
    return listing, identify(settings.profiles, paths, contents)


def _registered(identity: Identity, ports: DockingPorts) -> RecorderEntry:
    entry = ports.find_recorder(model=identity.model, serial=identity.serial)
    if entry is None:
        raise UnregisteredRecorderError(
            f"{identity.model} serial {identity.serial!r} is not in the site's registry"
        )
    return entry


async def _open(
    identity: Identity,
    entry: RecorderEntry,
    *,
    bay: BayNumber,
    docked_at: datetime,
    ports: DockingPorts,
    settings: DockingSettings,
) -> OpenDocking:
    """Open the docking in the journal; one that was cancelled in this bay is closed first."""
    for earlier in await ports.journal.open_dockings():
        if earlier.bay == bay:
            await _close_interrupted(earlier, ports, settings)
    opened = OpenDocking(
        docking_id=DockingId(ports.mint()),
        bay=bay,
        recorder=RecorderFacts(
            recorder_id=entry.recorder,
            make=identity.make,
            model=identity.model,
            serial=identity.serial,
            profile=identity.profile.name,
        ),
        officer=identity.officer or entry.officer,
        docked_at_ms=_unix_ms(docked_at),
    )
    await ports.journal.open_docking(opened)
    return opened


async def _close_interrupted(
    opened: OpenDocking, ports: DockingPorts, settings: DockingSettings
) -> DockingOutcome:
    profile = {one.name: one for one in settings.profiles}.get(opened.recorder.profile)
    if profile is None:
        error = ProfileError(f"{opened.recorder.profile}: no such profile any more")
        return _not_begun(OutcomeKind.ATTENTION, error)
    rows = await ports.journal.known_files(opened.recorder.recorder_id)
    # Only what was begun is known: what had been claimed before the docking says nothing new.
    files = [
        found_file(row.key, profile)
        for row in rows
        if row.state in {FileState.COPYING, FileState.STAGED}
    ]
    seen = Seen(
        docking_id=opened.docking_id,
        groups=group_clips((one for one in files if isinstance(one, FoundClip)), profile),
        others=tuple(one for one in files if isinstance(one, FoundFile)),
        listed=frozenset(file.key for file in files),
        rows={row.key: row for row in rows},
        reasons={},
        default_reason=IncompleteReason.AGENT_STOPPED,
    )
    content = Content(settlement=settle(seen))
    sealed = await _seal(opened, profile, content, ports, settings)
    return _outcome(OutcomeKind.LEFT, opened, content, sealed)


async def _seal(
    opened: OpenDocking,
    profile: Profile,
    content: Content,
    ports: DockingPorts,
    settings: DockingSettings,
) -> tuple[SealedManifest, ...]:
    docked_at = datetime.fromtimestamp(opened.docked_at_ms / 1000, UTC)
    ended_at = ports.clock()
    facts = DockingFacts(
        dock=settings.dock,
        docking_id=opened.docking_id,
        bay=opened.bay,
        recorder=opened.recorder,
        officer=opened.officer,
        clock=ClockFacts(dock_time=docked_at, timezone=profile.zone.key),
        isolation=settings.isolation,
        evidence_level=settings.evidence_level,
        agent=settings.agent,
        docked_at=docked_at,
        ended_at=ended_at,
        zone=profile.zone,
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
        ended_at_ms=_unix_ms(ended_at),
    )


def _outcome(
    kind: OutcomeKind, opened: OpenDocking, content: Content, sealed: Iterable[SealedManifest]
) -> DockingOutcome:
    settlement = content.settlement
    return DockingOutcome(
        kind=kind,
        docking_id=opened.docking_id,
        recorder=opened.recorder,
        officer=opened.officer,
        manifest_ids=tuple(one.manifest.manifest_id for one in sealed),
        known_manifest_ids=frozenset(known.manifest_id for known in settlement.known),
        incomplete_files=len(settlement.incomplete),
        findings=(*content.findings, *settlement.findings),
    )


def _not_begun(kind: OutcomeKind, error: EdgeError) -> DockingOutcome:
    return DockingOutcome(kind=kind, code=error.code, text=str(error))


def _unix_ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
