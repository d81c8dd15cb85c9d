from datetime import UTC, datetime, timedelta

import pytest

from edge_agent.doctor.verdicts import (
    ClockState,
    Verdict,
    about_certificate,
    about_clock,
    about_isolation,
    about_ports,
    about_space,
    worst,
)
from protocol.manifest import Isolation
from protocol.messages import Health

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
GB = 10**9


@pytest.mark.parametrize(
    ("days", "health"),
    [(400, Health.GOOD), (29, Health.SOON), (6, Health.BAD), (0, Health.BAD), (-1, Health.BAD)],
)
def test_a_certificate_is_told_before_it_ends(days: int, health: Health) -> None:
    """A month before it is time to act; in the last week nothing else matters."""
    found = about_certificate("dock's certificate", NOW + timedelta(days=days), NOW)

    assert found.health is health
    assert bool(found.remedy) is (health is not Health.GOOD)


@pytest.mark.parametrize(
    ("state", "health"),
    [
        (ClockState(is_synchronised=True, error_s=0.02), Health.GOOD),
        (ClockState(is_synchronised=True, error_s=16.0), Health.SOON),
        (ClockState(is_synchronised=False, error_s=0.0), Health.SOON),
        (None, Health.UNKNOWN),
    ],
)
def test_a_clock_that_nothing_keeps_right_is_told(state: ClockState | None, health: Health) -> None:
    """Whatever it shows now, it will be wrong."""
    assert about_clock(state).health is health


@pytest.mark.parametrize(
    ("free_bytes", "free_inodes", "health"),
    [
        (100 * GB, 1_000_000, Health.GOOD),
        (3 * GB, 1_000_000, Health.SOON),
        (100 * GB, 500, Health.SOON),
        (GB // 10, 1_000_000, Health.BAD),
        (100 * GB, 0, Health.BAD),
    ],
)
def test_room_is_told_by_the_marks(free_bytes: int, free_inodes: int, health: Health) -> None:
    """Below the upper mark recorders wait; below the lower one nothing is taken at all."""
    found = about_space(
        free_bytes=free_bytes,
        free_inodes=free_inodes,
        low_water_bytes=4 * GB,
        min_free_bytes=GB // 4,
    )

    assert found.health is health


def test_a_connector_without_its_hub_is_named() -> None:
    """A charger that was plugged in elsewhere has other ports."""
    found = about_ports(["1-1.2", "1-1.1"])

    assert (found.health, "1-1.1, 1-1.2" in found.seen) == (Health.BAD, True)
    assert about_ports([]).health is Health.GOOD


def test_a_dock_is_as_well_as_its_worst_part() -> None:
    """What is not known is better than what is known to be bad."""
    verdicts = [Verdict(subject="x", health=health, seen="") for health in Health]

    assert worst(verdicts) is Health.BAD
    assert worst(verdicts[:2]) is Health.UNKNOWN
    assert worst([]) is Health.GOOD


@pytest.mark.parametrize(
    ("isolation", "health", "said"),
    [
        (Isolation.HOLDING, Health.GOOD, "holding since 2026-11-27 08:00"),
        (Isolation.RESTORED, Health.SOON, "until 2026-11-27 08:00 UTC: a route"),
        (Isolation.BREACHED, Health.BAD, "since 2026-11-27 08:00 UTC: a route"),
        (Isolation.NOT_ENFORCED, Health.SOON, "dry run"),
    ],
)
def test_the_no_internet_guard(isolation: Isolation, health: Health, said: str) -> None:
    """What holds is good, what was broken is worth a look, what is broken is bad."""
    found = about_isolation(isolation, ["a route"], datetime(2026, 11, 27, 8, 0, tzinfo=UTC))

    assert found.health is health
    assert said in found.seen
    assert bool(found.remedy) == (health is not Health.GOOD)
