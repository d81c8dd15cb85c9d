"""One docking, from a volume in a bay to sealed manifests, over ports.

Blocking work is done in a thread of the docking's own: a recorder that hangs holds up no other
bay. A cancelled docking seals nothing: it stays open in the journal, and is closed at the next
start by `close_interrupted_dockings`, or when a recorder comes into the same bay, or the same
recorder into another one.
"""

import dataclasses
import errno
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final

from msgspec import structs

from edge_agent.errors import (
    CopyDiffersError,
    EdgeError,
    RecorderBusyError,
    SizeMismatchError,
    SourceChangedError,
    SourceUnreadableError,
    SourceUnsteadyError,
    SourceVanishedError,
    UnidentifiedRecorderError,
    UnregisteredRecorderError,
)
from edge_agent.file_copier import NO_SPACE, FileCopier
from edge_agent.file_salvager import FileSalvager
from edge_agent.ingest.files import FileId, FileKey, FileRow
from edge_agent.ingest.inventory import Listing, listed_keys, take_listing
from edge_agent.ingest.plan import CopyStep
from edge_agent.ingest.profile import Profile
from edge_agent.ingest.progress import BayProgress, RateMeter
from edge_agent.ingest.recognising import recognise
from edge_agent.ingest.room import Need
from edge_agent.ingest.survey import TO_BE_SEEN, Survey, survey
from edge_agent.ingest.volume import Volume
from edge_agent.interrupted import outcome, seal
from edge_agent.manifest.sealing import Content
from edge_agent.manifest.settling import Seen, settle
from edge_agent.one_thread import OneThread
from edge_agent.opening import meet, open_docking, registered
from edge_agent.ports import (
    DISK_FAULT,
    DISK_REFUSES,
    NO_ROOM,
    WAITS_FOR_ROOM,
    DockingOutcome,
    DockingPorts,
    DockingSettings,
    NewCopy,
    OpenDocking,
    OutcomeKind,
)
from edge_agent.small_files import SmallFiles, batches
from protocol.findings import MAX_DETAIL_CHARACTERS, Finding, FindingCode
from protocol.identifiers import BayNumber
from protocol.manifest import IncompleteReason, NotTaken, name_of

Report = Callable[[BayProgress], None]

