"""Serial port and volume as one recorder, with a talk and volumes that do as they are told."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from edge_agent.adapters.presence import Arrived, Left
from edge_agent.adapters.talking_presence import TalkingPace, TalkingPresence
from edge_agent.drivers.dialog import StepReport
from edge_agent.errors import SourceVanishedError, VolumeMissingError
from edge_agent.ingest.told import Told
from edge_agent.ingest.volume import Volume
from edge_agent.one_thread import OneThread

TOLD = Told(driver="line-protocol-1", serial="0000017")
PROBLEM = ("E-MNT-101", "no file system that recorders use")
Changes = AsyncGenerator[Arrived | Left, None]


@dataclass
class Volumes:
    """A presence that says what it is given."""

    said: asyncio.Queue[Arrived | Left] = field(default_factory=asyncio.Queue)
    is_readied: bool = False

    async def changes(self) -> AsyncIterator[Arrived | Left]:
        while True:
            yield await self.said.get()

    async def remember_content(self) -> None:
        """There is none."""

    async def ready(self, report: Callable[[StepReport], None]) -> None:
        del report
        self.is_readied = True

    def mount(
        self, *, read_limit_bytes_s: int | None = None
    ) -> contextlib.AbstractContextManager[Volume]:
        raise AssertionError(f"never mounted ({read_limit_bytes_s})")


@dataclass
class Talk:
    """Holds no talk, and counts them."""

    on_held: Callable[[], None] = lambda: None
    held: list[Path] = field(default_factory=list)

    async def hold(self, port: Path, report: Callable[[StepReport], None]) -> Told:
        del report
        self.held.append(port)
        self.on_held()
        return TOLD


@dataclass
class Bay:
    port: Path
    volumes: Volumes
    talk: Talk
    presence: TalkingPresence
    seen: asyncio.Queue[Arrived | Left] = field(default_factory=asyncio.Queue)

    looked: asyncio.Queue[None] = field(default_factory=asyncio.Queue)

    async def after_looks(self, count: int = 3) -> None:
        """Return when the serial port has been looked for so often from now on."""
        while not self.looked.empty():
            self.looked.get_nowait()
        for _ in range(count):
            await asyncio.wait_for(self.looked.get(), timeout=60)

    async def look_on(self) -> None:
        """Take what changes, all the time, as a bay does."""
        changes = cast("Changes", self.presence.changes())
        async with contextlib.aclosing(changes):
            async for change in changes:
                self.seen.put_nowait(change)

    async def next(self) -> Arrived | Left:
        return await asyncio.wait_for(self.seen.get(), timeout=60)


@pytest.fixture
async def bay(tmp_path: Path) -> AsyncIterator[Bay]:
    volumes, talk, loop = Volumes(), Talk(), asyncio.get_running_loop()
    looked: asyncio.Queue[None] = asyncio.Queue()

    def find_port() -> Path:
        loop.call_soon_threadsafe(looked.put_nowait, None)
        return tmp_path / "tty"

    presence = TalkingPresence(
        volumes,
        find_port,
        talk,
        OneThread("bay-1"),
        pace=TalkingPace(poll_s=0.01, volume_s=60),
    )
    made = Bay(tmp_path / "tty", volumes, talk, presence, looked=looked)
    looking = asyncio.create_task(made.look_on())
    yield made
    looking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await looking


async def test_a_port_alone_is_a_recorder(bay: Bay) -> None:
    """It is there before its volume is, and gone with its port."""
    bay.port.touch()
    assert await bay.next() == Arrived()
    bay.port.unlink()
    assert await bay.next() == Left()


async def test_a_volume_alone_is_a_recorder(bay: Bay) -> None:
    """It was a disk already: nobody is asked, and the volume itself is made ready."""
    bay.volumes.said.put_nowait(Arrived())
    assert await bay.next() == Arrived()

    assert await bay.presence.ready(lambda _: None) is None
    assert not bay.talk.held
    assert bay.volumes.is_readied
    bay.volumes.said.put_nowait(Left())
    assert await bay.next() == Left()


async def test_without_either_there_is_nothing_to_make_ready(bay: Bay) -> None:
    """The bay learns that the recorder has left."""
    with pytest.raises(SourceVanishedError):
        await bay.presence.ready(lambda _: None)


async def test_what_became_a_disk_is_not_asked_again(bay: Bay) -> None:
    """Its volume gone and its port still there, it has left until it is plugged in anew."""
    bay.port.touch()
    await bay.next()
    bay.talk.on_held = lambda: bay.volumes.said.put_nowait(Arrived())
    assert await bay.presence.ready(lambda _: None) == TOLD
    await bay.after_looks()

    bay.volumes.said.put_nowait(Left())
    assert await bay.next() == Left()
    await bay.after_looks()
    assert bay.seen.empty()
    bay.port.unlink()
    bay.port.touch()

    assert await bay.next() == Arrived()


async def test_a_volume_that_cannot_be_mounted_ends_the_wait(bay: Bay) -> None:
    """What it says is told at once, not after half a minute."""
    bay.port.touch()
    await bay.next()
    bay.talk.on_held = lambda: bay.volumes.said.put_nowait(Arrived(problem=PROBLEM))

    with pytest.raises(VolumeMissingError, match="E-MNT-101"):
        await bay.presence.ready(lambda _: None)
