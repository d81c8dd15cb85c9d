import asyncio
import contextlib
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import msgspec
import pytest

from edge_agent.adapters.presence import Arrived, Left
from edge_agent.adapters.usb_presence import FLAPPING, UsbPace, UsbPresence, kernel_hints
from edge_agent.adapters.usb_tree import BlockDevice, UsbTree
from edge_agent.errors import SourceVanishedError
from edge_agent.ingest.volume import EntryKind
from edge_agent.mounting.errors import MountRefusedError, MountServiceError
from edge_agent.mounting.messages import MountedVolume, Reply
from edge_agent.mounting.superblock import FileSystemKind
from edge_agent.one_thread import OneThread
from tests.simulators.sysfs import FakeSysfs

SDA = BlockDevice(name="sda", number=(8, 0), size_bytes=1 << 20)
SDA1 = BlockDevice(name="sda1", number=(8, 1), size_bytes=1 << 19)
SDB = BlockDevice(name="sdb", number=(8, 16), size_bytes=1 << 20)
REFUSED = Reply(code="E-MNT-103", text="no")
Changes = AsyncGenerator[Arrived | Left, None]


@dataclass
class Mounter:
    """Mounts one folder that stands for a volume, or does what it is told to do instead."""

    folder: Path
    said: list[str] = field(default_factory=list)
    answers: list[Reply | MountServiceError] = field(default_factory=list)

    def mount(self) -> Reply:
        self.said.append("mount")
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, MountServiceError):
            raise answer
        if answer is not None:
            return answer
        (self.folder / "1").mkdir(parents=True, exist_ok=True)
        (self.folder / "1/clip").write_bytes(b"x")
        volume = MountedVolume(
            name="1", file_system=FileSystemKind.FAT, volume_id="", label="", size_bytes=1
        )
        return Reply(volumes=(volume,))

    def detach(self) -> Reply:
        self.said.append("detach")
        return Reply()


@dataclass
class Bay:
    sysfs: FakeSysfs
    mounter: Mounter
    presence: UsbPresence
    changes: Changes
    hint: list[asyncio.Event]

    def plug(self, port: str = "1-1", disk: BlockDevice = SDA) -> None:
        self.sysfs.plug(port)
        self.sysfs.add_disk(port, disk)

    async def next(self) -> Arrived | Left:
        return await asyncio.wait_for(anext(self.changes), timeout=60)


def bay_with(tmp_path: Path, pace: UsbPace) -> Bay:
    sysfs, mounter = FakeSysfs(tmp_path / "sys"), Mounter(tmp_path / "mounted")
    hints: list[asyncio.Event] = []

    @contextlib.contextmanager
    def remember(hint: asyncio.Event) -> Iterator[None]:
        hints.append(hint)
        yield

    presence = UsbPresence(
        ["1-1", "2-1"],
        OneThread("bay-1"),
        tree=UsbTree(sysfs.root),
        client=mounter,
        folder=mounter.folder,
        pace=pace,
        hints=remember,
    )
    return Bay(sysfs, mounter, presence, cast("Changes", presence.changes()), hints)


@pytest.fixture
async def bay(tmp_path: Path) -> AsyncIterator[Bay]:
    """A bay that never waits long."""
    made = bay_with(tmp_path, UsbPace(poll_s=0.01, settle_s=0, retry_s=0, flaps=100))
    yield made
    await made.changes.aclose()


async def test_a_recorder_comes_and_goes(bay: Bay) -> None:
    """It is mounted before it counts as there, and detached before it counts as gone."""
    for port in ("1-1", "2-1"):
        bay.plug(port)
        assert await bay.next() == Arrived()
        assert bay.mounter.said[-1] == "mount"
        with bay.presence.mount() as volume:
            assert [entry.path for entry in volume.entries()] == [b"clip"]
        bay.sysfs.pull(port)
        assert await bay.next() == Left()
        assert bay.mounter.said[-1] == "detach"
        with pytest.raises(SourceVanishedError):
            bay.presence.mount()


async def test_a_recorder_that_is_there_at_the_start(bay: Bay) -> None:
    """Nobody has to plug it in again after a power cut."""
    bay.plug()

    assert await bay.next() == Arrived()


async def test_a_device_without_a_disk_is_waited_for(bay: Bay) -> None:
    """The recorder shows its serial port first and its disk later, on the same path."""
    bay.sysfs.plug("1-1")
    arriving = asyncio.ensure_future(bay.next())
    await asyncio.wait([arriving], timeout=0.1)
    assert not arriving.done()

    bay.sysfs.add_disk("1-1", SDA)

    assert await arriving == Arrived()


async def test_another_disk_under_the_same_name(bay: Bay) -> None:
    """Pulled and replaced between two looks: the first one has left, the next one arrives."""
    bay.plug()
    await bay.next()
    bay.sysfs.pull("1-1")
    bay.plug()

    assert [await bay.next(), await bay.next()] == [Left(), Arrived()]


