"""A session: who is at the other end, from logging in to logging out or being away too long."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NewType

from server_agent.access.users import User

Token = NewType("Token", str)

TOKEN_BYTES: Final = 32
_TOUCH_AFTER: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long a session lasts: without a sign of life, and at most."""

    idle: timedelta
    absolute: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Somebody who logged in. The token is known to the browser alone; we keep its digest."""

    token_sha256: str
    user: User
    opened_at_utc: datetime
    seen_at_utc: datetime


def is_alive(session: Session, limits: Limits, *, now_utc: datetime) -> bool:
    """Return whether *session* still counts; a clock that was set back does not prolong it."""
    return (
        session.opened_at_utc <= now_utc < session.opened_at_utc + limits.absolute
        and now_utc < session.seen_at_utc + limits.idle
    )


def should_touch(session: Session, *, now_utc: datetime) -> bool:
    """Return whether a sign of life is worth a write: not more than one a minute."""
    return now_utc >= session.seen_at_utc + _TOUCH_AFTER


def digest_of(token: str) -> str:
    """Return the name under which a token's session is kept."""
    return _derived("session", token)


def form_token(token: str) -> str:
    """Return what a form of this browser must carry; it does not tell the token or its digest."""
    return _derived("form", token)


def _derived(purpose: str, token: str) -> str:
    return hashlib.sha256(f"bayward console {purpose}\0{token}".encode()).hexdigest()
