"""Read one piece of a docked recorder: survey it, copy what is new, salvage what cannot be read."""

import dataclasses
import errno
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from msgspec import structs

from edge_agent.errors import (
    CopyDiffersError,
    EdgeError,
    SizeMismatchError,
    SourceChangedError,
    SourceUnreadableError,
    SourceUnsteadyError,
    SourceVanishedError,
)
from edge_agent.file_copier import NO_SPACE, FileCopier
from edge_agent.file_salvager import FileSalvager
from edge_agent.ingest.division import Piece
from edge_agent.ingest.files import FileId, FileKey, FileRow
from edge_agent.ingest.listing import listed_keys
from edge_agent.ingest.overview import TO_BE_SEEN
from edge_agent.ingest.plan import CopyStep, Lacking
from edge_agent.ingest.profile import Profile
from edge_agent.ingest.recognising import recognise
from edge_agent.ingest.room import Need
from edge_agent.ingest.survey import Survey, survey
from edge_agent.ingest.volume import Volume
from edge_agent.interrupted import rows_to_settle
from edge_agent.manifest.sealing import Content
from edge_agent.manifest.settling import Seen, settle, unfinished
from edge_agent.one_thread import OneThread
from edge_agent.ports import (
    DISK_FAULT,
    DISK_REFUSES,
    NO_ROOM,
    DockingPorts,
    DockingSettings,
    NewCopy,
    OpenDocking,
)
from edge_agent.small_files import SmallFiles, batches
from edge_agent.telling import Teller
from protocol.findings import MAX_DETAIL_CHARACTERS, Finding, FindingCode
from protocol.manifest import Incomplete, IncompleteReason, NotTaken, name_of


@dataclass(slots=True, kw_only=True)
class Course:
    """How a docking goes, over all its pieces.

    Attributes:
        has_ended: Nothing more can be read.
        rest: Why not, of all files that have no reason of their own.
        problem: The first thing that a person must see: a code, and a text in English.
        refused: What the disk had no room for, although it seemed so.
        lacking: Of the pieces that are sealed.
        findings: How many there were in them.
        unreadable: Of all pieces: what is to be salvaged in the end.
        disk_faults: What our disk said, where a second try succeeded.
    """

    has_ended: bool = False
    rest: IncompleteReason = IncompleteReason.AGENT_STOPPED
    problem: tuple[str, str] | None = None
    to_be_seen: Finding | None = None
    refused: Need | None = None
    lacking: Lacking = dataclasses.field(default_factory=Lacking)
    findings: int = 0
    unreadable: list[tuple[CopyStep, FileId]] = dataclasses.field(default_factory=list)
    disk_faults: list[str] = dataclasses.field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class DockedRecorder:
    """A recorder that is being read, and all that it takes; its docking is open in the journal."""

    opened: OpenDocking
    profile: Profile
    volume: Volume
    thread: OneThread
    salvager: FileSalvager
    teller: Teller
    course: Course
    ports: DockingPorts
    settings: DockingSettings
    docked_at: datetime