async def test_a_volume_that_cannot_be_mounted_is_tried_again(bay: Bay) -> None:
    """The bay says why; when it is well, the recorder arrives anew."""
    bay.mounter.answers = [REFUSED, MountServiceError("none"), REFUSED]
    bay.plug()

    assert await bay.next() == Arrived(problem=("E-MNT-103", "no"))
    assert [await bay.next(), await bay.next()] == [Left(), Arrived()]
    assert bay.mounter.said == ["mount"] * 4


async def test_a_recorder_that_is_no_recorder_is_told(bay: Bay) -> None:
    """More partitions than are read: the bay has the code, and nothing is there to be read."""
    bay.mounter.answers = [Reply(code="E-MNT-114", text="many")] * 10_000
    bay.plug()

    assert await bay.next() == Arrived(problem=("E-MNT-114", "many"))
    with pytest.raises(SourceVanishedError):
        bay.presence.mount()


async def test_a_volume_that_is_left_out_is_in_the_listing(bay: Bay) -> None:
    """A recorder of which one volume cannot be read is not taken for one that has no other."""
    reply = bay.mounter.mount()
    bay.mounter.answers = [msgspec.structs.replace(reply, left_out=1, text="sda2: what is it")]
    bay.plug()

    assert await bay.next() == Arrived()
    with bay.presence.mount() as volume:
        found = {entry.path: entry.kind for entry in volume.entries()}
    assert found == {b"clip": EntryKind.FILE, b"volume-2": EntryKind.UNREADABLE_DIRECTORY}


async def test_a_recorder_that_leaves_unmounted(bay: Bay) -> None:
    """Pulled while its volume could not be mounted, it has left."""
    bay.mounter.answers = [REFUSED] * 10_000
    bay.plug()
    await bay.next()
    bay.sysfs.pull("1-1")

    assert await bay.next() == Left()


async def test_without_edge_mount_the_bay_says_so(bay: Bay) -> None:
    """A service that is down is a problem with a code, and is asked again."""
    bay.mounter.answers = [MountServiceError("refused")]
    bay.plug()

    assert await bay.next() == Arrived(problem=("E-MNT-107", "refused"))


async def test_a_connector_that_flaps_is_not_mounted(tmp_path: Path) -> None:
    """What comes again and again is told, and mounted once it has held for a while."""
    pace = UsbPace(poll_s=0.01, settle_s=0, flaps=3, flap_window_s=1_000, calm_s=0.05)
    bay = bay_with(tmp_path, pace)
    for _ in range(2):
        bay.plug()
        assert await bay.next() == Arrived()
        bay.sysfs.pull("1-1")
        assert await bay.next() == Left()
    bay.mounter.said.clear()
    bay.plug()

    flapping = await bay.next()

    assert isinstance(flapping, Arrived)
    assert flapping.problem is not None
    assert flapping.problem[0] == FLAPPING
    assert not bay.mounter.said
    assert [await bay.next(), await bay.next()] == [Left(), Arrived()]
    await bay.changes.aclose()


async def test_a_hint_makes_the_next_look_come_sooner(tmp_path: Path) -> None:
    """Without any polling, the kernel's word is enough."""
    bay = bay_with(tmp_path, UsbPace(poll_s=10_000, settle_s=0))
    arriving = asyncio.ensure_future(bay.next())
    await asyncio.wait([arriving], timeout=0.1)
    bay.plug()
    bay.hint[0].set()

    assert await arriving == Arrived()
    await bay.changes.aclose()


async def test_edge_mount_that_was_started_anew(bay: Bay) -> None:
    """It takes all mounts away: the next try to read the recorder has it mounted again."""
    bay.plug()
    await bay.next()
    shutil.rmtree(bay.mounter.folder)

    await bay.presence.ready(lambda _: None)

    with bay.presence.mount() as volume:
        assert [entry.path for entry in volume.entries()] == [b"clip"]
    assert bay.mounter.said == ["mount", "mount"]


async def test_edge_mount_that_was_started_anew_and_cannot(bay: Bay) -> None:
    """What it says then is what the bay shows; what is mounted is not mounted again."""
    bay.plug()
    await bay.next()
    await bay.presence.ready(lambda _: None)
    assert bay.mounter.said == ["mount"]
    shutil.rmtree(bay.mounter.folder)
    bay.mounter.answers = [REFUSED]

    with pytest.raises(MountRefusedError, match="E-MNT-103"):
        await bay.presence.ready(lambda _: None)


async def test_closed_it_leaves_nothing_mounted(bay: Bay) -> None:
    """When the agent stops, the recorder may be pulled."""
    bay.plug()
    await bay.next()
    await bay.changes.aclose()

    assert bay.mounter.said[-1] == "detach"


async def test_the_kernels_word_is_heard() -> None:
    """Its socket can be opened by anybody, and is closed again."""
    with kernel_hints(asyncio.Event()):
        pass
