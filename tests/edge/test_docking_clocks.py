"""Clocks that are wrong, on either side, stop nothing and change no order of the dock's own."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.adapters.journal import Journal
from edge_agent.ports import OutcomeKind
from protocol.findings import FindingCode
from tests.simulators.docking_site import (
    DOCKED_AT,
    DockingSite,
    claimed,
    open_site,
    recorder_time,
    recording,
)
from tests.simulators.memory_volume import MemoryVolume

_INT64_MAX = (1 << 63) - 1


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[DockingSite]:
    async with Journal.open(tmp_path / "journal.sqlite") as journal:
        yield DockingSite(journal=journal)


@pytest.mark.parametrize("year", [1980, 2107])
async def test_a_recorder_in_another_century(site: DockingSite, year: int) -> None:
    """Its clips are claimed in the order of their numbers; the finding has both clocks' times."""
    files = recording(recorder_time(year, 1, 1), clips=3)

    outcome = await site.dock(MemoryVolume(files=files))

    assert outcome.kind is OutcomeKind.SEALED
    [manifest] = await site.manifests()
    clips = [clip for one in manifest.recordings for clip in one.clips]
    assert [clip.sequence for clip in clips] == [1, 2, 3]
    assert [clip.file.mtime_ns for clip in clips] == [one.mtime_ns for one in files.values()]
    found = [one.detail for one in manifest.findings if one.code is FindingCode.IMPLAUSIBLE_TIME]
    assert len(found) == len(files)
    assert all(str(year) in detail and "dock's clock said 2026-" in detail for detail in found)


async def test_a_recorder_that_is_ahead_of_us(site: DockingSite) -> None:
    """A clip of the day after tomorrow is claimed, with its own time and ours."""
    ahead = recording(recorder_time(2026, 12, 25))

    await site.dock(MemoryVolume(files=ahead))

    [manifest] = await site.manifests()
    assert manifest.docked_at == DOCKED_AT
    [clip] = manifest.recordings[0].clips
    assert clip.started == recorder_time(2026, 12, 25)
    assert FindingCode.IMPLAUSIBLE_TIME in {one.code for one in manifest.findings}
    # The recorder's clock itself cannot be read: no drift is claimed that was not measured.
    assert (manifest.clock.recorder_time, manifest.clock.drift_ms) == (None, None)


@settings(max_examples=30)
@given(
    times=st.lists(st.integers(-_INT64_MAX, _INT64_MAX), min_size=1, max_size=4),
    docked_at=st.datetimes(datetime(1990, 1, 1), datetime(2200, 1, 1)),  # noqa: DTZ001 -- see below
)
async def test_no_time_stops_a_docking(times: list[int], docked_at: datetime) -> None:
    """Whatever the files' times and the dock's clock are, each byte is claimed with its time."""
    clips = list(recording(clips=len(times)).items())
    files = {path: replace(one, mtime_ns=at) for (path, one), at in zip(clips, times, strict=True)}
    async with open_site(Path(":memory:")) as site:
        site.now = docked_at.replace(tzinfo=UTC)

        outcome = await site.dock(MemoryVolume(files=files))

        assert outcome.kind is OutcomeKind.SEALED
        manifests = await site.manifests()
        assert len(claimed(manifests)) == len(files)
        found = {file.mtime_ns for one in manifests for file in one.staged_files()}
        assert found == set(times)


async def test_a_dock_whose_clock_jumps(site: DockingSite) -> None:
    """Set back by years between two dockings, the chain goes on by its numbers."""
    first, second = recording(), recording(recorder_time(2026, 11, 21, 12), first=9)
    for now, files in ((DOCKED_AT, first), (DOCKED_AT - timedelta(days=4_000), second)):
        site.now = now
        outcome = await site.dock(MemoryVolume(files=files))
        assert outcome.kind is OutcomeKind.SEALED

    manifests = await site.manifests()
    assert [one.sequence for one in manifests] == [1, 2]
    assert len(claimed(manifests)) == len(first | second)


async def test_a_clock_that_jumps_during_a_docking(site: DockingSite) -> None:
    """Both times are kept as the clock gave them; nothing is refused, here or at the archive."""
    jumps: Iterator[datetime] = iter([DOCKED_AT])
    back = DOCKED_AT - timedelta(days=400)
    ports = replace(site.ports, clock=lambda: next(jumps, back))

    outcome = await site.dock_with(ports, MemoryVolume(files=recording()))

    assert outcome.kind is OutcomeKind.SEALED
    [manifest] = await site.manifests()
    assert manifest.docked_at == DOCKED_AT
    assert manifest.ended_at == back
