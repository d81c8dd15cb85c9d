"""The live model: hostile telemetry is counted, never believed and never fatal."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import strict_json
from protocol.identifiers import BayNumber, DockId
from protocol.manifest import EvidenceLevel
from protocol.messages import BayMessage, BayState, DockStatus, Metrics
from protocol.topics import Channel, of_bay, of_dock
from server_agent.console.live import LiveModel, connected, disconnected, received
from server_agent.console.records import SiteFacts
from server_agent.console.wall import build_wall
from tests.simulators.console_data import DOCK, OTHER_DOCK
from tests.simulators.console_docks import alert, bay, evening, ingesting, report, status

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
LATER = NOW + timedelta(seconds=5)
CHANNELS = [of_dock(DOCK, channel) for channel in Channel if channel is not Channel.BAYS]
TOPICS = [*CHANNELS, of_bay(DOCK, BayNumber(1)), "bayward/v1/docks/UP/status", "", "x/y"]


def hear(
    model: LiveModel, topic: str, untrusted: bytes, *, retained: bool = False, at: datetime = NOW
) -> LiveModel:
    return received(model, topic=topic, untrusted=untrusted, retained=retained, now_utc=at)


def hear_all(model: LiveModel, *messages: DockStatus | BayMessage) -> LiveModel:
    for message in messages:
        topic = (
            of_bay(message.dock, message.bay)
            if isinstance(message, BayMessage)
            else of_dock(message.dock, Channel.STATUS)
        )
        model = hear(model, topic, strict_json.encode(message))
    return model


def test_a_status_and_bays_are_kept() -> None:
    """What a dock says of itself and of its bays is what the model holds."""
    model = hear_all(LiveModel(), status(at=NOW), ingesting(1, 10, at=NOW))

    dock = model.docks[DOCK]
    assert dock.status is not None
    assert dock.status.message == status(at=NOW)
    assert dock.bays[BayNumber(1)].message == ingesting(1, 10, at=NOW)
    assert dock.heard_at_utc == NOW


def test_what_a_dock_found_is_kept_and_counted() -> None:
    """The newest report stands; its faults are on the live page."""
    topic = of_dock(DOCK, Channel.DOCTOR)
    model = hear_all(connected(LiveModel(), now_utc=NOW), status(at=NOW))
    model = hear(model, topic, strict_json.encode(report(at=NOW)), retained=True)
    wall = build_wall(model, SiteFacts(), now_utc=NOW)

    assert model.docks[DOCK].report == report(at=NOW)
    assert (wall.racks[0].head.faults, wall.racks[0].head.has_report) == (1, True)


def test_a_report_on_another_docks_topic() -> None:
    """It is counted as unreadable."""
    other = strict_json.encode(report(OTHER_DOCK, at=NOW))
    model = hear(LiveModel(), of_dock(DOCK, Channel.DOCTOR), other)

    assert (model.unreadable, model.docks) == (1, {})


def test_the_last_word_counts() -> None:
    """A later message about a bay replaces the one before."""
    model = hear_all(LiveModel(), ingesting(1, 10, at=NOW), ingesting(1, 11, at=NOW))

    assert model.docks[DOCK].bays[BayNumber(1)].message.bytes_done == 24_000_000_000 * 11 // 100


def test_what_was_retained_is_not_a_sign_of_life() -> None:
    """The broker's memory does not say that a dock is alive now."""
    told = strict_json.encode(ingesting(1, 10, at=NOW))
    model = hear(LiveModel(), of_bay(DOCK, BayNumber(1)), told, retained=True)

    assert model.docks[DOCK].heard_at_utc is None


def test_a_will_is_not_a_sign_of_life() -> None:
    """That a dock is gone is the broker's word: its own last word stays what it was."""
    model = hear_all(LiveModel(), status(at=NOW))
    gone = strict_json.encode(status(at=NOW, online=False))
    model = hear(model, of_dock(DOCK, Channel.STATUS), gone, at=LATER)

    assert model.docks[DOCK].heard_at_utc == NOW


@pytest.mark.parametrize("topic", [of_dock(DOCK, Channel.STATUS), of_bay(DOCK, BayNumber(1))])
def test_a_cleared_topic_is_forgotten(topic: str) -> None:
    """An empty retained message removes what stood there; with nothing left, the dock goes."""
    model = hear_all(LiveModel(), status(at=NOW), ingesting(1, 10, at=NOW))
    cleared = hear(model, topic, b"", retained=True)

    assert cleared.unreadable == 0
    assert cleared != model
    for other in (of_dock(DOCK, Channel.STATUS), of_bay(DOCK, BayNumber(1))):
        cleared = hear(cleared, other, b"", retained=True)
    assert not cleared.docks


def test_clearing_what_is_not_there_changes_nothing() -> None:
    """Nobody can make a dock appear by an empty message."""
    assert hear(LiveModel(), of_dock(DOCK, Channel.STATUS), b"") == LiveModel()


def test_alerts_are_counted_not_kept() -> None:
    """An alert's content is the catalogue's; the model says only that there is one."""
    model = hear(LiveModel(), of_dock(DOCK, Channel.ALERTS), strict_json.encode(alert(1, at=NOW)))

    assert model.alerts_heard == 1


