"""How far a recorder's clock is off, whatever it says."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.drivers.drift import ClockDrift, drift_of
from edge_agent.drivers.driver import ClockReading
from edge_agent.drivers.line_messages import parse_clock, write_clock

SHANGHAI = ZoneInfo("Asia/Shanghai")
BERLIN = ZoneInfo("Europe/Berlin")
ZONES = st.sampled_from([SHANGHAI, BERLIN, ZoneInfo("Pacific/Kiritimati"), ZoneInfo("Etc/GMT+12")])


def drift(text: bytes, now_utc: datetime, zone: ZoneInfo, *, elapsed_s: float = 0.0) -> ClockDrift:
    return drift_of(parse_clock(text), asked_at_utc=now_utc, elapsed_s=elapsed_s, zone=zone)


@pytest.mark.parametrize(
    ("text", "drift_s"),
    [
        (b"20261121093000", 0),
        (b"20261121093005", 5),
        (b"20261121092900", -60),
        (b"19800101000000", -1_479_720_600),
        (b"20000101000000", -848_568_600),
        (b"21071231235959", 2_559_565_799),
    ],
)
def test_drift_is_ahead_or_behind(text: bytes, drift_s: float) -> None:
    """A dead battery and the end of FAT's calendar are drifts like any other."""
    now_utc = datetime(2026, 11, 21, 1, 30, tzinfo=UTC)

    assert drift(text, now_utc, SHANGHAI).drift_s == drift_s


@pytest.mark.parametrize(
    ("now_utc", "text", "drift_s"),
    [
        # The hour from 2 to 3 comes twice on 2026-10-25.
        (datetime(2026, 10, 25, 0, 30, tzinfo=UTC), b"20261025023000", 0),
        (datetime(2026, 10, 25, 1, 30, tzinfo=UTC), b"20261025023000", 0),
        (datetime(2026, 10, 25, 1, 30, tzinfo=UTC), b"20261025033000", 3600),
        # and not at all on 2026-03-29; a recorder knows nothing of that.
        (datetime(2026, 3, 29, 1, 30, tzinfo=UTC), b"20260329033000", 0),
        (datetime(2026, 3, 29, 1, 30, tzinfo=UTC), b"20260329023000", 0),
        (datetime(2026, 3, 29, 0, 30, tzinfo=UTC), b"20260329013000", 0),
    ],
)
def test_drift_around_summer_time(now_utc: datetime, text: bytes, drift_s: float) -> None:
    """An hour that comes twice is taken as the nearer one."""
    assert drift(text, now_utc, BERLIN).drift_s == drift_s


@pytest.mark.parametrize(
    "text", [b"00000000000000", b"20260230000000", b"20261121240000", b"99999999999999"]
)
def test_a_time_that_is_none_has_no_drift(text: bytes) -> None:
    """What it said is kept, and that it makes no sense."""
    told = drift(text, datetime(2026, 11, 21, tzinfo=UTC), SHANGHAI)

    assert told.untrusted_text == text
    assert told.drift_s is None


@given(
    local=st.datetimes().map(lambda local: local.replace(microsecond=0)),
    now_utc=st.datetimes(
        min_value=datetime(1971, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
        max_value=datetime(2200, 1, 1),  # noqa: DTZ001 - likewise
        timezones=st.just(UTC),
    ),
    zone=ZONES,
)
def test_any_time_of_any_year_can_be_told(
    local: datetime, now_utc: datetime, zone: ZoneInfo
) -> None:
    """From year 1 to year 9999, on either side of every zone."""
    told = drift(write_clock(local), now_utc, zone)

    assert told.drift_s is not None
    plain_s = (local - now_utc.replace(tzinfo=None)).total_seconds()
    assert abs(told.drift_s - plain_s) <= timedelta(hours=15).total_seconds()


@given(ahead_s=st.integers(-(10**9), 10**9), zone=ZONES)
def test_a_clock_that_is_ahead_is_told_so(ahead_s: int, zone: ZoneInfo) -> None:
    """A clock that runs exactly so far off is told so, but for summer time's hour."""
    now_utc = datetime(2026, 11, 21, 1, 30, tzinfo=UTC)
    local = (now_utc + timedelta(seconds=ahead_s)).astimezone(zone).replace(tzinfo=None)

    told = drift(write_clock(local), now_utc, zone)

    assert told.drift_s in {ahead_s, ahead_s - 3600, ahead_s + 3600}


def test_the_moment_is_in_the_middle() -> None:
    """An answer of two seconds is of one second ago, give or take."""
    asked = datetime(2026, 11, 21, 1, 30, tzinfo=UTC)

    told = drift(b"20261121093001", asked, SHANGHAI, elapsed_s=2.0)

    assert told.at_utc == asked + timedelta(seconds=1)
    assert (told.drift_s, told.uncertainty_s) == (0.0, 2.0)


def test_a_reading_without_a_time() -> None:
    """No time is no drift, whatever the text."""
    reading = ClockReading(untrusted_text=b"-", local=None)
    now_utc = datetime(2026, 11, 21, tzinfo=UTC)

    assert drift_of(reading, asked_at_utc=now_utc, elapsed_s=0, zone=UTC).drift_s is None
