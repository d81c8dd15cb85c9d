"""One docking, from a volume in a bay to sealed manifests, over ports.

Blocking work is done in a thread of the docking's own: a recorder that hangs holds up no other
bay. A cancelled docking seals nothing: it stays open in the journal, and is closed at the next
start by `close_interrupted_dockings`, or when a recorder comes into the same bay, or the same
recorder into another one.

A recorder with very many files is gone through in pieces. Each is sealed by itself, and its bytes
are on their way to the archive while the next one is read.
"""

import dataclasses
import itertools
from functools import partial
from typing import Final

from edge_agent.errors import (
    EdgeError,
    RecorderBusyError,
    SourceUnreadableError,
    SourceVanishedError,
    UnidentifiedRecorderError,
    UnregisteredRecorderError,
)
from edge_agent.file_salvager import FileSalvager
from edge_agent.ingest.division import Piece, divide
from edge_agent.ingest.files import FileId, FileKey
from edge_agent.ingest.inventory import take_inventory
from edge_agent.ingest.listing import Listing, take_listing
from edge_agent.ingest.overview import look_over
from edge_agent.ingest.told import Told
from edge_agent.ingest.volume import Volume
from edge_agent.interrupted import Said, seal, with_told
from edge_agent.one_thread import OneThread
from edge_agent.opening import meet, open_docking, registered
from edge_agent.piece_reader import Course, DockedRecorder, PieceReader
from edge_agent.ports import (
    NO_ROOM,
    WAITS_FOR_ROOM,
    DockingOutcome,
    DockingPorts,
    DockingSettings,
    NewCopy,
    OutcomeKind,
)
from edge_agent.telling import Report, Teller
from protocol.findings import Finding, FindingCode
from protocol.identifiers import BayNumber
from protocol.manifest import IncompleteReason

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
    told: Told | None = None,
) -> DockingOutcome:
    """Read one recorder: identify it, take what is new, and seal what is whole.

    Args:
        volume: Of the recorder; used in one thread at a time, and not after the return.
        bay: Where it is docked; one docking runs in a bay at a time.
        ports: The world.
        settings: Of the dock.
        report: Called in the event loop: first once the recorder has been identified, then for
            every MiB or so.
        told: What the recorder told before it became a disk.

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
                identity, entry, told, bay=bay, docked_at=docked_at, ports=ports, settings=settings
            )
        except SourceVanishedError as error:
            return DockingOutcome(kind=OutcomeKind.LEFT, text=str(error))
        except (UnidentifiedRecorderError, UnregisteredRecorderError) as error:
            return _not_begun(OutcomeKind.REFUSED, error)
        except (SourceUnreadableError, RecorderBusyError) as error:
            return _not_begun(OutcomeKind.ATTENTION, error)
        docked = DockedRecorder(
            opened=opened,
            profile=identity.profile,
            volume=volume,
            thread=thread,
            salvager=FileSalvager(volume, thread, ports),
            teller=Teller(opened, report, monotonic_s=ports.monotonic_s),
            course=Course(),
            ports=ports,
            settings=settings,
            docked_at=docked_at,
        )
        try:
            docking = _Docking(docked)
            await docking.take(listing)
            return await docking.close()
        finally:
            ports.live.discard(opened.docking_id)
            ports.allotments.end(opened.docking_id)


class _Docking:
    """One docking of a registered recorder, which is open in the journal."""

    def __init__(self, docked: DockedRecorder) -> None:
        self._docked = docked
        self._course = docked.course
        self._thread = docked.thread
        self._ports = docked.ports
        self._settings = docked.settings
        self._reader = PieceReader(docked)
        self._said = Said()
        self._is_whole = False
        # What was sealed with this docking's earlier pieces.
        self._sealed_gone: set[FileKey] = set()
        self._listing_findings: set[Finding] = set()

    async def take(self, listing: Listing) -> None:
        """Read what is new, and list the recorder again until nothing more has come.

        All is sealed but the last piece. What could not be read is salvaged after all else.
        """
        rest = listing
        for _ in range(_MAX_ROUNDS):
            await self._take_pieces(listing, rest)
            again = None if self._course.has_ended else await self._list_again()
            if again is None or again.shows_the_same(listing):
                break
            rest = again
            if self._said.manifest_ids:
                rest = again.since(listing, also=self._reader.paths)
            listing = again
        else:
            self._reader.find(FindingCode.UNREADABLE_DIRECTORY, None, _NEVER_STILL)
        await self._reader.salvage()

    async def _take_pieces(self, listing: Listing, rest: Listing) -> None:
        """Read *rest*, which is all of the listing or what is new in it, a piece at a time."""
        profile, teller = self._docked.profile, self._docked.teller
        overview = await self._thread.run(partial(look_over, listing, profile))
        self._is_whole = overview.is_whole
        self._reader.say([one for one in overview.findings if one not in self._listing_findings])
        self._listing_findings |= set(overview.findings)
        pieces = await self._thread.run(
            partial(
                divide,
                rest.entries,
                await self._gone_from(listing),
                profile,
                most_files=self._settings.piece_files,
            )
        )
        for later in pieces[1:]:
            teller.expect(files=later.files, size_bytes=later.size_bytes)
            await self._begin(later)
        await self._reader.take(pieces[0])
        for before, piece in itertools.pairwise(pieces):
            await self._seal_piece(before)
            teller.expect(files=-piece.files, size_bytes=-piece.size_bytes)
            await self._reader.take(piece)

    async def _begin(self, piece: Piece) -> None:
        """Note in the journal what is going to be read later: a kill must not make it unknown."""
        docked = self._docked
        device = docked.opened.device
        look = partial(take_inventory, piece.entries, docked.profile, docked_at=docked.docked_at)
        found = await self._thread.run(look)
        rows = await self._ports.journal.files_at(device, piece.paths)
        known = {dataclasses.replace(row.key, generation=0) for row in rows}
        marked = {clip.key for clip in found.clips if clip.marked}
        new = [
            NewCopy(file_id=FileId(self._ports.mint()), key=key, marked=key in marked)
            for key in sorted(found.keys - known)
        ]
        await self._ports.journal.begin_copies(docked.opened.docking_id, device, new)

    async def _gone_from(self, listing: Listing) -> tuple[FileKey, ...]:
        """Return what was begun before, is claimed by no manifest, and is not in the listing."""
        keys = await self._ports.journal.unclaimed_keys(self._docked.opened.device)
        wanted = {key.path for key in keys}
        listed = {entry.path for entry in listing.entries if entry.path in wanted}
        gone = {key for key in keys if key.path not in listed}
        return tuple(sorted(gone - self._sealed_gone))

    async def _list_again(self) -> Listing | None:
        """Return what is on the recorder now; None if it cannot be told, which is noted."""
        entries, limits = self._docked.volume.entries, self._settings.limits
        try:
            return await self._thread.run(lambda: take_listing(entries(), limits))
        except SourceVanishedError as error:
            self._reader.note_end(None, error)
        except SourceUnreadableError as error:
            self._reader.find(FindingCode.UNREADABLE_DIRECTORY, None, str(error))
        return None

    async def _seal_piece(self, piece: Piece) -> None:
        """Seal what has been read so far; the docking goes on."""
        await self._seal(is_end=False)
        self._sealed_gone |= set(piece.gone)
        self._reader = PieceReader(self._docked)
        self._ports.on_sealed()

    async def _seal(self, *, is_end: bool) -> None:
        docked = self._docked
        content, lost = await self._reader.content(is_whole=self._is_whole)
        content = with_told(content, docked.opened) if is_end else content
        sealed = await seal(
            docked.opened,
            docked.profile.zone,
            content,
            self._ports,
            self._settings,
            lost=lost,
            is_end=is_end,
        )
        self._said.add(content, sealed)
        self._reader.finish()

    async def close(self) -> DockingOutcome:
        """Seal what is whole, and say how it went."""
        await self._seal(is_end=True)
        course = self._course
        kind = self._kind()
        return dataclasses.replace(
            self._said.outcome(kind, self._docked.opened, problem=course.problem or (None, "")),
            disk_faults=tuple(course.disk_faults),
            lacking_bytes=course.lacking.size_bytes,
            waits_for=course.refused or course.lacking.waits_for,
        )

    def _kind(self) -> OutcomeKind:
        if self._course.rest is IncompleteReason.RECORDER_LEFT:
            return OutcomeKind.LEFT
        if self._course.problem is None:
            self._course.problem = self._to_be_seen()
        return OutcomeKind.SEALED if self._course.problem is None else OutcomeKind.ATTENTION

    def _to_be_seen(self) -> tuple[str, str] | None:
        lacking, finding = self._course.lacking, self._course.to_be_seen
        if lacking.waits_for is not None:
            kept_bytes = self._ports.allotments.kept_for_marked_bytes
            waits = kept_bytes and not lacking.waits_for.marked
            return WAITS_FOR_ROOM if waits else NO_ROOM, lacking.text
        if finding is not None:
            return finding.code.value, f"{finding.path!r}: {finding.detail}"
        return None


def _not_begun(kind: OutcomeKind, error: EdgeError) -> DockingOutcome:
    return DockingOutcome(kind=kind, code=error.code, text=str(error))
