"""The catalogue's side of attestations: each dock's chain, and the keys that may go on with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from protocol.chain import GENESIS, ChainHead
from protocol.envelope import keyring
from protocol.identifiers import DockId
from protocol.keys import KeyId, VerifyingKey
from server_agent.catalogue.tables import alerts, attestations, signing_certificates
from server_agent.intake.attestations import Witness


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainEnd:
    """Where a dock's attestations end.

    Attributes:
        key_id: Of the key that signed the last one; None if there is none.
        received_at: When the last one came.
    """

    head: ChainHead = GENESIS
    key_id: str | None = None
    received_at: datetime | None = None


async def load_chain_end(connection: AsyncConnection, dock: DockId) -> ChainEnd:
    """Return the end of a dock's chain of attestations."""
    query = (
        select(
            attestations.c.sequence,
            attestations.c.payload_sha256,
            attestations.c.key_id,
            attestations.c.received_at,
        )
        .where(attestations.c.dock == dock)
        .order_by(attestations.c.sequence.desc())
        .limit(1)
    )
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return ChainEnd()
    head = ChainHead(sequence=row.sequence, payload_sha256=row.payload_sha256)
    return ChainEnd(head=head, key_id=row.key_id, received_at=row.received_at)


async def load_recorded(connection: AsyncConnection, dock: DockId, sequence: int) -> str | None:
    """Return the digest of a dock's attestation of that number, if it is kept."""
    query = select(attestations.c.payload_sha256).where(
        attestations.c.dock == dock, attestations.c.sequence == sequence
    )
    found: str | None = (await connection.execute(query)).scalar_one_or_none()
    return found


async def load_keys(
    connection: AsyncConnection, dock: DockId, *, last_key: str | None
) -> Mapping[KeyId, VerifyingKey]:
    """Return the keys that were ever registered for *dock*, from *last_key* on.

    What a dock signed before it got its new key may come after that; once something came that is
    signed with a later key, an earlier one signs nothing any more.
    """
    certificates = await load_certificates(connection, dock)
    ids = list(certificates)
    first = ids.index(last_key) if last_key in ids else 0
    return keyring(*map(VerifyingKey.from_certificate_pem, list(certificates.values())[first:]))


async def add_attestations(
    connection: AsyncConnection, witnesses: Sequence[Witness], *, now_utc: datetime
) -> None:
    """Keep attestations, each the next one of its dock's chain."""
    rows = [
        {
            "dock": one.dock,
            "sequence": one.attestation.sequence,
            "payload_sha256": one.payload_sha256,
            "key_id": one.key_id,
            "envelope": one.envelope,
            "made_at": one.attestation.made_at,
            "received_at": now_utc,
            "occasion": one.attestation.occasion.value,
            "isolation": one.attestation.isolation.value,
        }
        for one in witnesses
    ]
    if rows:
        await connection.execute(insert(attestations), rows)


async def load_open_alerts(connection: AsyncConnection, code: str) -> frozenset[DockId]:
    """Return the docks about which there is an alert of that code that is not over."""
    query = select(alerts.c.dock).where(alerts.c.code == code, alerts.c.over_at.is_(None))
    return frozenset((await connection.execute(query)).scalars())


async def end_alerts(
    connection: AsyncConnection, dock: DockId, code: str, *, now_utc: datetime
) -> None:
    """Note that what alerts of that code were about, at a dock, is over."""
    await connection.execute(
        update(alerts)
        .where(alerts.c.dock == dock, alerts.c.code == code, alerts.c.over_at.is_(None))
        .values(over_at=now_utc)
    )


async def load_kept(
    connection: AsyncConnection, dock: DockId, *, after: int, limit: int
) -> list[tuple[int, bytes]]:
    """Return numbers and exact envelopes of a dock's attestations beyond *after*, in order."""
    query = (
        select(attestations.c.sequence, attestations.c.envelope)
        .where(attestations.c.dock == dock, attestations.c.sequence > after)
        .order_by(attestations.c.sequence)
        .limit(limit)
    )
    return [(row.sequence, row.envelope) for row in (await connection.execute(query)).all()]


async def load_certificates(connection: AsyncConnection, dock: DockId) -> Mapping[str, bytes]:
    """Return the PEM certificates of all keys that *dock* ever had, the first one first, by id."""
    query = (
        select(signing_certificates.c.key_id, signing_certificates.c.certificate_pem)
        .where(signing_certificates.c.dock == dock)
        .order_by(signing_certificates.c.known_since)
    )
    rows = (await connection.execute(query)).all()
    return {row.key_id: row.certificate_pem for row in rows}
