"""Drivers are found by the name under which a package brings them."""

from importlib.metadata import EntryPoint

import pytest

from edge_agent.adapters.installed_drivers import GROUP, driver_among, driver_names, load_driver
from edge_agent.errors import DriverUnusableError, UnknownDriverError

GOOD = "edge_agent.drivers.mass_storage:DRIVER"


def point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name=name, value=value, group=GROUP)


def test_ours_are_installed() -> None:
    """The three drivers of the product are there, each under its own name."""
    names = ("line-protocol-1", "mass-storage", "socket-frames")

    assert set(names) <= set(driver_names())
    assert [load_driver(name).name for name in names] == list(names)


def test_an_unknown_name_lists_those_that_there_are() -> None:
    """Whoever mistyped sees what would have been right."""
    with pytest.raises(UnknownDriverError) as caught:
        load_driver("mass-storrage")

    assert set(caught.value.installed) >= {"line-protocol-1", "mass-storage", "socket-frames"}
    assert "mass-storage" in str(caught.value)


def test_without_any_driver_the_error_says_so() -> None:
    """An empty list is a word, not nothing."""
    with pytest.raises(UnknownDriverError, match="none"):
        driver_among((), "mass-storage")


def test_the_same_one_twice_is_one() -> None:
    """An editable installation may be listed twice."""
    assert driver_among([point("mass-storage", GOOD)] * 2, "mass-storage").baud is None


@pytest.mark.parametrize(
    "points",
    [
        [point("x", "no.such.module:DRIVER")],
        [point("x", "edge_agent.drivers.mass_storage:NOTHING")],
        [point("x", "edge_agent.drivers.mass_storage:MassStorageSession")],
        [point("x", GOOD)],
        [point("x", GOOD), point("x", "edge_agent.drivers.line_protocol:DRIVER")],
    ],
    ids=["no module", "no object", "no driver", "another name", "two packages"],
)
def test_what_is_no_driver_is_unusable(points: list[EntryPoint]) -> None:
    """It is named, and nothing else is taken in its place."""
    with pytest.raises(DriverUnusableError, match="x"):
        driver_among(points, "x")
