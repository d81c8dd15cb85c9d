"""What stands in the custody log: one small JSON statement for each event.

The hash of an entry is of the exact bytes that stand in the log; nothing is written out again to be
compared. What is about a person stands there as a salted digest only: the salt and the plain text
are in the catalogue, and without the salt the digest says nothing.
"""

import hashlib
from typing import Final, TypeAlias

from protocol import strict_json
from protocol.digest import HexDigest
from protocol.identifiers import (
    DockField,
    ManifestField,
    OfficerField,
    ReceiptField,
    RecorderField,
    RecordingField,
)
from protocol.manifest import UtcTime
from protocol.strict_json import Message
from protocol.tiles import MAX_ENTRY_BYTES

SALT_BYTES: Final = 32


class Subject(Message, frozen=True, kw_only=True):
    """Whom a manifest is about. It is never in the log itself: see `salted_sha256`."""

    officer: OfficerField | None = None
    recorder: RecorderField


class ManifestAdmitted(
    Message, frozen=True, kw_only=True, tag_field="event", tag="manifest-admitted"
):
    """A dock's manifest was taken into its chain; ``subject_sha256`` is of a salted `Subject`."""

    at: UtcTime
    manifest_id: ManifestField
    dock: DockField
    sequence: int
    payload_sha256: HexDigest
    subject_sha256: HexDigest


class BagArchived(Message, frozen=True, kw_only=True, tag_field="event", tag="bag-archived"):
    """A recording, or a docking's other files, stands in a bag that was read back.

    ``existing`` says that the bag was there before this manifest, and was read again for it.
    """

    at: UtcTime
    manifest_id: ManifestField
    recording_id: RecordingField | None = None
    tagmanifest_sha256: HexDigest
    existing: bool = False


class ReceiptIssued(Message, frozen=True, kw_only=True, tag_field="event", tag="receipt-issued"):
    """The archive signed a receipt; ``payload_sha256`` is of the receipt's exact bytes."""

    at: UtcTime
    receipt_id: ReceiptField
    manifest_id: ManifestField
    dock: DockField
    sequence: int
    payload_sha256: HexDigest


class AttestationKept(
    Message, frozen=True, kw_only=True, tag_field="event", tag="attestation-kept"
):
    """A dock's attestation was taken into its chain; ``payload_sha256`` is of its exact bytes."""

    at: UtcTime
    dock: DockField
    sequence: int
    payload_sha256: HexDigest


LogEntry: TypeAlias = ManifestAdmitted | BagArchived | ReceiptIssued | AttestationKept


def parse_entry(untrusted: bytes) -> LogEntry:
    """Return what an entry says.

    Raises:
        ProtocolError: From strict_json.parse; also when a later release wrote it.
    """
    return strict_json.parse(untrusted, LogEntry, max_bytes=MAX_ENTRY_BYTES)  # type: ignore[arg-type]  # a union of messages is a type to msgspec


def salted_sha256(salt: bytes, text: bytes) -> str:
    """Return what stands in the log for *text*.

    Args:
        salt: SALT_BYTES random ones, for this text alone.
        text: What must not be guessed from the log.
    """
    return hashlib.sha256(salt + text).hexdigest()
