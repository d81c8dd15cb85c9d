"""What was refused within a day, look after look."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.guard.usb_register import (
    KEPT_FOR,
    MOST_REFUSALS,
    Register,
    Sighting,
    after_look,
)
from edge_agent.mounting.port_paths import PortPath

NOW = datetime(2026, 11, 27, 8, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def sighting(ids: str = "0525:a4a2", *, let_in: bool = False) -> Sighting:
    return Sighting(
        port=PortPath("1-1"),
        bay=1,
        ids=ids,
        untrusted_name="'x' ''",
        let_in=let_in,
        because="of the test",
    )


def test_a_refused_device_that_stays() -> None:
    """It is counted once, and told as long as it is there, though it be for days."""
    register = after_look(Register(), [(3, sighting())], now=NOW)
    later = after_look(register, [(3, sighting())], now=NOW + 3 * KEPT_FOR)

    assert (later.refusals, later.refused[0].times) == (1, 1)
    assert later == register


def test_one_that_comes_again() -> None:
    """By the kernel's number it is known for another time; for a day after the last one."""
    register = after_look(Register(), [(3, sighting())], now=NOW)
    register = after_look(register, [(4, sighting())], now=NOW + SECOND)
    gone = after_look(register, [], now=NOW + KEPT_FOR)

    [refusal] = gone.refused
    assert (refusal.times, refusal.first_at, refusal.last_at) == (2, NOW, NOW + SECOND)
    assert after_look(gone, [], now=NOW + SECOND + KEPT_FOR).refused == ()


def test_a_clock_that_was_ahead() -> None:
    """What was refused by a clock of another year is kept for a day by the right one."""
    register = after_look(Register(), [(3, sighting())], now=NOW + 3_000 * KEPT_FOR)
    register = after_look(register, [], now=NOW)

    assert len(register.refused) == 1
    assert after_look(register, [], now=NOW + KEPT_FOR).refused == ()


def test_what_is_let_in_is_not_counted() -> None:
    """It is there, and no refusal."""
    register = after_look(Register(), [(3, sighting(let_in=True))], now=NOW)

    assert (register.refusals, register.refused, len(register.seen)) == (0, (), 1)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 60)), max_size=80))
def test_all_are_counted_and_some_are_kept(came: list[tuple[int, int]]) -> None:
    """However many kinds of things somebody plugs in."""
    register, before, times = Register(), None, 0
    for number, kind in came:
        register = after_look(register, [(number, sighting(f"0000:{kind:04x}"))], now=NOW)
        times += (number, kind) != before
        before = (number, kind)

    assert register.refusals == times
    assert len(register.refused) <= MOST_REFUSALS
    assert sum(one.times for one in register.refused) <= times


def test_of_many_kinds_the_first_ones_are_told() -> None:
    """The others are counted."""
    register = Register()
    for kind in range(MOST_REFUSALS + 1):
        register = after_look(register, [(kind, sighting(f"0000:{kind:04x}"))], now=NOW)

    assert (len(register.refused), register.refusals) == (MOST_REFUSALS, MOST_REFUSALS + 1)
    assert register.refused[0].sighting.ids == "0000:0000"
