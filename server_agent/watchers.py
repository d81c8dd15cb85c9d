"""The docks as watchers of the custody log: each receipt shows them that it goes on.

What a dock saw last is its own word, cosigned, and kept. From there on the archive has to show that
nothing was taken away or changed, or the dock trusts no receipt.
"""

import asyncio
import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import structlog

from protocol.checkpoint import Checkpoint, open_checkpoint
from protocol.envelope import parse_statement, take_apart
from protocol.errors import ProtocolError, UnknownKeyError
from protocol.findings import FindingCode
from protocol.identifiers import DockId, ReceiptId
from protocol.log_proofs import (
    Inclusion,
    LoggedReceipt,
    SeenCheckpoint,
    parse_seen,
    write_hashes,
)
from protocol.merkle import (
    check_inclusion,
    leaf_hash,
    prove_consistency,
    prove_inclusion,
)
from protocol.notes import NoteKey, NoteKind, read_note
from protocol.receipt import Receipt
from protocol.strict_json import encode
from protocol.topics import parse_dock_topic
from protocol.versions import Statement
from server_agent.adapters.catalogue_store import CatalogueStore
from server_agent.adapters.chain_records import keep_refused
from server_agent.adapters.custody_records import (
    append_entries,
    load_receipt_entries,
)
from server_agent.adapters.log_files import LogFiles
from server_agent.adapters.upload_slots import in_thread
from server_agent.alarms import Alarms
from server_agent.catalogue.book import Received
from server_agent.catalogue.rows import refused_row
from server_agent.errors import KeptManifestError, LogChangedError
from server_agent.intake.checks import KnownSite, Refused
from server_agent.ledger.custody import log_receipt
from server_agent.ledger.log_check import LogReader, check_beginning
from server_agent.signing import Answer, Signer

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What a dock said, its signature verified."""

    dock: DockId
    said: SeenCheckpoint
    checkpoint: Checkpoint


class Watchers:
    """Proves to docks, and keeps what they cosigned."""

    def __init__(
        self, store: CatalogueStore, files: LogFiles, *, signer: Signer, alarms: Alarms
    ) -> None:
        """Begin with what the catalogue has of each dock.

        Args:
            store: The catalogue.
            files: The log's folder.
            signer: Its key signs the log.
            alarms: Told when a dock saw another log.
        """
        self._store = store
        self._files = files
        self._signer = signer
        self._alarms = alarms
        # What each dock will have seen when everything that was sent has come.
        self._shown: dict[DockId, int] | None = None

    async def enter(self, answers: Sequence[Answer]) -> None:
        """Log the receipts that never were: they are from before there was a log.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: Our catalogue failed.
        """
        receipts = await asyncio.to_thread(_receipts, answers)
        known = await self._entries(receipts.values())
        now_utc = self._signer.clock()
        new = [
            log_receipt(one, now_utc=now_utc)
            for one, receipt_id in receipts.items()
            if receipt_id not in known
        ]
        if new:
            async with self._store.writing() as connection:
                await append_entries(connection, new)

    async def show(self, answers: Sequence[Answer]) -> list[Answer]:
        """Return receipts with what proves that they are in the log, the others as they are.

        Args:
            answers: What was committed for them is under the checkpoint on the disk.

        Raises:
            LogChangedError: The log on the disk is not one that can prove it.
            sqlalchemy.exc.SQLAlchemyError, OSError: Our catalogue or disk failed.
        """
        receipts = await asyncio.to_thread(_receipts, answers)
        if not receipts:
            return list(answers)
        entries = await self._entries(receipts.values())
        if self._shown is None:
            self._shown = await in_thread(self._watched)
        prove = partial(self._prove, answers, receipts, entries, self._shown)
        proved, shown = await in_thread(prove)
        self._shown |= shown
        return proved

    async def take(self, received: Received, site: KnownSite) -> None:
        """Take in what a dock of *site* says that it saw; what cannot be believed is kept.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError: Our catalogue or disk failed.
        """
        seen = await asyncio.to_thread(self._read, received, site)
        if isinstance(seen, Refused):
            await self._refuse(received, seen)
            return
        fault = await in_thread(partial(self._compare, seen.checkpoint))
        if fault is not None:
            await self._refuse(
                received,
                Refused(code=FindingCode.LOG_DIFFERS, detail=fault, dock=seen.dock),
            )
            await self._alarms.sound(
                FindingCode.LOG_DIFFERS.value,
                "A dock saw a custody log that this one does not begin with.",
                {"dock": seen.dock, "size": str(seen.checkpoint.size), "problem": fault},
                once_per=(seen.dock,),
            )
            return
        await in_thread(partial(self._files.put_watched, seen.dock, seen.said.note.encode()))
        if seen.said.asks_again and self._shown is not None:
            _log.info("a dock asks for proofs again", dock=seen.dock, size=seen.checkpoint.size)
            self._shown[seen.dock] = seen.checkpoint.size

    def _watched(self) -> dict[DockId, int]:
        """Return how many entries each dock saw last; one of which nothing can be read saw none."""
        found: dict[DockId, int] = {}
        for dock, note in self._files.watched().items():
            with contextlib.suppress(ProtocolError):
                found[dock] = open_checkpoint(note, self._signer.key.public).size
        return found

    async def _entries(self, receipts: Collection[ReceiptId]) -> dict[ReceiptId, tuple[int, bytes]]:
        async with self._store.reading() as connection:
            return await load_receipt_entries(connection, set(receipts))

    def _prove(
        self,
        answers: Sequence[Answer],
        receipts: Mapping[bytes, ReceiptId],
        entries: Mapping[ReceiptId, tuple[int, bytes]],
        shown: Mapping[DockId, int],
    ) -> tuple[list[Answer], dict[DockId, int]]:
        note = self._files.read_checkpoint()
        if note is None:
            raise LogChangedError("there is no checkpoint")
        proved, now_shown = list[Answer](), dict[DockId, int]()
        try:
            checkpoint = open_checkpoint(note, self._signer.key.public)
            size = checkpoint.size
            reader = LogReader(size, self._files.read)
            for one in answers:
                if one.envelope not in receipts:
                    proved.append(one)
                    continue
                index, entry = entries[receipts[one.envelope]]
                hashes = prove_inclusion(index, size, reader.nodes)
                check_inclusion(index, size, leaf_hash(entry), hashes, checkpoint.root)
                inclusion = Inclusion(entry=entry, index=index, hashes=hashes, note=note)
                earlier = now_shown.get(one.dock, shown.get(one.dock, 0))
                proved.append(_logged(one, inclusion, earlier, size, reader))
                now_shown[one.dock] = size
        except (ProtocolError, KeyError, ValueError) as error:
            raise LogChangedError(f"a receipt cannot be proved: {error!r}") from error
        return proved, now_shown

    def _read(self, received: Received, site: KnownSite) -> _Seen | Refused:
        try:
            dock = parse_dock_topic(received.untrusted_topic).dock
        except ProtocolError as error:
            return Refused(code=FindingCode.UNKNOWN_DOCK, detail=str(error))
        keys = site.docks.get(dock)
        if keys is None:
            return Refused(code=FindingCode.UNKNOWN_DOCK, detail=f"dock {dock!r}", dock=dock)
        try:
            said = parse_seen(received.untrusted_body)
            note = read_note(said.note.encode())
        except ProtocolError as error:
            code = FindingCode.STATEMENT_UNREADABLE
            return Refused(code=code, detail=f"{error.code}: {error}", dock=dock)
        try:
            checkpoint = open_checkpoint(note.encode(), self._signer.key.public)
            for key in keys.values():
                try:
                    note.cosigned_at_s(NoteKey(name=dock, key=key, kind=NoteKind.COSIGNATURE))
                except UnknownKeyError:
                    continue
                return _Seen(dock=dock, said=said, checkpoint=checkpoint)
        except ProtocolError as error:
            code = FindingCode.SIGNATURE_WRONG
            return Refused(code=code, detail=f"{error.code}: {error}", dock=dock)
        return Refused(
            code=FindingCode.SIGNATURE_WRONG, detail="not cosigned by this dock", dock=dock
        )

    def _compare(self, seen: Checkpoint) -> str | None:
        """Return how our log is not one that begins with what was seen; None if it is."""
        note = self._files.read_checkpoint()
        if note is None:
            return "there is no log"
        try:
            ours = open_checkpoint(note, self._signer.key.public, origin=seen.origin)
        except ProtocolError as error:
            return str(error)
        faults = check_beginning(seen, LogReader(ours.size, self._files.read))
        return next((f"{one.where}: {one.what}" for one in faults), None)

    async def _refuse(self, received: Received, refused: Refused) -> None:
        _log.warning("cosignature refused", dock=refused.dock, reason=refused.detail)
        row = refused_row(
            received.untrusted_topic,
            received.untrusted_body,
            refused,
            received_at=self._signer.clock(),
        )
        async with self._store.writing() as connection:
            await keep_refused(connection, [row])


def _receipts(answers: Sequence[Answer]) -> dict[bytes, ReceiptId]:
    """Return the ids of the receipts among *answers*, by their envelopes.

    Raises:
        KeptManifestError: One that we keep can no longer be read.
    """
    found: dict[bytes, ReceiptId] = {}
    for one in answers:
        if one.needs_checkpoint:
            try:
                sealed = take_apart(one.envelope)
                receipt = parse_statement(sealed, Statement.RECEIPT, Receipt)
            except ProtocolError as error:
                raise KeptManifestError(f"a receipt: {error.code}: {error}") from error
            found[one.envelope] = receipt.receipt_id
    return found


def _logged(
    answer: Answer, inclusion: Inclusion, earlier: int, size: int, reader: LogReader
) -> Answer:
    # A log that is shorter than what a dock saw cannot show that it goes on from there.
    can_show = 0 < earlier <= size
    consistency = prove_consistency(earlier, size, reader.nodes) if can_show else ()
    logged = LoggedReceipt(
        receipt=answer.envelope.decode(),
        inclusion=inclusion.encode(),
        earlier=earlier if can_show else 0,
        consistency=write_hashes(consistency),
    )
    return replace(answer, envelope=encode(logged))
