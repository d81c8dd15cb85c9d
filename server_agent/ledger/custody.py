"""Entries of the custody log, from what happened."""

from dataclasses import dataclass
from datetime import datetime

from protocol.custody import (
    AttestationKept,
    BagArchived,
    LogEntry,
    ManifestAdmitted,
    ReceiptIssued,
    Subject,
    salted_sha256,
)
from protocol.digest import sha256_hex
from protocol.envelope import parse_statement, take_apart
from protocol.identifiers import ManifestId, ReceiptId, RecordingId
from protocol.receipt import Receipt
from protocol.strict_json import encode
from protocol.versions import Statement
from server_agent.intake.attestations import Witness
from server_agent.intake.checks import Claim


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """An entry, and what only the catalogue keeps of it.

    Attributes:
        entry: The bytes that are logged.
        personal: What stands in it as a digest.
        salt: Of that digest.
        receipt_id: Whose entry it is.
    """

    entry: bytes
    personal: bytes | None = None
    salt: bytes | None = None
    receipt_id: ReceiptId | None = None


def log_admission(claim: Claim, *, now_utc: datetime, salt: bytes) -> Logged:
    """Return the entry of a manifest that is admitted; *salt* is used for nothing else."""
    manifest = claim.manifest
    subject = encode(Subject(officer=manifest.officer, recorder=manifest.recorder.recorder_id))
    admitted = ManifestAdmitted(
        at=now_utc,
        manifest_id=manifest.manifest_id,
        dock=claim.dock,
        sequence=manifest.sequence,
        payload_sha256=claim.payload_sha256,
        subject_sha256=salted_sha256(salt, subject),
    )
    return Logged(entry=encode(admitted), personal=subject, salt=salt)


def log_bag(
    manifest_id: ManifestId,
    recording_id: RecordingId | None,
    *,
    tagmanifest_sha256: str,
    existing: bool,
    now_utc: datetime,
) -> Logged:
    """Return the entry of a group that stands in its bag."""
    return _public(
        BagArchived(
            at=now_utc,
            manifest_id=manifest_id,
            recording_id=recording_id,
            tagmanifest_sha256=tagmanifest_sha256,
            existing=existing,
        )
    )


def log_receipt(envelope: bytes, *, now_utc: datetime) -> Logged:
    """Return the entry of a receipt that we have just signed."""
    sealed = take_apart(envelope)
    receipt = parse_statement(sealed, Statement.RECEIPT, Receipt)
    entry = ReceiptIssued(
        at=now_utc,
        receipt_id=receipt.receipt_id,
        manifest_id=receipt.manifest_id,
        dock=receipt.dock,
        sequence=receipt.sequence,
        payload_sha256=sha256_hex(sealed.payload),
    )
    return Logged(entry=encode(entry), receipt_id=receipt.receipt_id)


def log_attestation(witness: Witness, *, now_utc: datetime) -> Logged:
    """Return the entry of an attestation that is taken into its dock's chain."""
    return _public(
        AttestationKept(
            at=now_utc,
            dock=witness.dock,
            sequence=witness.attestation.sequence,
            payload_sha256=witness.payload_sha256,
        )
    )


def _public(entry: LogEntry) -> Logged:
    return Logged(entry=encode(entry))
