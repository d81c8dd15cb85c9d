"""How far a recorder's clock is off."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from edge_agent.drivers.driver import ClockReading


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockDrift:
    """What a recorder's clock said at one moment.

    Attributes:
        untrusted_text: What it said, as it came.
        local: The same as a time, without a zone; None if there is no such time.
        drift_s: How far it is ahead of the dock's clock; negative is behind. None if it said
            no time that there is.
        uncertainty_s: The drift may be off by as much either way.
        at_utc: The moment, by the dock's clock.
    """

    untrusted_text: bytes
    local: datetime | None
    drift_s: float | None
    uncertainty_s: float
    at_utc: datetime


def drift_of(
    reading: ClockReading, *, asked_at_utc: datetime, elapsed_s: float, zone: tzinfo
) -> ClockDrift:
    """Return how far off a clock is that was read at some moment during *elapsed_s*.

    A time that the zone has twice, in autumn, is taken as whichever is nearer to the dock's. Any
    year from 1 to 9999 can be told, on either side of every zone.

    Args:
        reading: What the recorder said.
        asked_at_utc: When it was asked.
        elapsed_s: From the question to the whole answer, at least 0.
        zone: Where the recorder is worn; its clock has none.
    """
    at_utc = asked_at_utc + timedelta(seconds=elapsed_s / 2)
    drift_s = None
    if reading.local is not None:
        naive_utc = at_utc.astimezone(UTC).replace(tzinfo=None)
        drift_s = min((_ahead_s(reading.local, fold, naive_utc, zone) for fold in (0, 1)), key=abs)
    return ClockDrift(
        untrusted_text=reading.untrusted_text,
        local=reading.local,
        drift_s=drift_s,
        # It tells whole seconds, so it is up to one further on than it says.
        uncertainty_s=elapsed_s / 2 + 1.0,
        at_utc=at_utc,
    )


def _ahead_s(local: datetime, fold: int, naive_utc: datetime, zone: tzinfo) -> float:
    """Never makes a UTC time of *local*: year 1 and year 9999 have none."""
    offset = local.replace(fold=fold, tzinfo=zone).utcoffset() or timedelta()
    return (local - naive_utc - offset).total_seconds()
