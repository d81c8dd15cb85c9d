"""Take in what docks publish: a batch of messages, one transaction, signed answers."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final

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
    load_waiting,
    load_waiting_docks,
    write_changes,
)
from server_agent.catalogue.book import Denial, Received, Reply, Settlement, Standing
from server_agent.catalogue.rows import Row, alert_row, refused_row
from server_agent.errors import KeptManifestError, UnprocessableMessageError
from server_agent.intake.alerts import read_alert
from server_agent.intake.checks import Claim, KnownSite, Refused, read_claim, read_kept
from server_agent.intake.missing import missing_files
from server_agent.intake.states import FileState, ManifestState
from server_agent.ledger import statements
from server_agent.signing import Answer, Signer

_PROMOTED_AT_ONCE: Final = 64

_log = structlog.get_logger(__name__)


class Admitter:
    """Decides about messages and writes what it decided.

    Attributes:
        site: The registry that is in force; whoever issues a new one sets it.
    """

    def __init__(self, store: CatalogueStore, *, signer: Signer, site: KnownSite) -> None:
        self.site = site
        self._store = store
        self._signer = signer

    async def take(self, messages: Sequence[Received]) -> list[Answer]:
        """Take in *messages*, in order.

        When this returns, each of them is kept durably and may be acknowledged; taking one in
        again changes nothing and gives its answer again.

        Returns:
            What is to be published; losing it does no harm, for the dock asks again.

        Raises:
            sqlalchemy.exc.DBAPIError, OSError: Our own database or disk failed; nothing was kept,
                and the messages have to come again.
        """
        try:
            answers, docks = await self._take_together(messages)
        except (ValueError, TypeError, ArithmeticError, LookupError, StatementError) as error:
            if isinstance(error, DBAPIError) and not isinstance(error, DataError | IntegrityError):
                raise
            if len(messages) == 1:
                await self._set_aside(messages[0], error)
                return []
            # One message must not keep the others from being taken in.
            return [answer for one in messages for answer in await self.take([one])]
        return answers + await self.promote(docks)

    async def promote(self, docks: Collection[DockId]) -> list[Answer]:
        """Admit what waited and need not wait any longer, of *docks*."""
        answers: list[Answer] = []
        while await self._has_waiting(docks):
            async with self._store.writing() as connection:
                envelopes = await load_waiting(connection, docks, limit=_PROMOTED_AT_ONCE)
                claims = [_read_own(envelope) for envelope in envelopes]
                settlement = await self._settlement(connection, claims, self.site)
                replies = [settlement.settle_waiting(claim) for claim in claims]
                answers += await self._finish(connection, settlement, replies)
        return answers

    async def promote_all(self) -> list[Answer]:
        """Admit whatever need not wait any longer; for the start, after a crash."""
        async with self._store.reading() as connection:
            docks = await load_waiting_docks(connection)
        return await self.promote(docks)

    async def _take_together(
        self, messages: Sequence[Received]
    ) -> tuple[list[Answer], set[DockId]]:
        site = self.site
        alerting = {id(one): dock for one in messages if (dock := _alerting_dock(one))}
        alerts = [(alerting[id(one)], one) for one in messages if id(one) in alerting]
        others = [one for one in messages if id(one) not in alerting]
        # In a thread: verifying and parsing a batch of large manifests takes a good part of a
        # second, and uploads go on meanwhile.
        reads = await asyncio.to_thread(_read_all, others, site)
        claims = [read for read in reads if isinstance(read, Claim)]
        async with self._store.writing() as connection:
            settlement = await self._settlement(connection, claims, site)
            replies = [
                settlement.settle(received, read)
                for received, read in zip(others, reads, strict=True)
            ]
            answers = await self._finish(connection, settlement, replies)
            await self._take_alerts(connection, alerts, site)
        return answers, set(settlement.changes.heads)

    async def _has_waiting(self, docks: Collection[DockId]) -> bool:
        if not docks:
            return False
        async with self._store.reading() as connection:
            return bool(await load_waiting(connection, docks, limit=1))

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
            sign_receipt=lambda claim, bags: self._signer.receipt(claim, bags, now_utc=now_utc),
        )

    async def _finish(
        self,
        connection: AsyncConnection,
        settlement: Settlement,
        replies: Sequence[Reply | None],
    ) -> list[Answer]:
        """Write what was settled; return the answers to it."""
        new = await write_changes(connection, settlement.changes)
        await keep_alerts(
            connection,
            [
                self._fork_alert(row)
                for row in settlement.changes.refused
                if row["code"] == FindingCode.CHAIN_FORKED.value and row["sha256"] in new
            ],
        )
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
                answers.append(Answer(dock=reply.claim.dock, envelope=receipt))
            else:
                head = settlement.book.head(reply.claim.dock)
                missing = states.get(reply.kept.manifest_id, {})
                answers.append(self._signer.answer(_admission(reply, head, missing, now_utc)))
        return answers

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


def _read_all(messages: Sequence[Received], site: KnownSite) -> list[Claim | Refused]:
    return [read_claim(one.untrusted_topic, one.untrusted_body, site=site) for one in messages]


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
