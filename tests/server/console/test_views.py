"""What the live page shows; above all, what it must not show as live."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.messages import BayMessage, BayState
from server_agent.console.live import LiveModel, connected, disconnected
from server_agent.console.records import Names, SiteFacts
from server_agent.console.views import Card, Stale, Wall
from server_agent.console.wall import SILENT_AFTER, build_wall, progress_of
from server_agent.console.wording import UNKNOWN
from tests.server.console.test_live import hear_all
from tests.simulators.console_data import DOCK, OTHER_DOCK
from tests.simulators.console_docks import bay, evening, ingesting, status

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
NAMES = Names(version=7, docks={DOCK: "Front desk"}, officers={"012301": "张伟"})
FACTS = SiteFacts(names=NAMES)
ONLINE = connected(LiveModel(), now_utc=NOW)


def wall_of(*messages: object, model: LiveModel = ONLINE, now: datetime = NOW) -> Wall:
    heard = hear_all(model, *messages)  # type: ignore[arg-type]  # messages of either kind
    return build_wall(heard, FACTS, now_utc=now)


def card_of(message: BayMessage, *, now: datetime = NOW) -> Card:
    return wall_of(status(at=NOW), message, now=now).racks[0].cards[message.bay - 1]


def test_an_evening_is_all_there() -> None:
    """Two docks, twelve bays, each in its state, with the figures on top."""
    wall = wall_of(*evening(NOW))

    assert [(rack.head.dock, len(rack.cards)) for rack in wall.racks] == [
        (DOCK, 8),
        (OTHER_DOCK, 4),
    ]
    assert [card.look for card in wall.racks[0].cards] == [
        *("ingesting", "ingesting", "sealed", "releasable"),
        *("identifying", "quarantined", "attention", "empty"),
    ]
    strip = wall.strip
    assert (strip.busy, strip.waiting, strip.done, strip.attention) == (3, 1, 1, 2)
    assert (strip.empty, strip.unknown, strip.docks_live, strip.docks) == (1, 4, 1, 2)


def test_names_come_from_the_registry() -> None:
    """Docks and officers have the names that the newest registry gives; otherwise their numbers."""
    wall = wall_of(status(at=NOW), ingesting(1, 1, at=NOW), status(OTHER_DOCK, at=NOW))

    assert [rack.head.name for rack in wall.racks] == ["Front desk", OTHER_DOCK]
    assert wall.racks[0].cards[0].officer_name == "张伟"


def test_every_announced_bay_has_a_place() -> None:
    """A bay that has said nothing is shown as one that has said nothing."""
    cards = wall_of(status(at=NOW, bays=3), ingesting(2, 1, at=NOW)).racks[0].cards

    assert [card.look for card in cards] == [UNKNOWN, "ingesting", UNKNOWN]


def test_a_bay_beyond_the_announced_is_shown() -> None:
    """A bay that reports is shown even if the dock counts fewer."""
    assert len(wall_of(status(at=NOW, bays=1), ingesting(3, 1, at=NOW)).racks[0].cards) == 3


def test_nothing_is_live_without_the_broker() -> None:
    """When the broker is lost every dock and every bay is stale, and nothing is counted."""
    heard = disconnected(hear_all(ONLINE, *evening(NOW)), now_utc=NOW)
    wall = build_wall(heard, FACTS, now_utc=NOW)

    assert {rack.head.stale for rack in wall.racks} == {Stale.NO_BROKER}
    assert {card.stale for rack in wall.racks for card in rack.cards} == {Stale.NO_BROKER}
    assert wall.notices.broker_lost
    assert (wall.strip.busy, wall.strip.docks_live, wall.strip.rate_bytes_s) == (0, 0, 0)


def test_what_was_said_before_must_be_said_again() -> None:
    """After a reconnection a dock is stale until it is heard again."""
    again = NOW + timedelta(minutes=1)
    heard = connected(disconnected(hear_all(ONLINE, *evening(NOW)), now_utc=NOW), now_utc=again)
    wall = build_wall(heard, FACTS, now_utc=again)

    assert {rack.head.stale for rack in wall.racks} == {Stale.UNHEARD}
    assert all(card.stale for rack in wall.racks for card in rack.cards)


def test_a_bay_of_a_dock_that_is_gone_is_not_live() -> None:
    """An offline dock's bays are shown as of its last word."""
    gone = status(at=NOW, online=False)
    card = wall_of(ingesting(1, 50, at=NOW), gone).racks[0].cards[0]

    assert card.stale is Stale.OFFLINE
    assert card.stale_since_utc == NOW