# So often a recorder that is still being written to is listed and read again.
_MAX_ROUNDS: Final = 3
_NEVER_STILL: Final = f"still written to after {_MAX_ROUNDS} listings: not all of it was read"


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
            listing, identity = await thread.run(partial(meet, volume, settings))
            entry = registered(identity, ports)
            opened = await open_docking(
                identity, entry, bay=bay, docked_at=docked_at, ports=ports, settings=settings
            )
        except SourceVanishedError as error:
            return DockingOutcome(kind=OutcomeKind.LEFT, text=str(error))
        except (UnidentifiedRecorderError, UnregisteredRecorderError) as error:
            return _not_begun(OutcomeKind.REFUSED, error)
        except (SourceUnreadableError, RecorderBusyError) as error:
            return _not_begun(OutcomeKind.ATTENTION, error)
        try:
            docking = _Docking(
                opened,
                identity.profile,
                volume,
                thread,
                ports=ports,
                settings=settings,
                report=report,
                docked_at=docked_at,
            )
            await docking.take(listing)
            return await docking.close()
        finally:
            ports.live.discard(opened.docking_id)
            ports.allotments.end(opened.docking_id)


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
        docked_at: datetime,
    ) -> None:
        self._opened = opened
        self._profile = profile
        self._volume = volume
        self._thread = thread
        self._docked_at = docked_at
        self._ports = ports
        self._settings = settings
        self._copier = FileCopier(
            volume,
            thread,
            opened.device,
            ports=ports,
            settings=settings,
            on_bytes=self._on_bytes,
            on_reserved=self._count_as_taken,
        )
        self._small_files = SmallFiles(
            volume, thread, opened.device, self._copier, ports=ports, settings=settings
        )
        self._salvager = FileSalvager(volume, thread, ports)
        self._report = report
        self._progress = BayProgress(
            docking_id=opened.docking_id, recorder=opened.recorder, officer=opened.officer
        )
        self._monotonic_s = ports.monotonic_s
        self._rate = RateMeter()
        self._done_bytes = 0
        self._skipped_bytes = 0
        self._is_first_word = True
        # What all listings said, each once, and what reading said.
        self._listed_findings: dict[Finding, None] = {}
        self._not_taken: dict[NotTaken, None] = {}
        self._findings: list[Finding] = []
        self._file_ids: dict[FileKey, FileId] = {}
        self._generations: dict[FileKey, int] = {}
        self._tried: set[FileKey] = set()
        self._taken: set[FileKey] = set()
        self._unreadable: list[CopyStep] = []
        self._reasons: dict[FileKey, IncompleteReason] = {}
        self._rest = IncompleteReason.AGENT_STOPPED
        self._has_ended = False
        self._problem: tuple[str, str] | None = None
        # What the disk had no room for, although it seemed so.
        self._refused: Need | None = None

    async def take(self, listing: Listing) -> None:
        """Read what is new; when nothing more has come, salvage what could not be read."""
        await self._take_whole(listing)
        await self._salvage()

    async def _take_whole(self, listing: Listing) -> None:
        """Read what is new, and list the recorder again until nothing more has come."""
        for _ in range(_MAX_ROUNDS):
            await self._prepare(listing)
            await self._read()
            if self._has_ended:
                return
            again = await self._list_again()
            if again is None or again.shows_the_same(listing):
                return
            listing = again
        self._find(FindingCode.UNREADABLE_DIRECTORY, None, _NEVER_STILL)

    async def _prepare(self, listing: Listing) -> None:
        """Survey the recorder, and note in the journal all that is going to be read."""
        journal, staging = self._ports.journal, self._ports.staging
        rows = await journal.known_files(self._opened.device)
        await self._recognise(listing, rows)
        self._survey = found = await self._look(listing, rows)
        self._listed_findings |= dict.fromkeys(found.findings)
        self._not_taken |= dict.fromkeys(found.not_taken)
        await journal.drop_copies([row.file_id for row in found.outdated])
        for row in found.outdated:
            await self._thread.run(partial(staging.remove, row.file_id))
            await self._thread.run(partial(self._ports.salvaging.remove, row.file_id))
        steps = (*found.plan.steps, *found.plan.no_space)
        new = [
            NewCopy(file_id=FileId(self._ports.mint()), key=step.key, marked=step.marked)
            for step in steps
            if step.row is None
        ]
        self._file_ids |= {step.key: step.row.file_id for step in steps if step.row}
        self._file_ids |= {copy.key: copy.file_id for copy in new}
        await journal.begin_copies(self._opened.docking_id, self._opened.device, new)
        todo = self._steps()
        self._tell(
            files_total=self._progress.files_total + len(todo),
            bytes_total=self._progress.bytes_total + sum(step.key.size_bytes for step in todo),
        )

    async def _look(self, listing: Listing, rows: Sequence[FileRow]) -> Survey:
        """Survey the recorder, and be given the room that it needs."""
        docking_id, allotments = self._opened.docking_id, self._ports.allotments
        async with allotments.planning:
            room = await allotments.room(self._ports.staging, but=docking_id)
            found = await self._thread.run(
                partial(
                    survey,
                    listing,
                    rows,
                    self._profile,
                    docked_at=self._docked_at,
                    room=dataclasses.replace(room, only_marked=self._settings.only_marked),
                    generations=self._generations,
                )
            )
            allotments.give(docking_id, found.plan.missing_bytes)
        return found

    async def _recognise(self, listing: Listing, rows: Sequence[FileRow]) -> None:
        """Find out which files are not what they were, although they are called so."""
        look = partial(
            recognise,
            self._volume,
            listed_keys(listing) - self._tried,
            rows,
            self._profile,
            docking_id=self._opened.docking_id,
            docked_at=self._docked_at,
            progress=self._thread.stop_if_asked,
        )
        try:
            seen = await self._thread.run(look)
        except SourceVanishedError as error:
            self._note_end(None, error)
        else:
            self._generations |= seen.generations
            self._listed_findings |= dict.fromkeys(seen.findings)

    async def _list_again(self) -> Listing | None:
        """Return what is on the recorder now; None if it cannot be told, which is noted."""
        entries, limits = self._volume.entries, self._settings.limits
        try:
            return await self._thread.run(lambda: take_listing(entries(), limits))
        except SourceVanishedError as error:
            self._note_end(None, error)
        except SourceUnreadableError as error:
            self._find(FindingCode.UNREADABLE_DIRECTORY, None, str(error))
        return None

    def _steps(self) -> list[CopyStep]:
        return [step for step in self._survey.plan.steps if step.key not in self._tried]

    async def _read(self) -> None:
        """Copy what the plan says, as far as recorder and disk go along."""
        for step in self._survey.plan.no_space:
            self._reasons[step.key] = IncompleteReason.NO_SPACE
        for batch in batches(self._steps(), self._settings):
            if self._has_ended:
                break
            async with self._ports.read_turn:
                await self._read_batch(batch)
        self._tell(current_file=None, bytes_done=self._done_bytes)

    async def _read_batch(self, batch: Sequence[CopyStep]) -> None:
        """Copy one file, or some small ones that follow each other in the plan."""
        done = await self._read_together(batch) if len(batch) > 1 else frozenset()
        for step in batch:
            if self._has_ended and step.key not in done:
                continue
            self._tried.add(step.key)
            self._reasons.pop(step.key, None)
            if step.key in done:
                self._note_read(step)
            else:
                await self._read_one(step)
            self._count_as_taken(step)

    def _count_as_taken(self, step: CopyStep) -> None:
        """From here on the disk itself counts what a file takes, or it takes nothing."""
        if step.key not in self._taken:
            self._taken.add(step.key)
            self._ports.allotments.fill(self._opened.docking_id, step.missing_bytes)

    async def _read_together(self, batch: Sequence[CopyStep]) -> frozenset[FileKey]:
        """Copy small files at once; return those that need no more work."""
        self._tell(current_file=name_of(batch[0].key.path).path)
        return await self._small_files.copy(batch, self._file_ids)

    async def _read_one(self, step: CopyStep) -> None:
        self._is_first_word = True
        self._tell(current_file=name_of(step.key.path).path)
        try:
            await self._copier.copy(step, self._file_ids[step.key])
        except (SizeMismatchError, SourceChangedError, SourceUnreadableError) as error:
            self._note_unread(step, error)
        except (SourceVanishedError, CopyDiffersError, OSError) as error:
            self._note_end(step, error)
        else:
            await self._drop_parts(step)
            self._note_read(step)

    async def _drop_parts(self, step: CopyStep) -> None:
        """Free the parts of a file that is whole now; the journal has no rows of them any more."""
        if step.row is not None and step.row.salvaged:
            await self._thread.run(partial(self._ports.salvaging.remove, step.row.file_id))

    async def _salvage(self) -> None:
        """Keep what else can be read of files that could not be read whole."""
        if not self._unreadable:
            return
        known = await self._ports.journal.known_files(self._opened.device)
        rows = {row.file_id: row for row in known}
        for step in self._unreadable:
            if self._has_ended:
                return
            self._tell(current_file=name_of(step.key.path).path)
            try:
                told = await self._salvager.salvage(rows[self._file_ids[step.key]])
            except (SourceChangedError, SourceUnsteadyError) as error:
                self._note_unread(step, error)
            except SourceUnreadableError:
                continue  # it cannot even be opened, which was said
            except (SourceVanishedError, CopyDiffersError, OSError) as error:
                self._note_end(step, error)
            else:
                self._say_more(step, told)
        self._tell(current_file=None)

    async def close(self) -> DockingOutcome:
        """Seal what is whole, and say how it went."""
        opened, found = self._opened, self._survey
        rows = {row.key: row for row in await self._ports.journal.known_files(opened.device)}
        absent = [row.key for row in found.absent]
        if not found.is_whole:
            self._reasons |= dict.fromkeys(absent, IncompleteReason.UNREADABLE)
            absent = [key for key in absent if rows[key].lost]
        seen = Seen(
            docking_id=opened.docking_id,
            groups=found.groups,
            others=found.others,
            listed=found.listed,
            rows=rows,
            reasons=self._reasons,
            default_reason=self._rest,
            absent=frozenset(absent),
        )
        content = Content(
            settlement=await self._thread.run(partial(settle, seen)),
            not_taken=tuple(self._not_taken),
            findings=(*self._listed_findings, *self._findings, *self._copier.findings),
        )
        lost = [rows[key].file_id for key in absent]
        sealed = await seal(
            opened, self._profile.zone, content, self._ports, self._settings, lost=lost
        )
        kind = self._kind()
        return dataclasses.replace(
            outcome(kind, opened, content, sealed, problem=self._problem or (None, "")),
            disk_faults=tuple(self._copier.disk_faults),
            lacking_bytes=found.plan.lacking_bytes,
            waits_for=self._refused or found.plan.waits_for,
        )

    def _kind(self) -> OutcomeKind:
        if self._rest is IncompleteReason.RECORDER_LEFT:
            return OutcomeKind.LEFT
        if self._problem is None:
            self._problem = self._to_be_seen()
        return OutcomeKind.SEALED if self._problem is None else OutcomeKind.ATTENTION

    def _to_be_seen(self) -> tuple[str, str] | None:
        plan = self._survey.plan
        if plan.waits_for is not None:
            kept_bytes = self._ports.allotments.kept_for_marked_bytes
            waits = kept_bytes and not plan.waits_for.marked
            return WAITS_FOR_ROOM if waits else NO_ROOM, plan.lacking
        for finding in (*self._listed_findings, *self._findings):
            if finding.code in TO_BE_SEEN:
                return finding.code.value, f"{finding.path!r}: {finding.detail}"
        return None

    def _note_read(self, step: CopyStep) -> None:
        self._done_bytes += step.key.size_bytes
        now_s = self._monotonic_s()
        self._rate.note(at_s=now_s, bytes_done=self._done_bytes - self._skipped_bytes)
        self._tell(files_done=self._progress.files_done + 1, bytes_done=self._done_bytes)

    def _note_unread(self, step: CopyStep, error: EdgeError) -> None:
        """One file could not be read; the others can."""
        code, reason = FindingCode.UNREADABLE_FILE, IncompleteReason.UNREADABLE
        if isinstance(error, SizeMismatchError | SourceChangedError):
            code, reason = FindingCode.SIZE_CHANGED, IncompleteReason.SIZE_CHANGED
        elif not isinstance(error, SourceUnsteadyError):
            self._unreadable.append(step)
        self._reasons[step.key] = reason
        self._find(code, step, str(error))
        if self._problem is None:
            self._problem = code.value, str(error)

    def _note_end(self, step: CopyStep | None, error: EdgeError | OSError) -> None:
        """Nothing more can be read."""
        self._has_ended = True
        if isinstance(error, SourceVanishedError):
            self._rest = IncompleteReason.RECORDER_LEFT
            self._find(FindingCode.RECORDER_LEFT, step, str(error))
        elif isinstance(error, CopyDiffersError):
            self._problem = error.code, str(error)
        elif isinstance(error, OSError):
            full = error.errno in NO_SPACE
            if full and step is not None:
                self._refused = Need(size_bytes=step.missing_bytes, files=1, marked=step.marked)
            self._rest = IncompleteReason.NO_SPACE if full else self._rest
            refuses = error.errno == errno.EROFS
            code = NO_ROOM if full else DISK_REFUSES if refuses else DISK_FAULT
            self._problem = code, str(error)

    def _find(self, code: FindingCode, step: CopyStep | None, detail: str) -> None:
        path = None if step is None else name_of(step.key.path).path
        self._findings.append(Finding(code=code, path=path, detail=detail[:MAX_DETAIL_CHARACTERS]))

    def _say_more(self, step: CopyStep, told: str) -> None:
        """Put what was salvaged of a file in front of why it could not be read whole."""
        said = FindingCode.UNREADABLE_FILE, name_of(step.key.path).path
        self._findings = [
            structs.replace(one, detail=f"{told}: {one.detail}"[:MAX_DETAIL_CHARACTERS])
            if (one.code, one.path) == said
            else one
            for one in self._findings
        ]

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
            self._progress,
            findings=len(self._listed_findings) + len(self._findings),
            **changes,
        )
        self._report(self._progress)


def _not_begun(kind: OutcomeKind, error: EdgeError) -> DockingOutcome:
    return DockingOutcome(kind=kind, code=error.code, text=str(error))
