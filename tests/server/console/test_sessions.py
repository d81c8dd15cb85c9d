from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from server_agent.access.roles import Role
from server_agent.access.sessions import (
    Limits,
    Session,
    digest_of,
    form_token,
    is_alive,
    should_touch,
)
from server_agent.access.users import User, parse_user_name

LIMITS = Limits(idle=timedelta(minutes=30), absolute=timedelta(hours=12))
OPENED = datetime(2026, 11, 23, 0, 0, tzinfo=UTC)
within_a_day = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=1))


def session(seen_after: timedelta = timedelta(0)) -> Session:
    return Session(
        token_sha256=digest_of("token"),
        user=User(name=parse_user_name("somebody"), role=Role.AUDITOR),
        opened_at_utc=OPENED,
        seen_at_utc=OPENED + seen_after,
    )


@given(seen_after=within_a_day, later=within_a_day)
def test_alive_within_both_limits_only(seen_after: timedelta, later: timedelta) -> None:
    """A session lives while it is neither idle too long nor older than its absolute end."""
    now = OPENED + seen_after + later
    alive = is_alive(session(seen_after), LIMITS, now_utc=now)

    assert alive == (later < LIMITS.idle and seen_after + later < LIMITS.absolute)


def test_a_clock_set_back_ends_it() -> None:
    """A session from the future does not count."""
    assert not is_alive(session(), LIMITS, now_utc=OPENED - timedelta(seconds=1))


@given(seen_after=within_a_day, later=within_a_day)
def test_a_sign_of_life_is_written_once_a_minute(seen_after: timedelta, later: timedelta) -> None:
    """Not every request is a write."""
    touched = should_touch(session(seen_after), now_utc=OPENED + seen_after + later)

    assert touched == (later >= timedelta(minutes=1))


@given(st.text(min_size=1), st.text(min_size=1))
def test_digests_tell_nothing_of_each_other(token: str, other: str) -> None:
    """A form's token is not the session's digest, neither is the token, and both are its own."""
    assert len({token, digest_of(token), form_token(token)}) == 3
    assert (digest_of(token) == digest_of(other)) == (token == other)
    assert (form_token(token) == form_token(other)) == (token == other)
