from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from protocol.messages import BayMessage, BayState
from server_agent.console.live import LiveModel, connected
from server_agent.console.parts import NOTHING, Parts, changed_parts
from server_agent.console.records import SiteFacts
from server_agent.console.views import Rack, Wall
from server_agent.console.wall import build_wall
from tests.server.console.test_live import hear_all
from tests.simulators.console_docks import bay, status

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
bays = st.lists(st.tuples(st.integers(1, 8), st.sampled_from(BayState)), max_size=8)
docks = st.integers(1, 8)


def wall(told: list[tuple[int, BayState]], count: int) -> Wall:
    messages: list[BayMessage] = [bay(number, state, at=NOW) for number, state in told]
    model = hear_all(connected(LiveModel(), now_utc=NOW), status(at=NOW, bays=count), *messages)
    return build_wall(model, SiteFacts(refused_messages=len(told)), now_utc=NOW)


def patched(before: Wall | None, parts: Parts) -> Wall:
    """What a page shows when the parts have taken their places."""
    if parts.whole is not None:
        return parts.whole
    assert before is not None
    heads = {head.key: head for head in parts.heads}
    cards = {card.key: card for card in parts.cards}
    return replace(
        before,
        strip=parts.strip or before.strip,
        notices=parts.notices or before.notices,
        alerts=parts.alerts or before.alerts,
        racks=tuple(
            Rack(
                head=heads.get(rack.head.key, rack.head),
                cards=tuple(cards.get(card.key, card) for card in rack.cards),
            )
            for rack in before.racks
        ),
    )


@given(bays, docks, bays, docks)
def test_parts_make_the_next_wall(
    first: list[tuple[int, BayState]], one: int, second: list[tuple[int, BayState]], other: int
) -> None:
    """Whatever changes: the page with the parts in their places is the next wall."""
    before, after = wall(first, one), wall(second, other)

    assert patched(before, changed_parts(before, after)) == after
    assert patched(None, changed_parts(None, after)) == after


@given(bays, docks)
def test_no_change_sends_nothing(told: list[tuple[int, BayState]], count: int) -> None:
    """The same wall again has no parts."""
    assert changed_parts(wall(told, count), wall(told, count)) == NOTHING


def test_one_bay_is_one_part() -> None:
    """When one bay changes, its card and the figures on top are sent, and nothing else."""
    before = wall([(1, BayState.EMPTY), (2, BayState.EMPTY)], 8)
    after = wall([(1, BayState.EMPTY), (2, BayState.IDENTIFYING)], 8)

    parts = changed_parts(before, after)

    assert [card.bay for card in parts.cards] == [2]
    assert parts.strip == after.strip
    assert (parts.whole, parts.notices, parts.alerts, parts.heads) == (None, None, None, ())
