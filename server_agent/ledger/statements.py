"""What the archive says under its signature: admissions, refusals, receipts, registries."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from protocol import strict_json
from protocol.chain import ChainHead
from protocol.digest import sha256_hex
from protocol.envelope import sign_statement
from protocol.identifiers import DockId, ReceiptId, mint_uuid7
from protocol.keys import SigningKey
from protocol.receipt import (
    Admission,
    AdmissionState,
    ArchivedBag,
    MissingFile,
    Receipt,
    Refusal,
)
from protocol.registry import Registry
from protocol.versions import Statement
from server_agent.intake.checks import Claim, Refused

_MS_PER_S: Final = 1_000


def admit(
    claim: Claim, *, head: ChainHead, missing: Sequence[MissingFile], now_utc: datetime
) -> Admission:
    """Return the answer to a manifest that is in its dock's chain, which ends in *head*."""
    return _admission(claim, AdmissionState.ADMITTED, head, tuple(missing), now_utc)


def keep_waiting(claim: Claim, *, head: ChainHead, now_utc: datetime) -> Admission:
    """Return the answer to a manifest whose predecessors are missing."""
    return _admission(claim, AdmissionState.WAITING, head, (), now_utc)


def refuse(
    refused: Refused, *, dock: DockId, untrusted_message: bytes, now_utc: datetime
) -> Refusal:
    """Return the answer to a message that was not admitted.

    Args:
        refused: The verdict.
        dock: On whose topic the message came.
        untrusted_message: As it arrived: its digest says to the dock which message is meant.
        now_utc: When it is answered.
    """
    manifest = None if refused.claim is None else refused.claim.manifest
    return Refusal(
        dock=dock,
        message_sha256=sha256_hex(untrusted_message),
        code=refused.code,
        detail=refused.detail,
        answered_at=now_utc,
        manifest_id=None if manifest is None else manifest.manifest_id,
        sequence=None if manifest is None else manifest.sequence,
    )


def receipt(
    claim: Claim, *, bags: Sequence[ArchivedBag], now_utc: datetime, entropy: bytes
) -> Receipt:
    """Return the statement that everything a manifest promised is archived.

    Args:
        claim: The manifest.
        bags: One for each of its recordings, and one for its other files if there are any.
        now_utc: When the last of them was read back.
        entropy: 10 random bytes, for the receipt's id.
    """
    return Receipt(
        receipt_id=ReceiptId(mint_uuid7(unix_ms=unix_ms(now_utc), entropy=entropy)),
        manifest_id=claim.manifest.manifest_id,
        dock=claim.dock,
        sequence=claim.manifest.sequence,
        payload_sha256=claim.payload_sha256,
        archived_at=now_utc,
        bags=tuple(bags),
    )


def sign(statement: Admission | Refusal | Receipt | Registry, key: SigningKey) -> bytes:
    """Return the envelope that is sent: *statement* as JSON, signed."""
    kinds = {
        Admission: Statement.ADMISSION,
        Refusal: Statement.REFUSAL,
        Receipt: Statement.RECEIPT,
        Registry: Statement.REGISTRY,
    }
    return sign_statement(statement, kinds[type(statement)], key)


def registry_content_sha256(registry: Registry) -> str:
    """Return a digest that changes when what is registered changes, whatever its version."""
    content = Registry(
        version=1,
        issued_at=datetime.fromisoformat("1970-01-01T00:00:00+00:00"),
        docks=registry.docks,
        officers=registry.officers,
        recorders=registry.recorders,
        erasing=registry.erasing,
    )
    return sha256_hex(strict_json.encode(content))


def unix_ms(time: datetime) -> int:
    """Return a moment as milliseconds since 1970, as ids carry it."""
    return int(time.timestamp() * _MS_PER_S)


def _admission(
    claim: Claim,
    state: AdmissionState,
    head: ChainHead,
    missing: tuple[MissingFile, ...],
    now_utc: datetime,
) -> Admission:
    return Admission(
        manifest_id=claim.manifest.manifest_id,
        dock=claim.dock,
        sequence=claim.manifest.sequence,
        payload_sha256=claim.payload_sha256,
        state=state,
        expected_sequence=head.sequence + 1,
        answered_at=now_utc,
        missing=missing,
    )
