"""Where bags stand."""

from datetime import date
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.identifiers import DockingId, ManifestId, RecordingId
from server_agent.archive.layout import (
    DOCKING,
    bag_path,
    docking_bag_path,
    incoming_path,
    is_misplaced,
)

ONE = "01a207be-9420-7315-926a-a37e007be06d"
OTHER = "01a207be-9420-766d-ba5a-34422cded972"
DAY = date(2026, 11, 21)
DAYS = st.dates(min_value=date(1980, 1, 1), max_value=date(2107, 12, 31))


def test_recording_without_a_case() -> None:
    """A recording that is not filed yet waits below its day."""
    path = bag_path(DAY, None, RecordingId(ONE))

    assert path == PurePosixPath("2026/11/21/_unfiled") / ONE


def test_recording_of_a_case() -> None:
    """A filed recording stands in its case's folder."""
    assert bag_path(DAY, "稽查2026-17", RecordingId(ONE)).parts[3:] == ("稽查2026-17", ONE)


@pytest.mark.parametrize("case", ["_unfiled", "_docking", "..", "a/b", "", "a\n", ".x"])
def test_case_that_is_no_folder(case: str) -> None:
    """A case's folder is never one of ours, and never leads out of its day."""
    with pytest.raises(ValueError, match="folder name"):
        bag_path(DAY, case, RecordingId(ONE))


def test_other_files_of_a_docking() -> None:
    """Each part of a large docking has a bag of its own."""
    paths = {docking_bag_path(DAY, DockingId(ONE), part) for part in (1, 2)}

    assert {path.name for path in paths} == {f"{ONE}-1", f"{ONE}-2"}
    assert {path.parts[:4] for path in paths} == {("2026", "11", "21", DOCKING)}


@given(days=st.lists(DAYS, unique=True, min_size=2))
def test_order_of_paths_is_order_of_days(days: list[date]) -> None:
    """Sorted by name, the archive is sorted by day."""
    paths = [str(bag_path(day, None, RecordingId(ONE))) for day in sorted(days)]

    assert paths == sorted(paths)


@pytest.mark.parametrize("group", ["..", "data", "", f"{ONE}/x", "_unfiled"])
def test_group_that_is_none(group: str) -> None:
    """What is being filled never stands outside its manifest's folder."""
    with pytest.raises(ValueError, match="group"):
        incoming_path(ManifestId(OTHER), group)


@given(day=DAYS, other=DAYS)
def test_bag_in_its_place(day: date, other: date) -> None:
    """A bag is out of place below another day, and nowhere else."""
    location = ("/", "archive", *bag_path(day, None, RecordingId(ONE)).parts)

    assert is_misplaced(location, bag_name=ONE, day=other) is (day != other)


@pytest.mark.parametrize("folder", ["evidence-17", "bag", "2026"])
def test_copy_of_a_bag(folder: str) -> None:
    """A copy may stand anywhere under a name of its own."""
    assert not is_misplaced(("/", "media", folder), bag_name=ONE, day=DAY)


@pytest.mark.parametrize("name", [OTHER, f"{ONE}-1"])
def test_bag_in_the_place_of_another(name: str) -> None:
    """A bag under another bag's name is out of place, wherever that is."""
    assert is_misplaced(("/", "media", name), bag_name=ONE, day=DAY)
