"""Take in what docks attest about the no-internet rule: a chain of each dock, kept as it came."""

from collections.abc import Sequence
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from protocol.attested import Attested
from protocol.chain import ChainHead, Link
from protocol.errors import ProtocolError
from protocol.findings import FindingCode
from protocol.identifiers import DockId
from protocol.topics import Channel, parse_dock_topic
from server_agent.adapters.attestation_records import (
    add_attestations,
    end_alerts,
    load_chain_end,
    load_keys,
    load_open_alerts,
    load_recorded,
)
from server_agent.adapters.catalogue_store import CatalogueStore
from server_agent.adapters.chain_records import keep_alerts, keep_refused
from server_agent.adapters.custody_records import append_entries
from server_agent.catalogue.book import Received
from server_agent.catalogue.rows import Row, refused_row
from server_agent.custody import CustodyLog
from server_agent.intake.attestations import PATIENCE, Witness, place_attestation, read_attestation
from server_agent.intake.checks import KnownSite, Refused
from server_agent.ledger.custody import log_attestation
from server_agent.signing import Answer, Signer

# Two attestations of a dock have one number, or one does not join the one before it.
FORKED: Final = "E-ATT-101"
# One came, and those before it are not there.
GAP: Final = "E-ATT-102"
# A dock that attested has done so no more.
SILENT: Final = "E-ATT-103"

_ALERTS: Final = {
    FindingCode.CHAIN_FORKED: (
        FORKED,
        "A dock signed an attestation that does not follow from those before it.",
    ),
    FindingCode.CHAIN_GAP: (
        GAP,
        "A dock sent an attestation, and one before it has not come.",
    ),
}

_log = structlog.get_logger(__name__)


class AttestationIntake:
    """Decides about attestations and writes what it decided."""

    def __init__(self, store: CatalogueStore, *, signer: Signer, custody: CustodyLog) -> None:
        """Take in into *store*; *custody* hears of each one that is kept."""
        self._store = store
        self._signer = signer
        self._custody = custody

    async def take(self, messages: Sequence[Received], site: KnownSite) -> list[Answer]:
        """Take in *messages*, in order.

        When this returns, each of them is kept durably: in its dock's chain, or as refused. Taking
        one in again changes nothing.

        Args:
            messages: All from topics of Channel.ATTESTATIONS.
            site: The registry in force.

        Returns:
            For each dock that sent one, how far its chain is kept.

        Raises:
            sqlalchemy.exc.DBAPIError, OSError: Our own database or disk failed; none was kept.
        """
        heads: dict[DockId, ChainHead] = {}
        async with self._store.writing() as connection:
            for message in messages:
                dock, refused = await self._take_one(connection, message, site)
                if refused is not None:
                    await self._refuse(connection, message, refused)
                if dock is not None:
                    heads[dock] = (await load_chain_end(connection, dock)).head
        self._custody.tell()
        return [
            self._signer.attested(
                Attested(
                    dock=dock,
                    sequence=head.sequence,
                    payload_sha256=head.payload_sha256,
                    answered_at=self._signer.clock(),
                )
            )
            for dock, head in heads.items()
        ]

    async def note_silence(self, site: KnownSite) -> None:
        """Raise an alert for each dock that has attested no more for PATIENCE.

        Docks that never did have no guard. The alert is over with the next one that is kept.

        Raises:
            sqlalchemy.exc.DBAPIError, OSError: Our own database or disk failed.
        """
        now_utc = self._signer.clock()
        async with self._store.writing() as connection:
            told = await load_open_alerts(connection, SILENT)
            for dock in sorted(site.docks.keys() - told):
                last = (await load_chain_end(connection, dock)).received_at
                if last is not None and now_utc - last > PATIENCE:
                    text = "A dock has not attested for more than a day."
                    facts = {"last": f"{last:%Y-%m-%d %H:%M} UTC"}
                    row = self._signer.alert(SILENT, text, facts, dock=dock)
                    await keep_alerts(connection, [row])

    async def _take_one(
        self, connection: AsyncConnection, message: Received, site: KnownSite
    ) -> tuple[DockId | None, Refused | None]:
        """Return whom to answer, and why it is refused."""
        try:
            dock = parse_dock_topic(message.untrusted_topic).dock
        except ProtocolError as error:
            return None, Refused(code=FindingCode.UNKNOWN_DOCK, detail=str(error))
        if dock not in site.docks:
            detail = f"dock {dock!r} is not registered"
            return None, Refused(code=FindingCode.UNKNOWN_DOCK, detail=detail)
        end = await load_chain_end(connection, dock)
        earlier = await load_keys(connection, dock, last_key=end.key_id)
        keys = {**earlier, **site.docks[dock]}
        read = read_attestation(dock, message.untrusted_body, keys=keys)
        if isinstance(read, Refused):
            return dock, read
        recorded = await load_recorded(connection, dock, read.attestation.sequence)
        verdict = place_attestation(read, head=end.head, recorded_sha256=recorded)
        if isinstance(verdict, Refused):
            return dock, verdict
        if verdict is Link.NEXT:
            await self._keep(connection, read)
        return dock, None

    async def _keep(self, connection: AsyncConnection, witness: Witness) -> None:
        now_utc = self._signer.clock()
        await add_attestations(connection, [witness], now_utc=now_utc)
        await end_alerts(connection, witness.dock, SILENT, now_utc=now_utc)
        await append_entries(connection, [log_attestation(witness, now_utc=now_utc)])
        _log.info(
            "attestation",
            dock=witness.dock,
            number=witness.attestation.sequence,
            isolation=witness.attestation.isolation.value,
        )

    async def _refuse(
        self, connection: AsyncConnection, message: Received, refused: Refused
    ) -> None:
        row = refused_row(
            message.untrusted_topic,
            message.untrusted_body,
            refused,
            received_at=self._signer.clock(),
        )
        new = await keep_refused(connection, [row])
        if new and refused.code in _ALERTS:
            await keep_alerts(connection, [self._alert(refused, row)])

    def _alert(self, refused: Refused, row: Row) -> Row:
        code, text = _ALERTS[refused.code]
        facts = {"detail": refused.detail[:128], "sha256": str(row["sha256"])}
        return self._signer.alert(code, text, facts, dock=refused.dock)


def is_attestation(message: Received) -> bool:
    """Return whether a message came on a topic for attestations."""
    return message.untrusted_topic.endswith(f"/{Channel.ATTESTATIONS.value}")
