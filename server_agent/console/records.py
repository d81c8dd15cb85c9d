"""What the catalogue tells the console, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from protocol import strict_json
from protocol.attestation import Attestation
from protocol.envelope import MAX_ENVELOPE_BYTES, take_apart
from protocol.manifest import Manifest
from protocol.receipt import Receipt
from protocol.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """How numbers are called in the newest registry; version 0: there is none yet."""

    version: int = 0
    docks: Mapping[str, str] = field(default_factory=dict)
    officers: Mapping[str, str] = field(default_factory=dict)
    recorders: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRecord:
    """An alert as the archive keeps it; `dock` None: it is about the archive itself.

    `over_at_utc`: when what it was about had passed by itself; None: nobody knows that it has.
    """

    alert_id: str
    dock: str | None
    bay: int | None
    recorder: str | None
    code: str
    text: str
    facts: tuple[tuple[str, str], ...]
    raised_at_utc: datetime
    over_at_utc: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFacts:
    """What is durable and shown beside what is live.

    Attributes:
        read_at_utc: When it was read; None: never yet.
        failed_at_utc: Since when it cannot be read; None: it can.
        alerts: The newest ones that are not over, newest first.
        alerts_total: All of these that are kept.
        refused_messages: How often a message was refused at the archive's door.
        refused_manifests: Manifests that keep their place and were refused.
        waiting_manifests: Manifests whose predecessors are missing.
        open_manifests: Admitted, not yet archived.
    """

    names: Names = field(default_factory=Names)
    read_at_utc: datetime | None = None
    failed_at_utc: datetime | None = None
    alerts: tuple[AlertRecord, ...] = ()
    alerts_total: int = 0
    refused_messages: int = 0
    refused_manifests: int = 0
    waiting_manifests: int = 0
    open_manifests: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which recordings: None is all. `own` restricts an officer to what is his or hers."""

    day: date | None = None
    officer: str | None = None
    recorder: str | None = None
    own: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingRecord:
    """An archived recording as a list shows it.

    `damaged_at_utc`: when its bag was found to be bad or gone; None: it never was.
    """

    recording_id: str
    recorder: str
    officer: str | None
    recorded_on: date
    started: datetime | None
    marked: bool
    complete: bool
    clips: int
    size_bytes: int
    bag_path: str
    bag_sha256: str
    manifest_id: str
    evidence: str | None
    damaged_at_utc: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipRecord:
    """A file of an archived recording."""

    file_id: int
    position: int
    original_name: str
    safe_name: str
    size_bytes: int
    sha256: str
    sm3: str | None
    kind: str | None
    started: datetime | None
    marked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingDetail:
    """An archived recording with all that is known of it."""

    recording: RecordingRecord
    clips: tuple[ClipRecord, ...]
    dock: str
    bay: int
    sequence: int
    archived_at_utc: datetime
    manifest: Manifest | None
    receipt: Receipt | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationRecord:
    """What a dock signed about the no-internet rule, as the archive keeps it."""

    attestation: Attestation
    payload_sha256: str
    received_at_utc: datetime


def names_in(envelope: bytes) -> Names:
    """Return the names in a registry that the archive signed and kept.

    Raises:
        ProtocolError: The catalogue's copy is damaged.
    """
    registry = strict_json.parse(
        take_apart(envelope).payload, Registry, max_bytes=MAX_ENVELOPE_BYTES
    )
    return Names(
        version=registry.version,
        docks={entry.dock: entry.name for entry in registry.docks},
        officers={entry.officer: entry.name for entry in registry.officers},
        recorders={entry.recorder: entry.model for entry in registry.recorders},
    )


def manifest_in(envelope: bytes) -> Manifest:
    """Return the manifest in an envelope that was verified when it was admitted.

    Raises:
        ProtocolError: The catalogue's copy is damaged.
    """
    return strict_json.parse(take_apart(envelope).payload, Manifest, max_bytes=MAX_ENVELOPE_BYTES)


def attestation_in(envelope: bytes) -> Attestation:
    """Return the attestation in an envelope that was verified when it was taken in.

    Raises:
        ProtocolError: The catalogue's copy is damaged.
    """
    return strict_json.parse(
        take_apart(envelope).payload, Attestation, max_bytes=MAX_ENVELOPE_BYTES
    )


def receipt_in(envelope: bytes) -> Receipt:
    """Return the receipt in an envelope that the archive signed.

    Raises:
        ProtocolError: The catalogue's copy is damaged.
    """
    return strict_json.parse(take_apart(envelope).payload, Receipt, max_bytes=MAX_ENVELOPE_BYTES)
