"""Bays that wait for room on the dock's disk."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from edge_agent.adapters.room_queue import RoomQueue
from edge_agent.ingest.room import Need, Room
from protocol.identifiers import BayNumber

ONE, TWO, THREE = BayNumber(1), BayNumber(2), BayNumber(3)


@dataclass(slots=True)
class Disk:
    """Its room, who looked at it, and the bays that wait for it."""

    free_bytes: int = 0
    looks: asyncio.Condition = field(default_factory=asyncio.Condition)
    looked: int = 0
    gone_on: list[BayNumber] = field(default_factory=list)
    waiting: dict[BayNumber, asyncio.Task[None]] = field(default_factory=dict)
    queue: RoomQueue = field(init=False)

    def __post_init__(self) -> None:
        self.queue = RoomQueue(self.look)

    async def look(self) -> Room:
        async with self.looks:
            self.looked += 1
            self.looks.notify_all()
        return Room(free_bytes=self.free_bytes)

    async def wait(self, bay: BayNumber, size_bytes: int, *, marked: bool = False) -> None:
        """Let a bay wait; return when it has looked in vain, or goes on."""
        need = Need(size_bytes=size_bytes, files=1, marked=marked)

        async def turn() -> None:
            await self.queue.turn(bay, need)
            self.gone_on.append(bay)

        looked = self.looked
        self.waiting[bay] = asyncio.create_task(turn())
        async with self.looks:
            await self.looks.wait_for(lambda: self.looked > looked)

    async def free(self, free_bytes: int) -> None:
        """Let the disk have so much room; return when all who wait have looked."""
        self.free_bytes = free_bytes
        await self.after(self.queue.room_freed)

    async def after(self, happens: Callable[[], None]) -> None:
        """Let something happen that wakes them all; return when they have looked."""
        waiting = sum(not task.done() for task in self.waiting.values())
        looked = self.looked
        happens()
        async with self.looks:
            await self.looks.wait_for(lambda: self.looked >= looked + waiting)


@pytest.fixture
async def disk() -> AsyncIterator[Disk]:
    disk = Disk()
    yield disk
    for task in disk.waiting.values():
        task.cancel()
    await asyncio.gather(*disk.waiting.values(), return_exceptions=True)


async def test_freed_room_lets_the_longest_waiting_go_on(disk: Disk) -> None:
    """One at a time: the next one goes on when the first one has been given its room."""
    await disk.wait(TWO, 10)
    await disk.wait(ONE, 10)
    await disk.free(100)
    first = list(disk.gone_on)
    await disk.after(lambda: disk.queue.has_room(TWO))

    assert first == [TWO]
    assert disk.gone_on == [TWO, ONE]


async def test_marked_recordings_go_first(disk: Disk) -> None:
    """Who waits with a marked recording is before all others."""
    await disk.wait(ONE, 10)
    await disk.wait(TWO, 10, marked=True)
    await disk.free(100)

    assert disk.gone_on == [TWO]


async def test_who_needs_more_than_there_is_holds_up_nobody(disk: Disk) -> None:
    """A recording that is larger than what was freed waits on; the one behind it goes on."""
    await disk.wait(ONE, 1_000)
    await disk.wait(TWO, 10)
    await disk.free(100)

    assert disk.gone_on == [TWO]


async def test_a_newcomer_leaves_the_rest_to_who_waits(disk: Disk) -> None:
    """While others wait, a new docking takes marked recordings only; who goes on takes all."""
    before = disk.queue.must_wait(THREE)
    await disk.wait(ONE, 1_000)
    meanwhile = disk.queue.must_wait(THREE), disk.queue.must_wait(ONE)
    await disk.wait(TWO, 10)
    await disk.free(100)

    assert not before
    assert meanwhile == (True, False)
    assert not disk.queue.must_wait(TWO)


async def test_a_place_is_kept_until_the_recorder_leaves(disk: Disk) -> None:
    """Who got a part and waits for more is still before who came later."""
    await disk.wait(ONE, 10)
    await disk.wait(TWO, 10)
    await disk.free(10)
    disk.free_bytes = 0
    await disk.after(lambda: disk.queue.has_room(ONE))
    await disk.wait(ONE, 10)
    await disk.free(10)
    again = list(disk.gone_on)
    disk.queue.leave(ONE)
    disk.free_bytes = 0
    await disk.wait(ONE, 10)
    await disk.free(10)

    assert again == [ONE, ONE]
    assert disk.gone_on == [ONE, ONE, TWO]


async def test_room_that_others_made_is_noticed(disk: Disk) -> None:
    """Nobody tells when an administrator makes room: the disk is looked at again and again."""
    disk.queue = RoomQueue(disk.look, look_pause_s=0.001)
    await disk.wait(ONE, 10)
    disk.free_bytes = 10
    await disk.waiting[ONE]

    assert disk.gone_on == [ONE]
