"""What a docking takes when the dock's disk is nearly full."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from edge_agent.ports import NO_ROOM, WAITS_FOR_ROOM, OutcomeKind
from protocol.manifest import IncompleteReason
from tests.simulators.docking_site import (
    MORNING,
    DockingSite,
    clip_path,
    mtime_ns,
    noise,
    open_site,
    recording,
)
from tests.simulators.memory_staging import MemoryStaging
from tests.simulators.memory_volume import MemoryFile, MemoryVolume, Stored

LATER = MORNING + timedelta(hours=3)
MARKED = clip_path(LATER, 9, mark="IMP")
MARKED_FILE = {
    MARKED: Stored(content=noise(MARKED, 1_000), mtime_ns=mtime_ns(LATER + timedelta(seconds=12)))
}


class Gate(threading.Event):
    """Holds back who reads, and tells that somebody is there."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.reached.set()
        return super().wait(timeout)


@pytest.fixture
def staging() -> MemoryStaging:
    return MemoryStaging(room_bytes=10_000)


@pytest.fixture
async def site(tmp_path: Path, staging: MemoryStaging) -> AsyncIterator[DockingSite]:
    async with open_site(tmp_path / "journal.sqlite", staging) as site:
        yield site


async def test_between_the_marks_only_marked_clips_are_taken(
    site: DockingSite, staging: MemoryStaging
) -> None:
    """The bay waits, and says for how much; what an officer marked is safe already."""
    site.allotments.kept_for_marked_bytes = 9_500
    volume = MemoryVolume(files=recording(clips=2) | MARKED_FILE)

    waits = await site.dock(volume)
    site.allotments.kept_for_marked_bytes = 0
    again = await site.dock(volume)

    first, _ = await site.manifests()
    assert (waits.kind, waits.code) == (OutcomeKind.ATTENTION, WAITS_FOR_ROOM)
    assert waits.text == "2 files wait for room: 2000 bytes"
    assert [file.name.path.encode() for file in first.staged_files()] == [MARKED]
    assert {one.reason for one in first.incomplete} == {IncompleteReason.NO_SPACE}
    assert again.kind is OutcomeKind.SEALED
    assert len(staging.files) == 3


async def test_no_room_even_for_marked_clips_is_said(
    site: DockingSite, staging: MemoryStaging
) -> None:
    """Below the lower mark nothing is taken or begun, and the code is another one."""
    site.allotments.kept_for_marked_bytes = 5_000
    staging.room_bytes = 900
    volume = MemoryVolume(files=MARKED_FILE)

    outcome = await site.dock(volume)

    assert (outcome.kind, outcome.code) == (OutcomeKind.ATTENTION, NO_ROOM)
    assert not staging.copies
    assert not volume.read_bytes


async def test_who_must_wait_takes_marked_clips_only(
    site: DockingSite, staging: MemoryStaging
) -> None:
    """However much room there is: others have waited longer for it."""
    site.only_marked = True

    outcome = await site.dock(MemoryVolume(files=recording() | MARKED_FILE))

    assert outcome.waits_for is not None
    assert len(staging.files) == 1


async def test_too_few_inodes_are_no_room(site: DockingSite, staging: MemoryStaging) -> None:
    """A disk that takes no more files is full, whatever its free bytes, and that is said."""
    staging.room_files = 1

    outcome = await site.dock(MemoryVolume(files=recording() | recording(LATER, first=2)))

    assert (outcome.kind, outcome.code) == (OutcomeKind.ATTENTION, NO_ROOM)
    assert outcome.text.endswith("the disk has too few inodes for 1 of them")
    assert len(staging.files) == 1


async def test_two_dockings_do_not_count_on_the_same_room(
    site: DockingSite, staging: MemoryStaging
) -> None:
    """Docked at once, the second takes what the first was not given, and neither runs out."""
    staging.room_bytes = 3_500
    volumes = [
        MemoryVolume(files=recording(clips=2, serial=serial)) for serial in ("0000017", "0000018")
    ]

    outcomes = await asyncio.gather(
        *(site.dock(volume, bay) for bay, volume in enumerate(volumes, 1))
    )

    assert sorted(one.kind.value for one in outcomes) == ["attention", "sealed"]
    assert {one.text for one in outcomes} == {"", "2 files wait for room: 2000 bytes"}
    assert len(staging.copies) == len(staging.files) == 2


async def test_what_is_being_copied_is_not_counted_twice(
    site: DockingSite, staging: MemoryStaging
) -> None:
    """What the disk has set aside for a copy under way is no part of what was given any more."""
    gate = Gate()
    docking = asyncio.create_task(site.dock(MemoryVolume(files=recording(), gate=gate)))
    try:
        assert await asyncio.to_thread(gate.reached.wait, 60)
        assert staging.copies
        room = await site.allotments.room(staging)
        assert room.free_bytes == staging.free_bytes()
    finally:
        gate.set()
        await docking


@dataclass(slots=True, kw_only=True)
class SlowVolume(MemoryVolume):
    """Takes its time to open a clip."""

    opening: threading.Event
    go_on: threading.Event

    @contextlib.contextmanager
    def open(self, path: bytes) -> Iterator[MemoryFile]:
        if path.endswith(b".MP4"):
            self.opening.set()
            self.go_on.wait(60)
        # Not super(): that knows no class that slots made anew.
        with MemoryVolume.open(self, path) as opened:
            yield opened


async def test_what_was_given_is_kept_until_the_disk_counts_it(
    site: DockingSite, staging: MemoryStaging
) -> None:
    """A recorder that is slow to begin keeps its room, whoever docks meanwhile."""
    staging.room_bytes = 1_500
    slow = SlowVolume(files=recording(), opening=threading.Event(), go_on=threading.Event())
    first = asyncio.create_task(site.dock(slow, 1))
    assert await asyncio.to_thread(slow.opening.wait, 60)

    second = await site.dock(MemoryVolume(files=recording(serial="0000018")), 2)

    slow.go_on.set()
    assert (await first).kind is OutcomeKind.SEALED
    assert second.code == NO_ROOM


async def test_what_the_disk_refuses_is_waited_for(
    site: DockingSite, staging: MemoryStaging
) -> None:
    """A disk that seemed to have room, a quota for one, is tried again when there is some."""
    staging.unannounced_bytes = 9_500

    outcome = await site.dock(MemoryVolume(files=recording()))

    assert (outcome.code, outcome.lacking_bytes) == (NO_ROOM, 0)
    assert outcome.waits_for is not None
    assert outcome.waits_for.size_bytes == 1_000
