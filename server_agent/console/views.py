"""What the live page shows, as values; two equal ones look alike in every language."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, unique

from protocol.manifest import Isolation


@unique
class Stale(Enum):
    """Why something that is shown is not live."""

    NO_BROKER = "no_broker"
    OFFLINE = "offline"
    UNHEARD = "unheard"
    SILENT = "silent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A code and what to say about it: our sentence, or the device's own words."""

    code: str
    sentence: str | None
    untrusted_text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far something is; `percent` is 0 to 100, and 100 only when all is done."""

    done_bytes: int
    total_bytes: int
    percent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One bay. `look` is a bay's state, or "unknown"; all else is there when it is known."""

    dock: str
    bay: int
    look: str
    stale: Stale | None = None
    stale_since_utc: datetime | None = None
    changed_at_utc: datetime | None = None
    recorder: str | None = None
    model: str | None = None
    serial: str | None = None
    officer: str | None = None
    officer_name: str | None = None
    read: Progress | None = None
    upload: Progress | None = None
    files_done: int = 0
    files_total: int = 0
    rate_bytes_s: int = 0
    remaining_s: int | None = None
    current_file: str | None = None
    erasing_percent: int | None = None
    erased_files: int = 0
    battery_percent: int | None = None
    charging: str | None = None
    evidence: str | None = None
    findings: int = 0
    problem: Problem | None = None

    @property
    def key(self) -> str:
        """The card's place in the page."""
        return f"bay-{self.dock}-{self.bay}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RackHead:
    """A dock as a whole; everything after `last_word_utc` is there once its status is known."""

    dock: str
    name: str
    stale: Stale | None
    last_word_utc: datetime | None
    online_since_utc: datetime | None = None
    agent: str | None = None
    isolation: Isolation | None = None
    registry_version: int = 0
    registry_behind: bool = False
    pending_manifests: int = 0
    refused_manifests: int = 0
    held_files: int = 0
    staging_free_bytes: int | None = None
    faults: int = 0
    has_report: bool = False

    @property
    def key(self) -> str:
        """The head's place in the page."""
        return f"dock-{self.dock}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rack:
    """A dock with its bays, in order."""

    head: RackHead
    cards: tuple[Card, ...]

    @property
    def row(self) -> int:
        """How many bays stand side by side where there is room: chargers have rows of 4 or 5."""
        return 5 if self.cards and len(self.cards) % 5 == 0 else 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """The figures on top. Only what is live is counted as anything; the rest is `unknown`."""

    busy: int = 0
    waiting: int = 0
    done: int = 0
    attention: int = 0
    empty: int = 0
    unknown: int = 0
    docks_live: int = 0
    docks: int = 0
    rate_bytes_s: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Notices:
    """What is wrong beyond one bay."""

    broker_lost: bool
    broker_lost_at_utc: datetime | None
    catalogue_failed_at_utc: datetime | None
    refused_messages: int
    refused_manifests: int
    waiting_manifests: int
    unreadable: int
    unreadable_topic: str | None
    unreadable_code: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertLine:
    """One alert in the panel."""

    alert_id: str
    problem: Problem
    dock_name: str | None
    bay: int | None
    recorder: str | None
    facts: tuple[tuple[str, str], ...]
    raised_at_utc: datetime
    over_at_utc: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerts:
    """The alerts panel, newest first."""

    lines: tuple[AlertLine, ...]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wall:
    """The whole live page."""

    strip: Strip
    notices: Notices
    racks: tuple[Rack, ...]
    alerts: Alerts

    @property
    def plan(self) -> tuple[str, ...]:
        """Which places the page has, in order; two walls with one plan differ in parts only."""
        return tuple(
            key for rack in self.racks for key in (rack.head.key, *(c.key for c in rack.cards))
        )
