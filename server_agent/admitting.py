"""Take in what docks publish: a batch of messages, one transaction, signed answers."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeGuard

import structlog
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError
from sqlalchemy.ext.asyncio import AsyncConnection

from protocol.chain import ChainHead
from protocol.errors import ProtocolError
from protocol.findings import FindingCode
from protocol.identifiers import DockId, ManifestId
from protocol.receipt import Admission, Refusal
from protocol.topics import Channel, parse_dock_topic
from server_agent.adapters.catalogue_store import CatalogueStore
from server_agent.adapters.chain_records import (
    keep_alerts,
    keep_refused,
    load_book,
    load_file_states,
    load_receipts,
    load_waiting_docks,
    write_changes,
)
from server_agent.adapters.custody_records import append_entries
from server_agent.adapters.waiting_records import load_next_waiting, load_waiting_bytes
from server_agent.alarms import Alarms
from server_agent.catalogue.book import Book, Denial, Received, Reply, Settlement, Standing
from server_agent.catalogue.rows import Row, alert_row, refused_row
from server_agent.custody import CustodyLog
from server_agent.errors import KeptManifestError, UnprocessableMessageError
from server_agent.intake.alerts import read_alert
from server_agent.intake.checks import Claim, KnownSite, Refused, read_claim, read_kept
from server_agent.intake.missing import missing_files
from server_agent.intake.states import FileState, ManifestState
from server_agent.intake.window import judge_window
from server_agent.ledger import statements
from server_agent.ledger.custody import Logged, log_admission, log_receipt
from server_agent.signing import Answer, Signer

# Of manifests that waited, in one transaction; parsed, they take some times as much memory.
_PROMOTED_BYTES: Final = 8 * 1024 * 1024

_log = structlog.get_logger(__name__)


_Read = tuple[Received, Claim | Refused | DockId]
"""A message, and what checks 1 to 6 say of it; for an alert, the dock on whose topic it is."""


@dataclass(slots=True, kw_only=True)
class _Part:
    """What one transaction took in of a batch.

    Attributes:
        taken: How many messages.
        answers: To them.
        promoting: Docks of which manifests may have stopped having to wait.
    """

    taken: int = 0
    answers: list[Answer] = field(default_factory=list)
    promoting: set[DockId] = field(default_factory=set)


class _Window:
    """How much of each dock waits, within one transaction."""

    def __init__(self, connection: AsyncConnection, book: Book) -> None:
        self._connection = connection
        self._book = book
        self._waiting_bytes: dict[DockId, int] = {}

    async def judge(self, one: Claim | Refused) -> Refused | None:
        """Return why a manifest that would have to wait may not; None if there is room."""
        if not isinstance(one, Claim):
            return None
        dock, sequence = one.dock, one.manifest.sequence
        head_sequence = self._book.head(dock).sequence
        if sequence <= head_sequence + 1 or (dock, sequence) in self._book.by_place:
            return None
        if dock not in self._waiting_bytes:
            self._waiting_bytes[dock] = await load_waiting_bytes(self._connection, dock)
        refused = judge_window(
            one, head_sequence=head_sequence, waiting_bytes=self._waiting_bytes[dock]
        )
        if refused is None:
            self._waiting_bytes[dock] += len(one.envelope)
        return refused


class Admitter:
    """Decides about messages and writes what it decided.

    Attributes:
        site: The registry that is in force; whoever issues a new one sets it.
    """

    def __init__(
        self,
        store: CatalogueStore,
        *,
        signer: Signer,
        alarms: Alarms,
        site: KnownSite,
        matched: Callable[[int], None],
        custody: CustodyLog,
    ) -> None:
        """Admit into *store*.

        Args:
            store: The catalogue.
            signer: Signs answers.
            alarms: Told what we fail at.
            site: The registry.
            matched: Called, once it is committed, with the number of a bag that should hold what a
                manifest promises.
            custody: Says when a receipt may be sent.
        """
        self.site = site
        self._matched = matched
        self._store = store
        self._signer = signer
        self._alarms = alarms
        self._custody = custody

    async def take(self, messages: Sequence[Received]) -> list[Answer]:
        """Take in *messages*, in order.

        When this returns, each of them is kept durably, or was answered that it has to come again,
        and may be acknowledged; taking one in again changes nothing and gives its answer again.

        Returns:
            What is to be published; losing it does no harm, for the dock asks again.

        Raises:
            sqlalchemy.exc.DBAPIError, OSError: Our own database or disk failed; not all of them
                were kept, and the messages have to come again.
        """
        site = self.site
        # In a thread: verifying and parsing a batch of large manifests takes a good part of a
        # second, and uploads go on meanwhile.
        rest: Sequence[_Read] = await asyncio.to_thread(_read_all, messages, site)
        answers: list[Answer] = []
        at_least, at_most = 0, len(rest)
        while rest:
            try:
                part = await self._take_together(rest[:at_most], site, at_least=at_least)
            except (ValueError, TypeError, ArithmeticError, LookupError, StatementError) as error:
                if _is_of_our_disk(error):
                    raise
                if at_most > 1:
                    at_most = 1  # one message must not keep the others from being taken in
                    continue
                await self._set_aside(rest[0][0], error)
                part = _Part(taken=1)
            answers += part.answers + await self.promote(part.promoting)
            # What stands in the way of the next one now will not go away by itself.
            at_least = 0 if part.taken else 1
            rest = rest[part.taken :]
        return await self._custody.covered(answers)

    async def promote(self, docks: Collection[DockId]) -> list[Answer]:
        """Admit what waited and need not wait any longer, of *docks*.

        What our disk or catalogue keeps from being admitted goes on waiting; it is an alarm.
        """
        answers: list[Answer] = []
        for dock in sorted(docks):
            async with self._alarms.outliving("admit what waited", dock=dock):
                while promoted := await self._promote_some(dock):
                    answers += promoted
        return answers

    async def promote_all(self) -> list[Answer]:
        """Admit whatever need not wait any longer; for the start, after a crash.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: The catalogue cannot be read.
        """
        async with self._store.reading() as connection:
            docks = await load_waiting_docks(connection)
        return await self._custody.covered(await self.promote(docks))

    async def _promote_some(self, dock: DockId) -> list[Answer]:
        """Settle the manifests whose turn has come, no more of them than may be in memory.

        Raises:
            KeptManifestError: The next one is damaged, and none was settled.
        """
        async with self._store.reading() as connection:
            envelopes = await load_next_waiting(connection, dock, max_bytes=_PROMOTED_BYTES)
        claims = await asyncio.to_thread(_read_sound, envelopes)
        if not claims:
            return []
        async with self._store.writing() as connection:
            settlement = await self._settlement(connection, claims, self.site)
            replies = [
                settlement.settle_waiting(claim)
                for claim in claims
                if _is_waiting(settlement.book, claim)
            ]
            answers = await self._finish(connection, settlement, replies)
        self._tell_matched(settlement)
        return answers

    async def _take_together(
        self, read: Sequence[_Read], site: KnownSite, *, at_least: int
    ) -> _Part:
        """Take in messages as far as one transaction can.

        It ends before a manifest whose turn it is and whose place another one holds that waits:
        whether that one may stay there has to be settled first.
        """
        part = _Part()
        alerts: list[tuple[DockId, Received]] = []
        replies: list[Reply | None] = []
        async with self._store.writing() as connection:
            claims = [one for _, one in read if isinstance(one, Claim)]
            settlement = await self._settlement(connection, claims, site)
            window = _Window(connection, settlement.book)
            for received, one in read:
                if part.taken >= at_least and _has_rival(one, settlement.book):
                    part.promoting.add(one.dock)
                    break
                if isinstance(one, str):
                    part.taken += 1
                    alerts.append((one, received))
                    continue
                refused = await window.judge(one)
                if refused is not None and refused.dock in settlement.changes.heads:
                    break  # there may be room once what waits is admitted
                part.taken += 1
                if refused is not None:
                    replies.append(self._send_away(received, refused))
                else:
                    replies.append(settlement.settle(received, one))
            part.answers = await self._finish(connection, settlement, replies)
            part.promoting |= settlement.changes.heads.keys()
            await self._take_alerts(connection, alerts, site)
        self._tell_matched(settlement)
        return part

    def _tell_matched(self, settlement: Settlement) -> None:
        for bag_id in settlement.changes.matched_bags():
            self._matched(bag_id)

    async def _take_alerts(
        self,
        connection: AsyncConnection,
        alerts: Sequence[tuple[DockId, Received]],
        site: KnownSite,
    ) -> None:
        now_utc = self._signer.clock()
        rows: list[Row] = []
        refused: list[Row] = []
        for dock, received in alerts:
            read = read_alert(dock, received.untrusted_body, site=site)
            if isinstance(read, Refused):
                refused.append(_refused_row(received, read, now_utc))
            else:
                rows.append(alert_row(read, received_at=now_utc))
        await keep_alerts(connection, rows)
        await keep_refused(connection, refused)

    def _send_away(self, received: Received, refused: Refused) -> Denial | None:
        """Answer a message that is not kept: its dock shows it again."""
        if refused.dock is None:
            return None
        _log.warning("manifest not kept", dock=refused.dock, reason=refused.detail)
        return Denial(dock=refused.dock, message=received.untrusted_body, refused=refused)

    async def _set_aside(self, message: Received, error: Exception) -> None:
        _log.error("message set aside", topic=message.untrusted_topic, exc_info=error)
        refused = Refused(
            code=FindingCode.STATEMENT_UNREADABLE,
            detail=f"{UnprocessableMessageError.code}: {error!r:.1000}",
        )
        row = _refused_row(message, refused, self._signer.clock())
        async with self._store.writing() as connection:
            if await keep_refused(connection, [row]):
                facts = {"topic": message.untrusted_topic[:128], "sha256": str(row["sha256"])}
                alert = self._signer.alert(
                    UnprocessableMessageError.code,
                    "A message could not be taken in; it is kept with the refused ones.",
                    facts,
                )
                await keep_alerts(connection, [alert])

    async def _settlement(
        self, connection: AsyncConnection, claims: Sequence[Claim], site: KnownSite
    ) -> Settlement:
        now_utc = self._signer.clock()
        return Settlement(
            await load_book(connection, claims),
            site=site,
            now_utc=now_utc,
            sign_receipt=lambda claim: self._signer.receipt(claim, [], now_utc=now_utc),
        )

    async def _finish(
        self,
        connection: AsyncConnection,
        settlement: Settlement,
        replies: Sequence[Reply | None],
    ) -> list[Answer]:
        """Write what was settled; return the answers to it."""
        new = await write_changes(connection, settlement.changes)
        await append_entries(connection, self._entries(settlement))
        forked = [row for row in new if row["code"] == FindingCode.CHAIN_FORKED.value]
        await keep_alerts(connection, [self._fork_alert(row) for row in forked])
        told = [reply for reply in replies if reply is not None]
        states = await load_file_states(connection, _ids(told, ManifestState.ADMITTED))
        receipts = await load_receipts(connection, _ids(told, ManifestState.ARCHIVED))
        now_utc = self._signer.clock()
        answers: list[Answer] = []
        for reply in told:
            if isinstance(reply, Denial):
                answers.append(self._signer.answer(_refusal(reply, now_utc)))
            elif reply.kept.state is ManifestState.ARCHIVED:
                receipt = receipts[reply.kept.manifest_id]
                dock = reply.claim.dock
                answers.append(Answer(dock=dock, envelope=receipt, needs_checkpoint=True))
            else:
                head = settlement.book.head(reply.claim.dock)
                missing = states.get(reply.kept.manifest_id, {})
                answers.append(self._signer.answer(_admission(reply, head, missing, now_utc)))
        return answers

    def _entries(self, settlement: Settlement) -> list[Logged]:
        """Return what the custody log hears of a transaction."""
        now_utc = self._signer.clock()
        entries: list[Logged] = []
        for claim, receipt in settlement.changes.admitted:
            entries.append(log_admission(claim, now_utc=now_utc, salt=self._signer.salt()))
            if receipt is not None:
                entries.append(log_receipt(receipt, now_utc=now_utc))
        return entries

    def _fork_alert(self, row: Row) -> Row:
        return self._signer.alert(
            FindingCode.CHAIN_FORKED.value,
            "A dock signed a manifest that does not follow from those before it.",
            {"topic": str(row["topic"])[:128], "sha256": str(row["sha256"])},
        )


def _refusal(denial: Denial, now_utc: datetime) -> Refusal:
    return statements.refuse(
        denial.refused, dock=denial.dock, untrusted_message=denial.message, now_utc=now_utc
    )


def _admission(
    standing: Standing, head: ChainHead, states: Mapping[str, FileState], now_utc: datetime
) -> Admission:
    claim = standing.claim
    if standing.kept.state is ManifestState.WAITING:
        return statements.keep_waiting(claim, head=head, now_utc=now_utc)
    missing = missing_files(claim.manifest.staged_files(), states)
    return statements.admit(claim, head=head, missing=missing, now_utc=now_utc)


def _ids(replies: Sequence[Reply], state: ManifestState) -> set[ManifestId]:
    return {
        reply.kept.manifest_id
        for reply in replies
        if isinstance(reply, Standing) and reply.kept.state is state
    }


def _read_all(messages: Sequence[Received], site: KnownSite) -> list[_Read]:
    return [
        (
            one,
            _alerting_dock(one) or read_claim(one.untrusted_topic, one.untrusted_body, site=site),
        )
        for one in messages
    ]


def _read_sound(envelopes: Sequence[bytes]) -> list[Claim]:
    """Return what waited, up to the first that is damaged."""
    claims: list[Claim] = []
    for envelope in envelopes:
        try:
            claims.append(_read_own(envelope))
        except KeptManifestError:
            if not claims:
                raise
            break
    return claims


def _is_of_our_disk(error: Exception) -> bool:
    """Return whether the database failed, and not at what a message would have it keep."""
    return isinstance(error, DBAPIError) and not isinstance(error, DataError | IntegrityError)


def _has_rival(one: Claim | Refused | DockId, book: Book) -> TypeGuard[Claim]:
    """Return whether another manifest waits in the place of one whose turn it is."""
    if not isinstance(one, Claim):
        return False
    sequence = one.manifest.sequence
    kept = book.by_place.get((one.dock, sequence))
    return (
        kept is not None
        and kept.state is ManifestState.WAITING
        and kept.payload_sha256 != one.payload_sha256
        and book.head(one.dock).sequence + 1 == sequence
    )


def _is_waiting(book: Book, claim: Claim) -> bool:
    kept = book.by_id.get(claim.manifest.manifest_id)
    return kept is not None and kept.state is ManifestState.WAITING


def _read_own(envelope: bytes) -> Claim:
    try:
        return read_kept(envelope)
    except ProtocolError as error:
        raise KeptManifestError(f"{error.code}: {error}") from error


def _alerting_dock(received: Received) -> DockId | None:
    try:
        topic = parse_dock_topic(received.untrusted_topic)
    except ProtocolError:
        return None
    return topic.dock if topic.channel is Channel.ALERTS else None


def _refused_row(received: Received, refused: Refused, now_utc: datetime) -> Row:
    return refused_row(
        received.untrusted_topic, received.untrusted_body, refused, received_at=now_utc
    )
