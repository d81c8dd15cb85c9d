"""Each breach has its begin and its end, look after look."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.guard.breaches import Breach, Kind
from edge_agent.guard.spells import MOST_OVER, Spells, after_look

NOW = datetime(2026, 11, 27, 8, 0, tzinfo=UTC)
ROUTES = [Breach(kind=Kind.WAY_OUT, subject=f"{n}", text="a route") for n in range(3)]
_SEEN = st.lists(st.sampled_from(ROUTES), unique=True, max_size=3)


def at(second: int) -> datetime:
    return NOW + timedelta(seconds=second)


def test_what_lasts_ends_when_it_is_not_seen_any_more() -> None:
    """And begins anew when it comes back."""
    route, spells = [ROUTES[0]], Spells()
    for second, left in enumerate([route, route, [], route]):
        spells = after_look(spells, found=left, left=left, now=at(second))

    first, second_ = spells.kept
    assert (first.began_at, first.ended_at, first.changed) == (at(0), at(2), 2)
    assert (second_.began_at, second_.ended_at, second_.changed) == (at(3), None, 3)
    assert (spells.begun, spells.changes) == (2, 3)


def test_what_was_shut_at_once_has_both() -> None:
    """However short it was, it is a breach of its own each time."""
    spells = Spells()
    for second in range(2):
        spells = after_look(spells, found=[ROUTES[0]], left=[], now=at(second))

    assert [(one.began_at, one.ended_at) for one in spells.kept] == [(at(0), at(0)), (at(1), at(1))]


@given(looks=st.lists(st.tuples(_SEEN, _SEEN), max_size=200))
def test_what_lasts_is_what_is_left(looks: list[tuple[list[Breach], list[Breach]]]) -> None:
    """None of it is ever forgotten; of the others the last ones are known, and all are counted."""
    spells, begun, standing = Spells(), 0, set[Breach]()
    for second, (found, left) in enumerate(looks):
        begun += len({*found, *left} - standing)
        standing = set(left)
        spells = after_look(spells, found=found, left=left, now=at(second))

        assert {one.breach for one in spells.kept if one.ended_at is None} == standing
        assert len(spells.kept) <= MOST_OVER + len(standing)
        assert spells.begun == begun
        changed = [one.changed for one in spells.kept]
        assert len(set(changed)) == len(changed)
        assert max(changed, default=0) <= spells.changes
