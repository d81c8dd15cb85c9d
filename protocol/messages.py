"""Telemetry: what a dock tells about itself while it works. Unsigned, never evidence.

The broker lets a dock write its own topics only; that is all that vouches for
these messages.
"""

from enum import Enum, unique
from typing import Annotated, Final

from msgspec import Meta, field

from protocol.findings import MAX_PATH_CHARACTERS
from protocol.identifiers import (
    AlertField,
    BayField,
    DockField,
    DockingField,
    OfficerField,
    RecorderField,
)
from protocol.manifest import EvidenceLevel, Isolation, Label, SizeBytes, UtcTime
from protocol.strict_json import Message

MAX_TELEMETRY_BYTES: Final = 64 * 1024

Count = Annotated[int, Meta(ge=0)]
Code = Annotated[str, Meta(pattern=r"^[EF]-[A-Z]{3}-[0-9]{3}$(?!\n)")]


@unique
class BayState(Enum):
    """Where a bay stands; the edge agent's table of transitions uses the same values."""

    EMPTY = "empty"
    IDENTIFYING = "identifying"
    INGESTING = "ingesting"
    SEALED = "sealed"
    ERASING = "erasing"
    RELEASABLE = "releasable"
    QUARANTINED = "quarantined"
    ATTENTION = "attention"


@unique
class Charging(Enum):
    """How what is in a bay charges, as the charger tells."""

    CHARGING = "charging"
    FULL = "full"
    FAULT = "fault"


class DockStatus(Message, frozen=True, kw_only=True):
    """A dock as a whole; the last will is the same message with ``online`` false."""

    dock: DockField
    online: bool
    since: UtcTime
    agent: Label
    bays: Count = 0
    isolation: Isolation = Isolation.NOT_ENFORCED
    registry_version: Count = 0
    pending_manifests: Count = 0
    refused_manifests: Count = 0
    held_files: Count = 0
    staging_free_bytes: SizeBytes = 0


class BayMessage(Message, frozen=True, kw_only=True):
    """One bay as it is now; counts are of this docking, the rate is over the last seconds.

    ``problem`` is the code of what keeps the bay from going on; ``problem_text`` says it in words.
    ``erasing_percent`` is how much of what is to be erased was read once more.
    """

    dock: DockField
    bay: BayField
    state: BayState
    changed_at: UtcTime
    recorder: RecorderField | None = None
    model: Label | None = None
    serial: Label | None = None
    officer: OfficerField | None = None
    docking_id: DockingField | None = None
    files_total: Count = 0
    files_done: Count = 0
    bytes_total: SizeBytes = 0
    bytes_done: SizeBytes = 0
    uploaded_bytes: SizeBytes = 0
    rate_bytes_s: SizeBytes = 0
    remaining_s: Count | None = None
    current_file: Annotated[str, Meta(max_length=MAX_PATH_CHARACTERS)] | None = None
    battery_percent: Annotated[int, Meta(ge=0, le=100)] | None = None
    charging: Charging | None = None
    evidence_level: EvidenceLevel | None = None
    findings: Count = 0
    erasing_percent: Annotated[int, Meta(ge=0, le=100)] | None = None
    erased_files: Count = 0
    problem: Code | None = None
    problem_text: Annotated[str, Meta(max_length=500)] | None = None


@unique
class Health(Enum):
    """How well a thing is; the order is that of urgency."""

    GOOD = "good"
    UNKNOWN = "unknown"
    SOON = "soon"
    BAD = "bad"


class Examined(Message, frozen=True, kw_only=True):
    """One thing that a dock looked at by itself; ``seen`` and ``remedy`` are English."""

    subject: Label
    health: Health
    seen: Annotated[str, Meta(max_length=500)]
    remedy: Annotated[str, Meta(max_length=500)] = ""


class DoctorReport(Message, frozen=True, kw_only=True):
    """What `edge-agent doctor` says, of the dock by itself; retained."""

    dock: DockField
    at: UtcTime
    examined: Annotated[tuple[Examined, ...], Meta(max_length=60)]


class Metrics(Message, frozen=True, kw_only=True):
    """Counters since the agent started, and gauges; not retained."""

    dock: DockField
    at: UtcTime
    uptime_s: Count
    memory_bytes: SizeBytes
    ingested_files: Count = 0
    ingested_bytes: SizeBytes = 0
    uploaded_files: Count = 0
    uploaded_bytes: SizeBytes = 0
    receipts: Count = 0
    reconnects: Count = 0


class Alert(Message, frozen=True, kw_only=True):
    """Something a person must see; delivered at least once, the same ``alert_id`` each time.

    ``facts`` are short values for the console's own sentence for ``code``; ``text`` is English.
    """

    alert_id: AlertField
    dock: DockField
    code: Code
    text: Annotated[str, Meta(max_length=500)]
    raised_at: UtcTime
    bay: BayField | None = None
    recorder: RecorderField | None = None
    facts: Annotated[dict[Label, Label], Meta(max_length=16)] = field(default_factory=dict)
