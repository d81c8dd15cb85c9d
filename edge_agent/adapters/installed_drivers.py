"""The recorder drivers that are installed on this dock, by name.

Any package can bring one: an entry point of the group ``bayward.recorder_drivers`` whose name is
the driver's and whose object is a `RecorderDriver`.
"""

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from edge_agent.drivers.driver import RecorderDriver
from edge_agent.errors import DriverUnusableError, UnknownDriverError

GROUP: Final = "bayward.recorder_drivers"


def driver_names() -> tuple[str, ...]:
    """Return the names of all drivers, sorted; none of them is loaded."""
    return _names(entry_points(group=GROUP))


def load_driver(name: str) -> RecorderDriver:
    """Return the driver of this name.

    Raises:
        UnknownDriverError: There is none; those that there are, are named.
        DriverUnusableError: It cannot be loaded, is no driver, has another name than its entry
            point, or two packages bring one of this name.
    """
    return driver_among(entry_points(group=GROUP), name)


def driver_among(installed: Iterable[EntryPoint], name: str) -> RecorderDriver:
    """Return the driver of this name among *installed*; raises what `load_driver` does."""
    points = tuple(installed)
    # One installation may be listed twice, when it is editable.
    found = {point.value for point in points if point.name == name}
    if not found:
        raise UnknownDriverError(name, installed=_names(points))
    if len(found) > 1:
        raise DriverUnusableError(f"{name} is brought by {', '.join(sorted(found))}")
    point = next(point for point in points if point.name == name)
    try:
        driver = point.load()
    except Exception as error:  # whatever a vendor's module does when it is imported
        raise DriverUnusableError(f"{name}: {type(error).__name__}: {error}") from error
    if not isinstance(driver, RecorderDriver) or driver.name != name:
        raise DriverUnusableError(f"{name}: {point.value} is no driver of this name")
    return driver


def _names(points: Iterable[EntryPoint]) -> tuple[str, ...]:
    return tuple(sorted({point.name for point in points}))
