"""How it stands, look after look."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.guard.breaches import Breach, Kind
from edge_agent.guard.state import SHOWN_FOR, Watch, after_look, begin
from protocol.manifest import Isolation

NOW = datetime(2026, 11, 27, 8, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ROUTE = Breach(kind=Kind.WAY_OUT, subject="default", text="a route")
STICK = Breach(kind=Kind.FOREIGN_INTERFACE, subject="wwan0", text="a stick")


def looks(*seen: tuple[list[Breach], list[Breach]]) -> Watch:
    """Return how it stands after looks, a second apart."""
    watch = begin(NOW)
    for number, (found, left) in enumerate(seen, start=1):
        watch = after_look(watch, found=found, left=left, now=NOW + number * SECOND)
    return watch


def test_before_the_first_look_nobody_relies_on_it() -> None:
    """Then it holds, if nothing is found."""
    assert begin(NOW).isolation is Isolation.BREACHED
    assert looks(([], [])).isolation is Isolation.HOLDING
    assert looks(([], []), ([], [])).since == NOW + SECOND


def test_what_was_shut_at_once_was_broken_all_the_same() -> None:
    """It is said for a day, then it holds."""
    watch = looks(([], []), ([ROUTE], []), ([], []))

    assert watch.isolation is Isolation.RESTORED
    assert (watch.since, watch.began_at) == (NOW + 2 * SECOND, NOW + 2 * SECOND)
    assert (watch.open_, watch.incident) == ((), (ROUTE,))
    later = after_look(watch, found=[], left=[], now=watch.since + SHOWN_FOR)
    assert (later.isolation, later.since) == (Isolation.HOLDING, watch.since + SHOWN_FOR)
    assert (later.incident, later.spells) == ((), watch.spells)


def test_what_stays_is_broken_until_it_is_gone() -> None:
    """Since when it is, and what else was."""
    open_ = ([ROUTE], [ROUTE])
    broken = looks(([], []), open_, ([ROUTE, STICK], [ROUTE]), open_)
    over = after_look(broken, found=[], left=[], now=NOW + 9 * SECOND)

    assert broken.isolation is Isolation.BREACHED
    assert (broken.since, broken.open_) == (NOW + 2 * SECOND, (ROUTE,))
    assert over.isolation is Isolation.RESTORED
    assert (over.since, over.began_at) == (NOW + 9 * SECOND, NOW + 2 * SECOND)
    assert over.incident == (ROUTE, STICK)


_BREACHES = st.lists(st.sampled_from([ROUTE, STICK]), unique=True, max_size=2)


@given(st.lists(st.tuples(_BREACHES, st.booleans()), min_size=1, max_size=8))
def test_it_never_holds_while_something_is_open(seen: list[tuple[list[Breach], bool]]) -> None:
    """And what was found is never forgotten within a day."""
    watch = begin(NOW)
    ever: set[Breach] = set()
    for number, (found, is_shut) in enumerate(seen, start=1):
        left = [] if is_shut else found
        watch = after_look(watch, found=found, left=left, now=NOW + number * SECOND)
        ever |= set(found)
        assert (watch.isolation is Isolation.BREACHED) == bool(left)
        assert set(watch.incident) == ever
        assert (watch.isolation is Isolation.HOLDING) == (not ever)