def test_a_reading_bay_that_says_nothing_is_not_live() -> None:
    """A bay that reads reports all the time: after a minute of silence it is not believed."""
    message = ingesting(1, 50, at=NOW)

    assert card_of(message, now=NOW + SILENT_AFTER - timedelta(seconds=1)).stale is None
    silent = card_of(message, now=NOW + SILENT_AFTER)
    assert silent.stale is Stale.SILENT
    assert silent.stale_since_utc == NOW


@pytest.mark.parametrize("state", [BayState.EMPTY, BayState.RELEASABLE, BayState.QUARANTINED])
def test_a_resting_bay_may_be_silent(state: BayState) -> None:
    """A bay where nothing happens has nothing to say."""
    assert card_of(bay(1, state, at=NOW), now=NOW + timedelta(hours=9)).stale is None


def test_an_empty_bay_shows_nothing_of_before() -> None:
    """Fields that a dock forgot to clear are not shown beside "empty"."""
    left_over = bay(1, BayState.EMPTY, at=NOW, recorder="R-0001", files_total=3, bytes_total=9)
    card = card_of(left_over)

    assert (card.recorder, card.read, card.files_total) == (None, None, 0)


def test_a_rate_is_of_reading_only() -> None:
    """A rate or a time left that outlived its reading is not shown."""
    card = card_of(bay(1, BayState.SEALED, at=NOW, rate_bytes_s=5, remaining_s=7, bytes_total=9))

    assert (card.rate_bytes_s, card.remaining_s) == (0, None)


def test_a_known_code_has_our_sentence() -> None:
    """A problem is said in the console's words where there are any, and the device's otherwise."""
    known = card_of(bay(1, BayState.ATTENTION, at=NOW, problem="F-ING-003", problem_text="x"))
    new = card_of(bay(1, BayState.ATTENTION, at=NOW, problem="E-NEW-999", problem_text="x"))

    assert known.problem is not None
    assert known.problem.sentence is not None
    assert new.problem is not None
    assert (new.problem.sentence, new.problem.untrusted_text) == (None, "x")


def test_an_old_registry_shows() -> None:
    """A dock that has an older registry than the archive issued says so."""
    head = wall_of(status(OTHER_DOCK, at=NOW)).racks[0].head

    assert (head.registry_version, head.registry_behind) == (6, True)


@given(
    done=st.integers(min_value=-5, max_value=1 << 63),
    total=st.integers(min_value=-5, max_value=1 << 63),
)
def test_progress_never_exaggerates(done: int, total: int) -> None:
    """0 to 100 per cent, and 100 only when everything is done."""
    progress = progress_of(done, total)

    if total <= 0:
        assert progress is None
    else:
        assert progress is not None
        assert 0 <= progress.percent <= 100
        assert (progress.percent == 100) == (done >= total)
        assert progress.done_bytes <= progress.total_bytes


@given(
    st.lists(st.tuples(st.integers(1, 20), st.sampled_from(BayState)), max_size=30), st.booleans()
)
def test_every_bay_is_counted_once(told: list[tuple[int, BayState]], online: bool) -> None:  # noqa: FBT001 -- drawn
    """The figures on top add up to the bays below."""
    messages = [bay(number, state, at=NOW) for number, state in told]
    wall = wall_of(status(at=NOW, bays=20, online=online), *messages)
    strip = wall.strip

    counted = strip.busy + strip.waiting + strip.done + strip.attention + strip.empty
    assert counted + strip.unknown == 20
    assert online or strip.unknown == 20


def test_a_talking_dock_does_not_change_the_page() -> None:
    """The same facts said again later are the same wall: nothing is sent to browsers."""
    first = hear_all(ONLINE, status(at=NOW), ingesting(1, 10, at=NOW))
    again = replace(
        first,
        docks={
            DOCK: replace(first.docks[DOCK], heard_at_utc=NOW + timedelta(seconds=1)),
        },
    )

    assert build_wall(first, FACTS, now_utc=NOW) == build_wall(again, FACTS, now_utc=NOW)