class PieceReader:
    """Reads what is not sealed yet; what it keeps in mind of each file is gone with it."""

    def __init__(self, docked: DockedRecorder) -> None:
        """Know of nothing yet."""
        self._docked = docked
        self._opened = docked.opened
        self._profile = docked.profile
        self._volume = docked.volume
        self._thread = docked.thread
        self._teller = docked.teller
        self._course = docked.course
        self._ports = docked.ports
        self._settings = docked.settings
        self._copier = FileCopier(
            docked.volume,
            docked.thread,
            docked.opened.device,
            ports=docked.ports,
            settings=docked.settings,
            on_bytes=docked.teller.note_held,
            on_reserved=self._count_as_taken,
        )
        self._small_files = SmallFiles(
            docked.volume,
            docked.thread,
            docked.opened.device,
            self._copier,
            ports=docked.ports,
            settings=docked.settings,
        )
        self._survey: Survey | None = None
        self._paths: set[bytes] = set()
        # What all listings said, each once, and what reading said.
        self._listed_findings: dict[Finding, None] = {}
        self._not_taken: dict[NotTaken, None] = {}
        self._findings: list[Finding] = []
        self._file_ids: dict[FileKey, FileId] = {}
        self._generations: dict[FileKey, int] = {}
        self._tried: set[FileKey] = set()
        self._taken: set[FileKey] = set()
        self._salvaged_earlier: list[FileKey] = []
        self._reasons: dict[FileKey, IncompleteReason] = {}

    @property
    def paths(self) -> frozenset[bytes]:
        """Of all that this piece is about."""
        return frozenset(self._paths)

    @property
    def lacking(self) -> Lacking:
        """What there was no room for, in this piece and those before."""
        mine = Lacking() if self._survey is None else self._survey.plan.lacking
        return self._course.lacking.and_also(mine)

    def say(self, findings: Sequence[Finding]) -> None:
        """Take in findings about a listing as a whole."""
        self._listed_findings |= dict.fromkeys(findings)
        for finding in findings:
            if finding.code in TO_BE_SEEN and self._course.to_be_seen is None:
                self._course.to_be_seen = finding
        self._tell_findings()

    def find(self, code: FindingCode, step: CopyStep | None, detail: str) -> None:
        """Say something about one file, or about all of them."""
        path = None if step is None else name_of(step.key.path).path
        found = Finding(code=code, path=path, detail=detail[:MAX_DETAIL_CHARACTERS])
        self._findings.append(found)
        if code in TO_BE_SEEN and self._course.to_be_seen is None:
            self._course.to_be_seen = found
        self._tell_findings()

    async def take(self, piece: Piece) -> None:
        """Read what is new in a piece; may be asked again with one that has more."""
        found = await self._prepare(piece)
        for step in found.plan.no_space:
            self._reasons[step.key] = IncompleteReason.NO_SPACE
        steps = [step for step in found.plan.steps if step.key not in self._tried]
        for batch in batches(steps, self._settings):
            if self._course.has_ended:
                break
            async with self._ports.read_turn:
                await self._read_batch(batch)
        self._teller.pause()

    async def salvage(self) -> None:
        """Keep what else can be read of files that could not be read whole, of all pieces."""
        unreadable = self._course.unreadable
        if not unreadable:
            return
        known = await self._ports.journal.files_at(
            self._opened.device, {step.key.path for step, _ in unreadable}
        )
        rows = {row.file_id: row for row in known}
        # What has no row any more is another file now, and was read as that.
        for step, row in [(step, rows[one]) for step, one in unreadable if one in rows]:
            if self._course.has_ended:
                return
            self._teller.begin(step.key.path)
            try:
                told = await self._docked.salvager.salvage(row)
            except (SourceChangedError, SourceUnsteadyError) as error:
                self._note_unread(step, error)
            except SourceUnreadableError:
                continue  # it cannot even be opened, which was said
            except (SourceVanishedError, CopyDiffersError, OSError) as error:
                self.note_end(step, error)
            else:
                self._say_more(step, told)
        self._teller.pause()

    async def content(self, *, is_whole: bool) -> tuple[Content, tuple[FileId, ...]]:
        """Return what manifests say of this piece, and which unfinished files are lost.

        Args:
            is_whole: Whether the listing showed all that is on the recorder.
        """
        opened, found = self._opened, self._survey
        if found is None:
            raise ValueError("nothing was surveyed")
        rows = await rows_to_settle(self._ports.journal, opened.device, self._paths)
        absent = [row.key for row in found.absent]
        if not is_whole:
            self._reasons |= dict.fromkeys(absent, IncompleteReason.UNREADABLE)
            absent = [key for key in absent if rows[key].lost]
        seen = Seen(
            docking_id=opened.docking_id,
            groups=found.groups,
            others=found.others,
            listed=found.listed,
            rows=rows,
            reasons=self._reasons,
            default_reason=self._course.rest,
            absent=frozenset(absent),
        )
        settlement = await self._thread.run(partial(settle, seen))
        content = Content(
            settlement=dataclasses.replace(
                settlement, incomplete=(*settlement.incomplete, *await self._held_earlier())
            ),
            not_taken=tuple(self._not_taken),
            findings=(*self._listed_findings, *self._findings, *self._copier.findings),
        )
        return content, tuple(rows[key].file_id for key in absent)

    def finish(self) -> None:
        """Count what this piece lacked and found, now that it is sealed."""
        self._course.lacking = self.lacking
        self._course.findings += len(self._listed_findings) + len(self._findings)
        self._course.disk_faults += self._copier.disk_faults

    async def _held_earlier(self) -> list[Incomplete]:
        """Return what is held now of files that an earlier piece could not read whole."""
        keys = frozenset(self._salvaged_earlier)
        device, paths = self._opened.device, {key.path for key in keys}
        rows = await self._ports.journal.files_at(device, paths)
        return [
            unfinished(row.key, row, IncompleteReason.UNREADABLE) for row in rows if row.key in keys
        ]

    async def _prepare(self, piece: Piece) -> Survey:
        """Survey a piece, and note in the journal all of it that is going to be read."""
        journal, device = self._ports.journal, self._opened.device
        self._paths |= piece.paths
        rows = await journal.files_at(device, piece.paths)
        if not self._course.has_ended:
            await self._recognise(piece, rows)
        self._survey = found = await self._look(piece, rows)
        self.say(found.findings)
        self._not_taken |= dict.fromkeys(found.not_taken)
        if not self._course.has_ended:
            await self._begin(found)
        todo = [step for step in found.plan.steps if step.key not in self._tried]
        self._teller.expect(files=len(todo), size_bytes=sum(step.key.size_bytes for step in todo))
        return found

    async def _begin(self, found: Survey) -> None:
        journal, staging = self._ports.journal, self._ports.staging
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

    async def _look(self, piece: Piece, rows: Sequence[FileRow]) -> Survey:
        """Survey a piece, and be given the room that it needs."""
        docking_id, allotments = self._opened.docking_id, self._ports.allotments
        async with allotments.planning:
            room = await allotments.room(self._ports.staging, but=docking_id)
            found = await self._thread.run(
                partial(
                    survey,
                    piece.entries,
                    rows,
                    self._profile,
                    docked_at=self._docked.docked_at,
                    room=dataclasses.replace(room, only_marked=self._settings.only_marked),
                    generations=self._generations,
                )
            )
            allotments.give(docking_id, found.plan.missing_bytes)
        return found

    async def _recognise(self, piece: Piece, rows: Sequence[FileRow]) -> None:
        """Find out which files are not what they were, although they are called so."""
        look = partial(
            recognise,
            self._volume,
            listed_keys(piece.entries) - self._tried,
            rows,
            self._profile,
            docking_id=self._opened.docking_id,
            docked_at=self._docked.docked_at,
            progress=self._thread.stop_if_asked,
        )
        try:
            seen = await self._thread.run(look)
        except SourceVanishedError as error:
            self.note_end(None, error)
        else:
            self._generations |= seen.generations
            self.say(seen.findings)

    async def _read_batch(self, batch: Sequence[CopyStep]) -> None:
        """Copy one file, or some small ones that follow each other in the plan."""
        done = await self._read_together(batch) if len(batch) > 1 else frozenset()
        for step in batch:
            if self._course.has_ended and step.key not in done:
                continue
            self._tried.add(step.key)
            self._reasons.pop(step.key, None)
            if step.key in done:
                self._teller.note_read(step.key.size_bytes)
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
        self._teller.begin(batch[0].key.path)
        return await self._small_files.copy(batch, self._file_ids)

    async def _read_one(self, step: CopyStep) -> None:
        self._teller.begin(step.key.path)
        try:
            await self._copier.copy(step, self._file_ids[step.key])
        except (SizeMismatchError, SourceChangedError, SourceUnreadableError) as error:
            self._note_unread(step, error)
        except (SourceVanishedError, CopyDiffersError, OSError) as error:
            self.note_end(step, error)
        else:
            await self._drop_parts(step)
            self._teller.note_read(step.key.size_bytes)

    async def _drop_parts(self, step: CopyStep) -> None:
        """Free the parts of a file that is whole now; the journal has no rows of them any more."""
        if step.row is not None and step.row.salvaged:
            await self._thread.run(partial(self._ports.salvaging.remove, step.row.file_id))

    def _note_unread(self, step: CopyStep, error: EdgeError) -> None:
        """One file could not be read; the others can."""
        code, reason = FindingCode.UNREADABLE_FILE, IncompleteReason.UNREADABLE
        if isinstance(error, SizeMismatchError | SourceChangedError):
            code, reason = FindingCode.SIZE_CHANGED, IncompleteReason.SIZE_CHANGED
        elif not isinstance(error, SourceUnsteadyError):
            self._course.unreadable.append((step, self._file_ids[step.key]))
        self._reasons[step.key] = reason
        self.find(code, step, str(error))
        if self._course.problem is None:
            self._course.problem = code.value, str(error)

    def note_end(self, step: CopyStep | None, error: EdgeError | OSError) -> None:
        """Nothing more can be read."""
        course = self._course
        course.has_ended = True
        if isinstance(error, SourceVanishedError):
            course.rest = IncompleteReason.RECORDER_LEFT
            self.find(FindingCode.RECORDER_LEFT, step, str(error))
        elif isinstance(error, CopyDiffersError):
            course.problem = error.code, str(error)
        elif isinstance(error, OSError):
            full = error.errno in NO_SPACE
            if full and step is not None:
                course.refused = Need(size_bytes=step.missing_bytes, files=1, marked=step.marked)
            course.rest = IncompleteReason.NO_SPACE if full else course.rest
            refuses = error.errno == errno.EROFS
            code = NO_ROOM if full else DISK_REFUSES if refuses else DISK_FAULT
            course.problem = code, str(error)

    def _say_more(self, step: CopyStep, told: str) -> None:
        """Put what was salvaged of a file in front of why it could not be read whole."""
        if step.key not in self._tried:
            # The manifest that said so is sealed: this one says what is held now.
            self._salvaged_earlier.append(step.key)
            self.find(FindingCode.UNREADABLE_FILE, step, told)
            return
        said = FindingCode.UNREADABLE_FILE, name_of(step.key.path).path
        self._findings = [
            structs.replace(one, detail=f"{told}: {one.detail}"[:MAX_DETAIL_CHARACTERS])
            if (one.code, one.path) == said
            else one
            for one in self._findings
        ]

    def _tell_findings(self) -> None:
        mine = len(self._listed_findings) + len(self._findings)
        self._teller.note_findings(self._course.findings + mine)