def test_metrics_are_a_sign_of_life() -> None:
    """Metrics say that the dock is alive."""
    told = Metrics(dock=DOCK, at=NOW, uptime_s=1, memory_bytes=1)
    model = hear(LiveModel(), of_dock(DOCK, Channel.METRICS), strict_json.encode(told))

    assert model.docks[DOCK].heard_at_utc == NOW
    assert model.docks[DOCK].metrics == told


def _as_if(message: msgspec.Struct, **changed: object) -> bytes:
    return msgspec.json.encode(msgspec.to_builtins(message) | changed)


LIES = {
    "another dock": (of_dock(OTHER_DOCK, Channel.STATUS), strict_json.encode(status(at=NOW))),
    "another bay": (of_bay(DOCK, BayNumber(2)), strict_json.encode(ingesting(1, 1, at=NOW))),
    "an unknown field": (of_dock(DOCK, Channel.STATUS), _as_if(status(at=NOW), extra=1)),
    "an unknown state": (of_bay(DOCK, BayNumber(1)), _as_if(ingesting(1, 1, at=NOW), state="x")),
    "a float": (of_bay(DOCK, BayNumber(1)), _as_if(ingesting(1, 1, at=NOW), files_done=1.5)),
    "a huge number": (
        of_bay(DOCK, BayNumber(1)),
        _as_if(ingesting(1, 1, at=NOW), files_done=1 << 70),
    ),
    "the year 1": (
        of_dock(DOCK, Channel.STATUS),
        _as_if(status(at=NOW), since="0001-01-01T00:00:00+23:59"),
    ),
    "the year 9999": (
        of_bay(DOCK, BayNumber(1)),
        _as_if(ingesting(1, 1, at=NOW), changed_at="9999-12-31T23:59:59-23:59"),
    ),
    "a thousand bays": (of_dock(DOCK, Channel.STATUS), _as_if(status(at=NOW), bays=1000)),
    "64 KiB and more": (of_dock(DOCK, Channel.STATUS), b" " * (64 * 1024 + 1)),
    "a manifest": (of_dock(DOCK, Channel.MANIFESTS), b"{}"),
    "no topic of ours": ("bayward/v1/site/registry", b"{}"),
    "nothing at all": (of_dock(DOCK, Channel.ALERTS), b""),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_counted_and_changes_nothing(lie: str) -> None:
    """What a dock may not say is refused whole: the model is as before, but for the count."""
    topic, untrusted = LIES[lie]
    before = hear_all(LiveModel(), status(at=NOW), ingesting(1, 10, at=NOW))

    after = hear(before, topic, untrusted, at=LATER)

    assert after.unreadable == 1
    assert after.last_unreadable is not None
    assert after.last_unreadable.at_utc == LATER
    assert after.docks == before.docks


@given(st.sampled_from(TOPICS), st.binary(max_size=200), st.booleans())
def test_no_bytes_are_fatal(topic: str, untrusted: bytes, retained: bool) -> None:  # noqa: FBT001 -- drawn
    """Any bytes on any topic are taken in, cleared or counted."""
    model = hear(LiveModel(), topic, untrusted, retained=retained)

    assert model.unreadable <= 1
    build_wall(model, SiteFacts(), now_utc=NOW)


strange = st.one_of(
    st.none(),
    st.integers(),
    st.integers(min_value=0, max_value=1 << 63),
    st.text(max_size=130),
    st.booleans(),
    st.sampled_from([state.value for state in BayState]),
    st.sampled_from([level.value for level in EvidenceLevel]),
    st.datetimes(timezones=st.just(UTC)).map(lambda at: at.isoformat()),
)


@given(st.dictionaries(st.sampled_from(BayMessage.__struct_fields__), strange, max_size=6))
def test_whatever_passes_can_be_shown(changed: dict[str, object]) -> None:
    """A bay message with strange fields is refused, or makes a wall without an error."""
    untrusted = _as_if(ingesting(1, 10, at=NOW), **changed)
    model = hear(connected(LiveModel(), now_utc=NOW), of_bay(DOCK, BayNumber(1)), untrusted)

    wall = build_wall(model, SiteFacts(), now_utc=NOW)

    assert model.unreadable + len(wall.racks) == 1


def test_losing_the_broker_keeps_what_was_heard() -> None:
    """What was known stays, with the time when it stopped being live."""
    model = hear_all(connected(LiveModel(), now_utc=NOW), *evening(NOW))
    lost = disconnected(model, now_utc=LATER)

    assert lost.connected_at_utc is None
    assert lost.lost_at_utc == LATER
    assert lost.docks == model.docks
    assert disconnected(lost, now_utc=LATER + timedelta(hours=1)) is lost


def test_docks_do_not_disturb_each_other() -> None:
    """A message of one dock leaves the other as it was."""
    one = hear_all(LiveModel(), status(at=NOW))
    both = hear_all(one, bay(1, BayState.EMPTY, at=NOW, dock=DockId("dock-2")))

    assert both.docks[DOCK] is one.docks[DOCK]
