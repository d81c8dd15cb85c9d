from hypothesis import given
from hypothesis import strategies as st

from edge_agent.ingest.progress import RateMeter


def test_the_rate_is_over_the_last_seconds() -> None:
    """What was fast a minute ago says nothing about now."""
    meter = RateMeter()
    for at_s, done in ((0.0, 0), (1.0, 1_000_000), (60.0, 1_000_000), (62.0, 1_000_200)):
        meter.note(at_s=at_s, bytes_done=done)

    assert meter.bytes_s == 100
    assert meter.remaining_s(250) == 3


def test_without_movement_there_is_no_end() -> None:
    """A standing copy has a rate of nothing, and nobody knows how long it takes."""
    meter = RateMeter()
    assert (meter.bytes_s, meter.remaining_s(1)) == (0, None)
    meter.note(at_s=1.0, bytes_done=5)
    meter.note(at_s=2.0, bytes_done=5)

    assert (meter.bytes_s, meter.remaining_s(1)) == (0, None)


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(-50, 50)), max_size=30))
def test_a_rate_is_never_negative(steps: list[tuple[float, int]]) -> None:
    """A copy that begins anew makes nobody report a negative rate."""
    meter = RateMeter()
    at_s, done = 0.0, 100
    for elapsed_s, more in steps:
        at_s, done = at_s + elapsed_s, done + more
        meter.note(at_s=at_s, bytes_done=done)
        remaining_s = meter.remaining_s(1_000)
        assert meter.bytes_s >= 0
        assert remaining_s is None or remaining_s >= 0
