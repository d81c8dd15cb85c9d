from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from server_agent.access.throttle import LOCKED_FOR, MAX_FAILURES, Attempts, counted, is_locked

START = datetime(2026, 11, 23, tzinfo=UTC)
pauses = st.lists(st.timedeltas(timedelta(0), timedelta(minutes=40)), max_size=40)


@given(pauses)
def test_no_quarter_of_an_hour_has_more_than_five_tries(waits: list[timedelta]) -> None:
    """However somebody waits between tries, at most five are looked at in any 15 minutes."""
    now, attempts = START, None
    looked_at: list[datetime] = []
    for wait in waits:
        now += wait
        if not is_locked(attempts, now_utc=now):
            attempts = counted(attempts, now_utc=now)
            looked_at.append(now)

    for one in looked_at:
        near = [other for other in looked_at if one <= other < one + LOCKED_FOR]
        assert len(near) <= MAX_FAILURES


def test_a_lock_ends_by_itself() -> None:
    """After 15 minutes the name may be tried again, from the beginning."""
    attempts = Attempts(failures=MAX_FAILURES, last_at_utc=START)

    assert is_locked(attempts, now_utc=START + LOCKED_FOR - timedelta(microseconds=1))
    assert not is_locked(attempts, now_utc=START + LOCKED_FOR)
    assert counted(attempts, now_utc=START + LOCKED_FOR).failures == 1


def test_four_failures_lock_nobody() -> None:
    """The fifth failure locks, not the fourth."""
    attempts = None
    for _ in range(MAX_FAILURES - 1):
        attempts = counted(attempts, now_utc=START)

    assert not is_locked(attempts, now_utc=START)
    assert is_locked(counted(attempts, now_utc=START), now_utc=START)
