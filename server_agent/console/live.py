"""What the docks have said, as one value: messages in, the next value out."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final, TypeVar

from protocol import strict_json
from protocol.errors import ProtocolError, SchemaError, TopicError
from protocol.identifiers import BayNumber, DockId
from protocol.messages import (
    MAX_TELEMETRY_BYTES,
    Alert,
    BayMessage,
    DockStatus,
    DoctorReport,
    Metrics,
)
from protocol.strict_json import Message
from protocol.topics import Channel, DockTopic, parse_dock_topic

M = TypeVar("M", DockStatus, BayMessage, Metrics, Alert, DoctorReport)

# A dock that shows other times than these is lying or broken; arithmetic on them could overflow.
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)
_MAX_COUNT: Final = (1 << 63) - 1
_MAX_BAYS: Final = 99


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardStatus:
    """A dock's last word on itself, and when it reached us."""

    message: DockStatus
    heard_at_utc: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardBay:
    """A bay's last word, and when it reached us; a retained one may be much older."""

    message: BayMessage
    heard_at_utc: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveDock:
    """All that one dock has said; `heard_at_utc` is the last time it said anything live."""

    dock: DockId
    status: HeardStatus | None = None
    bays: Mapping[BayNumber, HeardBay] = field(default_factory=dict)
    metrics: Metrics | None = None
    report: DoctorReport | None = None
    heard_at_utc: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A message that was refused: where it came from, as it was, and why."""

    topic: str
    code: str
    reason: str
    at_utc: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveModel:
    """What is known of all docks.

    Attributes:
        connected_at_utc: Since when the broker has been connected; None: it is not, and nothing
            here is live.
        lost_at_utc: When the last connection ended; None if there was none yet.
        docks: By name.
        unreadable: How many messages were refused since the console started.
        last_unreadable: The last of them.
        alerts_heard: How many alerts came by; their content is the catalogue's.
    """

    connected_at_utc: datetime | None = None
    lost_at_utc: datetime | None = None
    docks: Mapping[DockId, LiveDock] = field(default_factory=dict)
    unreadable: int = 0
    last_unreadable: Unreadable | None = None
    alerts_heard: int = 0


def connected(model: LiveModel, *, now_utc: datetime) -> LiveModel:
    """Return *model* with the broker there: what a dock said before counts only once repeated."""
    return replace(model, connected_at_utc=now_utc)


def disconnected(model: LiveModel, *, now_utc: datetime) -> LiveModel:
    """Return *model* without the broker; what was heard stays, as old."""
    if model.connected_at_utc is None:
        return model
    return replace(model, connected_at_utc=None, lost_at_utc=now_utc)


def received(
    model: LiveModel, *, topic: str, untrusted: bytes, retained: bool, now_utc: datetime
) -> LiveModel:
    """Return *model* with one message taken in, or counted as unreadable.

    Args:
        model: What is known so far.
        topic: Where the message was published.
        untrusted: Its bytes. None at all, retained, is how a topic is cleared.
        retained: The broker had kept it: it was not said just now.
        now_utc: The time.
    """
    try:
        where = parse_dock_topic(topic)
        if not untrusted and where.channel in {Channel.STATUS, Channel.BAYS}:
            return _cleared(model, where)
        return _TAKE[where.channel](model, where, untrusted, None if retained else now_utc, now_utc)
    except ProtocolError as error:
        refused = Unreadable(
            topic=topic[:200], code=error.code, reason=str(error)[:300], at_utc=now_utc
        )
        return replace(model, unreadable=model.unreadable + 1, last_unreadable=refused)


def _parsed(where: DockTopic, untrusted: bytes, type_: type[M]) -> M:
    message = strict_json.parse(untrusted, type_, max_bytes=MAX_TELEMETRY_BYTES)
    if message.dock != where.dock:
        raise SchemaError(f"{message.dock!r} speaks on the topic of {where.dock!r}")
    _refuse_implausible(message)
    return message


def _refuse_implausible(message: Message) -> None:
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if isinstance(value, datetime) and not _EARLIEST <= value <= _LATEST:
            raise SchemaError(f"a time that cannot be - at `$.{name}`")
        if isinstance(value, int) and value > _MAX_COUNT:
            raise SchemaError(f"a number that cannot be - at `$.{name}`")


def _status(
    model: LiveModel, where: DockTopic, untrusted: bytes, live_at: datetime | None, now: datetime
) -> LiveModel:
    message = _parsed(where, untrusted, DockStatus)
    if message.bays > _MAX_BAYS:
        raise SchemaError(f"a dock of {message.bays} bays - at `$.bays`")
    status = HeardStatus(message=message, heard_at_utc=now)
    # The last will is the broker's word, not the dock's: it does not make the rest any newer.
    return _changed(model, where.dock, live_at if message.online else None, status=status)


def _bay(
    model: LiveModel, where: DockTopic, untrusted: bytes, live_at: datetime | None, now: datetime
) -> LiveModel:
    message = _parsed(where, untrusted, BayMessage)
    if where.bay is None or message.bay != where.bay:
        raise SchemaError(f"bay {message.bay} speaks on the topic of bay {where.bay}")
    bays = {**_dock(model, where.dock).bays}
    bays[where.bay] = HeardBay(message=message, heard_at_utc=now)
    return _changed(model, where.dock, live_at, bays=MappingProxyType(bays))


def _metrics(
    model: LiveModel, where: DockTopic, untrusted: bytes, live_at: datetime | None, now: datetime
) -> LiveModel:
    del now
    return _changed(model, where.dock, live_at, metrics=_parsed(where, untrusted, Metrics))


def _report(
    model: LiveModel, where: DockTopic, untrusted: bytes, live_at: datetime | None, now: datetime
) -> LiveModel:
    del now
    return _changed(model, where.dock, live_at, report=_parsed(where, untrusted, DoctorReport))


def _alert(
    model: LiveModel, where: DockTopic, untrusted: bytes, live_at: datetime | None, now: datetime
) -> LiveModel:
    del now
    _parsed(where, untrusted, Alert)
    heard = _changed(model, where.dock, live_at)
    return replace(heard, alerts_heard=model.alerts_heard + 1)


def _unexpected(
    model: LiveModel, where: DockTopic, untrusted: bytes, live_at: datetime | None, now: datetime
) -> LiveModel:
    del model, untrusted, live_at, now
    raise TopicError(f"nobody asked for {where.channel.value}")


_TAKE: Final = MappingProxyType(
    {
        Channel.STATUS: _status,
        Channel.BAYS: _bay,
        Channel.METRICS: _metrics,
        Channel.ALERTS: _alert,
        Channel.DOCTOR: _report,
        Channel.MANIFESTS: _unexpected,
        Channel.RECEIPTS: _unexpected,
        Channel.COMMANDS: _unexpected,
        Channel.ANSWERS: _unexpected,
        Channel.COSIGNATURES: _unexpected,
        Channel.ATTESTATIONS: _unexpected,
        Channel.ATTESTED: _unexpected,
    }
)


def _dock(model: LiveModel, dock: DockId) -> LiveDock:
    return model.docks.get(dock) or LiveDock(dock=dock)


def _changed(
    model: LiveModel,
    dock: DockId,
    live_at: datetime | None,
    *,
    status: HeardStatus | None = None,
    bays: Mapping[BayNumber, HeardBay] | None = None,
    metrics: Metrics | None = None,
    report: DoctorReport | None = None,
) -> LiveModel:
    before = _dock(model, dock)
    after = LiveDock(
        dock=dock,
        status=status or before.status,
        bays=before.bays if bays is None else bays,
        metrics=metrics or before.metrics,
        report=report or before.report,
        heard_at_utc=live_at or before.heard_at_utc,
    )
    return replace(model, docks=MappingProxyType({**model.docks, dock: after}))


def _cleared(model: LiveModel, where: DockTopic) -> LiveModel:
    before = model.docks.get(where.dock)
    if before is None:
        return model
    if where.bay is None:
        after = replace(before, status=None)
    else:
        kept = {bay: heard for bay, heard in before.bays.items() if bay != where.bay}
        after = replace(before, bays=MappingProxyType(kept))
    docks = {**model.docks, where.dock: after}
    if after.status is None and not after.bays:
        del docks[where.dock]
    return replace(model, docks=MappingProxyType(docks))
