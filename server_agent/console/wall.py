"""How the live page is made of the docks' words, the catalogue's facts and the time."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from protocol.identifiers import BayNumber
from protocol.messages import BayMessage, BayState, Examined, Health
from server_agent.console.live import HeardBay, LiveDock, LiveModel
from server_agent.console.records import AlertRecord, Names, SiteFacts
from server_agent.console.views import (
    AlertLine,
    Alerts,
    Card,
    Notices,
    Problem,
    Progress,
    Rack,
    RackHead,
    Stale,
    Strip,
    Wall,
)
from server_agent.console.wording import PROBLEMS, UNKNOWN

# A bay that reads reports every second or so; after this its silence is news.
SILENT_AFTER: Final = timedelta(seconds=60)

_WORKING: Final = frozenset({BayState.IDENTIFYING, BayState.INGESTING})
_WITH_PROGRESS: Final = frozenset(set(BayState) - {BayState.EMPTY, BayState.IDENTIFYING})
_HUNDRED: Final = 100


def build_wall(model: LiveModel, facts: SiteFacts, *, now_utc: datetime) -> Wall:
    """Return what the live page shows at *now_utc*."""
    docks = sorted(model.docks.values(), key=lambda dock: dock.dock)
    racks = tuple(_rack(model, dock, facts.names, now_utc=now_utc) for dock in docks)
    return Wall(
        strip=_strip(racks),
        notices=_notices(model, facts),
        racks=racks,
        alerts=Alerts(
            lines=tuple(alert_line(alert, facts.names) for alert in facts.alerts),
            total=facts.alerts_total,
        ),
    )


def problem_of(code: str | None, untrusted_text: str | None) -> Problem | None:
    """Return what to say about *code*; None if there is none."""
    if code is None:
        return None
    return Problem(code=code, sentence=PROBLEMS.get(code), untrusted_text=untrusted_text or "")


def progress_of(done_bytes: int, total_bytes: int) -> Progress | None:
    """Return how far *done_bytes* of *total_bytes* is; None if there is nothing to do."""
    if total_bytes <= 0:
        return None
    done = min(max(done_bytes, 0), total_bytes)
    return Progress(
        done_bytes=done, total_bytes=total_bytes, percent=done * _HUNDRED // total_bytes
    )


def _last_word(dock: LiveDock) -> datetime | None:
    if dock.heard_at_utc is not None:
        return dock.heard_at_utc
    said = [heard.message.changed_at for heard in dock.bays.values()]
    if dock.status is not None:
        said.append(dock.status.message.since)
    return max(said, default=None)


def _dock_stale(model: LiveModel, dock: LiveDock) -> Stale | None:
    if model.connected_at_utc is None:
        return Stale.NO_BROKER
    if dock.status is None or dock.status.heard_at_utc < model.connected_at_utc:
        return Stale.UNHEARD
    return None if dock.status.message.online else Stale.OFFLINE


def _rack(model: LiveModel, dock: LiveDock, names: Names, *, now_utc: datetime) -> Rack:
    stale = _dock_stale(model, dock)
    since_utc = _last_word(dock)
    announced = 0 if dock.status is None else dock.status.message.bays
    cards = tuple(
        _card(
            dock.dock,
            number,
            dock.bays.get(BayNumber(number)),
            names,
            stale=_bay_stale(model, dock, BayNumber(number), now_utc=now_utc) or stale,
            since_utc=since_utc,
        )
        for number in range(1, max([announced, *dock.bays]) + 1)
    )
    return Rack(head=_rack_head(dock, names, stale=stale, since_utc=since_utc), cards=cards)


def _rack_head(
    dock: LiveDock, names: Names, *, stale: Stale | None, since_utc: datetime | None
) -> RackHead:
    head = RackHead(
        dock=dock.dock,
        name=names.docks.get(dock.dock) or dock.dock,
        stale=stale,
        last_word_utc=None if stale is None else since_utc,
    )
    if dock.status is None:
        return head
    status = dock.status.message
    return replace(
        head,
        online_since_utc=status.since if status.online else None,
        agent=status.agent,
        isolation=status.isolation,
        registry_version=status.registry_version,
        registry_behind=status.registry_version < names.version,
        pending_manifests=status.pending_manifests,
        refused_manifests=status.refused_manifests,
        held_files=status.held_files,
        staging_free_bytes=status.staging_free_bytes,
        faults=sum(one.health is Health.BAD for one in _examined(dock)),
        has_report=dock.report is not None,
    )


def _examined(dock: LiveDock) -> tuple[Examined, ...]:
    return () if dock.report is None else dock.report.examined


def _bay_stale(
    model: LiveModel, dock: LiveDock, bay: BayNumber, *, now_utc: datetime
) -> Stale | None:
    heard = dock.bays.get(bay)
    if heard is None or model.connected_at_utc is None:
        return None
    if heard.heard_at_utc < model.connected_at_utc:
        return Stale.UNHEARD
    if heard.message.state in _WORKING and now_utc >= heard.heard_at_utc + SILENT_AFTER:
        return Stale.SILENT
    return None


def _card(
    dock: str,
    bay: int,
    heard: HeardBay | None,
    names: Names,
    *,
    stale: Stale | None,
    since_utc: datetime | None,
) -> Card:
    if stale is Stale.SILENT and heard is not None:
        since_utc = heard.heard_at_utc
    # While it is live, the time of its last word would change the page with every message.
    since_utc = None if stale is None else since_utc
    if heard is None:
        return Card(dock=dock, bay=bay, look=UNKNOWN, stale=stale, stale_since_utc=since_utc)
    message = heard.message
    card = Card(
        dock=dock,
        bay=bay,
        look=message.state.value,
        stale=stale,
        stale_since_utc=since_utc,
        changed_at_utc=message.changed_at,
    )
    if message.state is BayState.EMPTY:
        return card
    card = replace(
        card,
        recorder=message.recorder,
        model=message.model,
        serial=message.serial,
        officer=message.officer,
        officer_name=names.officers.get(message.officer or ""),
        battery_percent=message.battery_percent,
        charging=None if message.charging is None else message.charging.value,
        evidence=None if message.evidence_level is None else message.evidence_level.value,
        findings=message.findings,
        problem=problem_of(message.problem, message.problem_text),
    )
    return _with_progress(card, message) if message.state in _WITH_PROGRESS else card


def _with_progress(card: Card, message: BayMessage) -> Card:
    moving = message.state is BayState.INGESTING
    return replace(
        card,
        read=progress_of(message.bytes_done, message.bytes_total),
        upload=progress_of(message.uploaded_bytes, message.bytes_total),
        files_done=min(message.files_done, message.files_total),
        files_total=message.files_total,
        rate_bytes_s=message.rate_bytes_s if moving else 0,
        remaining_s=message.remaining_s if moving else None,
        current_file=message.current_file if moving else None,
        erasing_percent=message.erasing_percent,
        erased_files=message.erased_files,
    )


_COUNTED_AS: Final = MappingProxyType(
    {
        BayState.IDENTIFYING.value: "busy",
        BayState.INGESTING.value: "busy",
        BayState.SEALED.value: "waiting",
        BayState.ERASING.value: "waiting",
        BayState.RELEASABLE.value: "done",
        BayState.QUARANTINED.value: "attention",
        BayState.ATTENTION.value: "attention",
        BayState.EMPTY.value: "empty",
        UNKNOWN: "unknown",
    }
)


def _strip(racks: Iterable[Rack]) -> Strip:
    heads = [rack.head for rack in racks]
    cards = [card for rack in racks for card in rack.cards]
    counts = Counter(_COUNTED_AS["unknown" if card.stale else card.look] for card in cards)
    return Strip(
        busy=counts["busy"],
        waiting=counts["waiting"],
        done=counts["done"],
        attention=counts["attention"],
        empty=counts["empty"],
        unknown=counts["unknown"],
        docks_live=sum(head.stale is None for head in heads),
        docks=len(heads),
        rate_bytes_s=sum(card.rate_bytes_s for card in cards if card.stale is None),
    )


def _notices(model: LiveModel, facts: SiteFacts) -> Notices:
    last = model.last_unreadable
    return Notices(
        broker_lost=model.connected_at_utc is None,
        broker_lost_at_utc=model.lost_at_utc,
        catalogue_failed_at_utc=facts.failed_at_utc,
        refused_messages=facts.refused_messages,
        refused_manifests=facts.refused_manifests,
        waiting_manifests=facts.waiting_manifests,
        unreadable=model.unreadable,
        unreadable_topic=None if last is None else last.topic,
        unreadable_code=None if last is None else last.code,
    )


def alert_line(alert: AlertRecord, names: Names) -> AlertLine:
    """Return an alert as it is shown."""
    return AlertLine(
        alert_id=alert.alert_id,
        problem=Problem(
            code=alert.code, sentence=PROBLEMS.get(alert.code), untrusted_text=alert.text
        ),
        dock_name=None if alert.dock is None else names.docks.get(alert.dock) or alert.dock,
        bay=alert.bay,
        recorder=alert.recorder,
        facts=alert.facts,
        raised_at_utc=alert.raised_at_utc,
        over_at_utc=alert.over_at_utc,
    )
