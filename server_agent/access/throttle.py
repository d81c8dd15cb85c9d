"""How often a name may be tried; names that nobody has are treated alike."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

MAX_FAILURES: Final = 5
LOCKED_FOR: Final = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """The tries of one name since the last that was right; each counts as wrong until then."""

    failures: int
    last_at_utc: datetime


def is_locked(attempts: Attempts | None, *, now_utc: datetime) -> bool:
    """Return whether the name must wait; tries while it waits do not count."""
    return (
        attempts is not None
        and attempts.failures >= MAX_FAILURES
        and now_utc < attempts.last_at_utc + LOCKED_FOR
    )


def counted(attempts: Attempts | None, *, now_utc: datetime) -> Attempts:
    """Return the tries with one more; those of a quarter of an hour ago are forgotten."""
    if attempts is None or now_utc >= attempts.last_at_utc + LOCKED_FOR:
        return Attempts(failures=1, last_at_utc=now_utc)
    return Attempts(failures=attempts.failures + 1, last_at_utc=now_utc)
