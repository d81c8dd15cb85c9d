import asyncio
import contextlib
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import pytest

from edge_agent.adapters import directory_presence
from edge_agent.adapters.bay_board import BayBoard
from edge_agent.adapters.bay_face import empty_bay
from edge_agent.adapters.bay_supervisor import (
    DISK_FALTERED,
    BayParts,
    BaySettings,
    BaySupervisor,
    RetryPace,
)
from edge_agent.adapters.directory_presence import DirectoryPresence
from edge_agent.adapters.eraser import Eraser
from edge_agent.adapters.notice_store import Notice, NoticeStore
from edge_agent.adapters.outbox_store import OutboxStore
from edge_agent.adapters.presence import Arrived, Left
from edge_agent.adapters.pulse import Pulse
from edge_agent.adapters.registry_book import RegistryBook
from edge_agent.adapters.room_queue import RoomQueue
from edge_agent.adapters.task_keeper import PART_FAILED
from edge_agent.adapters.vitals import Vitals
from edge_agent.drivers.dialog import StepReport
from edge_agent.ingest.volume import Volume
from protocol.envelope import keyring
from protocol.identifiers import AlertId, BayNumber
from protocol.messages import Alert, BayMessage, BayState
from protocol.topics import Channel, of_dock
from tests.simulators.archive import Archive
from tests.simulators.bay_folders import CLIP_BYTES, dock_recorder, pull_recorder
from tests.simulators.docking_site import REGISTRY, DockingSite, open_site
from tests.simulators.erasures import FakeEraseClient
from tests.simulators.memory_staging import MemoryStaging
from tests.simulators.sealed_manifests import ARCHIVE_KEY, DOCK, DOCK_KEY
from tests.simulators.tus_archive import TusArchive

BAY: Final = BayNumber(1)
TOPIC: Final = of_dock(DOCK, Channel.RECEIPTS)
# Tried again at once, so that no test waits.
PACE: Final = RetryPace(first_s=0, longest_s=0)


def in_folder(number: BayNumber, folder: Path) -> BaySettings:
    return BaySettings(
        number=number,
        presence=lambda thread, is_relied_on: DirectoryPresence(
            folder, thread, is_relied_on=is_relied_on
        ),
    )


@dataclass(slots=True)
class Bay:
    """A bay with its supervisor, and an archive that answers when it is told to."""

    site: DockingSite
    staging: MemoryStaging
    folder: Path
    board: BayBoard
    notices: NoticeStore
    store: OutboxStore
    registry: RegistryBook
    receipts: Pulse
    parts: BayParts
    archive: Archive
    sealed: asyncio.Event = field(default_factory=asyncio.Event)

    @contextlib.asynccontextmanager
    async def served(self, settings: BaySettings | None = None) -> AsyncIterator[None]:
        """Let the supervisor run, of a bay that is a folder if nothing else is said."""
        settings = settings or in_folder(BAY, self.folder)
        supervisor = BaySupervisor(settings, self.parts, pace=PACE)
        running = asyncio.create_task(supervisor.run())
        try:
            yield
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    async def until(self, condition: Callable[[BayMessage], bool]) -> BayMessage:
        """Return what the bay shows as soon as it fulfils *condition*."""
        while not condition(shown := self.board.bay(BAY)):
            await self.board.turns.beyond(self.board.turns.beats)
        return shown

    async def until_state(self, state: BayState) -> BayMessage:
        return await self.until(lambda shown: shown.state is state)

    async def receipt(self, sequence: int) -> None:
        """Let the archive have one manifest and all its files, and the dock the receipt."""
        known = await self.store.next_unreceipted(after=sequence - 1)
        assert known is not None
        assert known.sequence == sequence
        for answer in self.archive.take_manifest(known.envelope):
            await self.store.take_answer(TOPIC, answer)
        held = self.archive.manifests[sequence]
        self.archive.tus.files |= dict.fromkeys(
            (file.digests.sha256 for file in held.manifest.staged_files()), b""
        )
        for answer in self.archive.settle():
            await self.store.take_answer(TOPIC, answer)
        self.receipts.beat()

    async def receipt_when_sealed(self, sequence: int = 1) -> None:
        """The same, as soon as the recorder was read."""
        await self.until_state(BayState.SEALED)
        await self.receipt(sequence)

    async def settle(self) -> None:
        """Give the supervisor many turns, each as long as a look into the journal."""
        for _ in range(50):
            await self.store.counts()

    async def alerts(self) -> tuple[Alert, ...]:
        return await self.notices.undelivered_alerts()


@pytest.fixture
async def bay(tmp_path: Path) -> AsyncIterator[Bay]:
    staging = MemoryStaging()

    def clock() -> datetime:
        return datetime.now(UTC)

    async with open_site(tmp_path / "journal.sqlite", staging) as site:
        notices = NoticeStore(site.journal, dock=DOCK, clock=clock)
        keys = keyring(ARCHIVE_KEY.public)
        store = OutboxStore(site.journal, notices, dock=DOCK, archive_keys=keys, clock=clock)
        board = BayBoard([empty_bay(DOCK, BAY, clock)])
        registry, receipts, sealed = RegistryBook(REGISTRY), Pulse(), asyncio.Event()
        eraser = Eraser(
            site.journal, registry, {BAY: FakeEraseClient()}, folder=tmp_path, clock=clock
        )
        parts = BayParts(
            ports=site.ports,
            settings=site.settings,
            board=board,
            notices=notices,
            store=store,
            registry=registry,
            receipts=receipts,
            mended=Pulse(),
            room=RoomQueue(lambda: site.ports.allotments.room(staging)),
            vitals=Vitals(dock=DOCK, bays=1, clock=clock, free_bytes=staging.free_bytes),
            eraser=eraser,
            on_sealed=sealed.set,
        )
        yield Bay(
            site=site,
            staging=staging,
            folder=tmp_path / "bays/1",
            board=board,
            notices=notices,
            store=store,
            registry=registry,
            receipts=receipts,
            parts=parts,
            archive=Archive(ARCHIVE_KEY, DOCK_KEY.public, TusArchive(), dock=DOCK),
            sealed=sealed,
        )


async def test_a_recorder_is_released_by_its_receipt(bay: Bay) -> None:
    """Sealed when it was read, releasable when its receipt was verified, empty when it left."""
    contents = dock_recorder(bay.folder)
    async with bay.served():
        sealed = await bay.until_state(BayState.SEALED)
        await bay.receipt(1)
        released = await bay.until_state(BayState.RELEASABLE)
        pull_recorder(bay.folder)
        empty = await bay.until_state(BayState.EMPTY)

    assert bay.sealed.is_set()
    assert (sealed.files_done, sealed.bytes_done) == (3, len(contents) * CLIP_BYTES)
    assert released.uploaded_bytes == released.bytes_total == len(contents) * CLIP_BYTES
    assert (sealed.recorder, sealed.officer) == ("R-0001", "012345")
    assert (sealed.current_file, sealed.rate_bytes_s) == (None, 0)
    assert empty == msgspec.structs.replace(
        empty_bay(DOCK, BAY, lambda: empty.changed_at), state=BayState.EMPTY
    )
    assert bay.parts.vitals.counters.ingested_files == 3


async def test_release_waits_for_earlier_receipts_too(bay: Bay) -> None:
    """A recorder that still carries files of an earlier docking needs that receipt as well."""
    dock_recorder(bay.folder)
    async with bay.served():
        await bay.until_state(BayState.SEALED)
        pulled = pull_recorder(bay.folder)
        await bay.until_state(BayState.EMPTY)
        pulled.rename(bay.folder)
        await bay.until_state(BayState.SEALED)
        first = await bay.store.next_unreceipted(after=0)
        assert first is not None
        bay.archive.take_manifest(first.envelope)
        await bay.receipt(2)
        await bay.settle()
        shown = bay.board.bay(BAY)
        await bay.receipt(1)
        await bay.until_state(BayState.RELEASABLE)

    assert shown.state is BayState.SEALED


async def test_an_early_receipt_is_not_missed(bay: Bay, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receipt that was committed before the bay began to wait for it counts."""
    raise_alert = bay.notices.raise_alert

    async def receipt_first(notice: Notice) -> AlertId:
        await bay.receipt(1)
        return await raise_alert(notice)

    # The bay tells of the disk between sealing and waiting.
    bay.staging.failing_syncs = 1
    monkeypatch.setattr(bay.notices, "raise_alert", receipt_first)
    dock_recorder(bay.folder)
    async with bay.served():
        await bay.until_state(BayState.RELEASABLE)


async def test_a_recorder_that_names_nobody_is_refused(bay: Bay) -> None:
    """A volume that no profile can identify is quarantined, and told once."""
    (bay.folder / "DCIM").mkdir(parents=True)
    (bay.folder / "DCIM/holiday.jpg").write_bytes(b"x")
    async with bay.served():
        shown = await bay.until_state(BayState.QUARANTINED)

    assert shown.problem == "E-ING-205"
    assert [(alert.code, alert.bay) for alert in await bay.alerts()] == [("E-ING-205", 1)]
    assert not bay.sealed.is_set()


async def test_one_docking_raises_one_alert(bay: Bay) -> None:
    """However often the registry changes, an unknown recorder is told once for each docking."""
    dock_recorder(bay.folder, serial="9999999")
    async with bay.served():
        await bay.until_state(BayState.QUARANTINED)
        for version in range(2, 5):
            bay.registry.replace(msgspec.structs.replace(REGISTRY, version=version))
            await bay.until_state(BayState.IDENTIFYING)
            await bay.until_state(BayState.QUARANTINED)
        once = await bay.alerts()
        pulled = pull_recorder(bay.folder)
        await bay.until_state(BayState.EMPTY)
        pulled.rename(bay.folder)
        await bay.until_state(BayState.QUARANTINED)

    assert [alert.facts["serial"] for alert in once] == ["9999999"]
    assert len(await bay.alerts()) == 2


async def test_more_room_lets_the_rest_in(bay: Bay) -> None:
    """What found no room is tried again, until there is room; then the bay is sealed."""
    bay.staging.room_bytes = CLIP_BYTES // 2
    contents = dock_recorder(bay.folder)
    async with bay.served():
        attention = await bay.until_state(BayState.ATTENTION)
        bay.staging.room_bytes = 1 << 40
        bay.parts.room.room_freed()
        await bay.until_state(BayState.SEALED)

    claimed = [file for one in await bay.site.manifests() for file in one.staged_files()]
    assert attention.problem is not None
    assert len(claimed) == len(contents)
    assert len({alert.code for alert in await bay.alerts()}) == len(await bay.alerts()) == 1


async def test_what_fails_twice_is_not_tried_for_ever(bay: Bay) -> None:
    """A disk that keeps failing makes no endless row of manifests; a person is told once."""
    bay.staging.failing_syncs = 1_000
    dock_recorder(bay.folder)
    async with bay.served():
        await bay.until_state(BayState.ATTENTION)
        await bay.until_state(BayState.IDENTIFYING)
        shown = await bay.until_state(BayState.ATTENTION)
        await bay.settle()

    assert shown.problem is not None
    assert [alert.code for alert in await bay.alerts()] == [shown.problem]
    assert len(await bay.site.manifests()) == 2


async def test_what_failed_twice_is_tried_when_the_disk_is_mended(bay: Bay) -> None:
    """Who has waited for a person goes on by itself when the disk takes something again."""
    bay.staging.failing_syncs = 1_000
    contents = dock_recorder(bay.folder)
    async with bay.served():
        await bay.until_state(BayState.ATTENTION)
        await bay.until_state(BayState.IDENTIFYING)
        await bay.until_state(BayState.ATTENTION)
        await bay.settle()
        bay.staging.failing_syncs = 0
        bay.parts.mended.beat()
        await bay.until_state(BayState.SEALED)

    assert set(bay.staging.files.values()) == set(contents.values())


async def test_a_disk_that_faltered_is_told(bay: Bay) -> None:
    """Where a second try succeeded, the recorder is sealed, and the disk is a person's business."""
    bay.staging.failing_syncs = 1
    dock_recorder(bay.folder)
    async with bay.served():
        await bay.until_state(BayState.SEALED)

    assert [alert.code for alert in await bay.alerts()] == [DISK_FALTERED]


async def test_a_bug_stops_one_bay(bay: Bay, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where our program fails at a recorder, its bay asks for a person, and can go on later."""

    def fail(*_facts: object) -> None:
        raise ValueError("nobody thought of this recorder")

    dock_recorder(bay.folder)
    async with bay.served():
        with monkeypatch.context() as patched:
            patched.setattr("edge_agent.opening.identify", fail)
            shown = await bay.until_state(BayState.ATTENTION)
        await bay.until_state(BayState.SEALED)

    assert shown.problem == PART_FAILED
    assert [alert.code for alert in await bay.alerts()] == [PART_FAILED]


async def test_a_docking_that_is_cancelled_seals_nothing(bay: Bay) -> None:
    """When the agent stops in mid-copy, no manifest is made."""
    dock_recorder(bay.folder, clips=20)
    async with bay.served():
        await bay.until(lambda shown: shown.bytes_done > 0)

    assert not await bay.site.manifests()


async def test_one_bay_serves_many(bay: Bay) -> None:
    """Recorders come and go in one bay, each with its own docking."""
    dockings: set[str | None] = set()
    async with bay.served():
        for number in range(3):
            dock_recorder(bay.folder, first=1 + 10 * number)
            shown = await bay.until_state(BayState.SEALED)
            dockings.add(shown.docking_id)
            pull_recorder(bay.folder).rename(bay.folder.with_name(f"gone-{number}"))
            await bay.until_state(BayState.EMPTY)

    assert len(dockings) == 3
    assert len(await bay.site.manifests()) == 3


async def docked_and_released(bay: Bay, *, serial: str = "0000017") -> None:
    """Dock a recorder and let the archive have it all."""
    dock_recorder(bay.folder, serial=serial)
    await bay.until_state(BayState.SEALED)
    await bay.receipt(1)
    await bay.until_state(BayState.RELEASABLE)


async def test_a_swapped_recorder_is_not_releasable(bay: Bay) -> None:
    """Between two looks another recorder took over the folder: it is identified and read."""
    async with bay.served():
        await docked_and_released(bay)
        shutil.rmtree(bay.folder / "DCIM")
        dock_recorder(bay.folder.with_name("other"), serial="0000018")
        (bay.folder.with_name("other") / "DCIM").rename(bay.folder / "DCIM")
        shown = await bay.until(
            lambda shown: (shown.state, shown.serial) == (BayState.SEALED, "0000018")
        )

    assert shown.recorder == "R-0002"


async def test_a_new_file_takes_the_release_back(bay: Bay) -> None:
    """A recorder that records while it waits in its bay is read again."""
    async with bay.served():
        await docked_and_released(bay)
        clip = next((bay.folder / "DCIM/100MEDIA").iterdir())
        clip.with_name("012345_0000017_20261122083012_0009.MP4").write_bytes(b"new")
        shown = await bay.until_state(BayState.SEALED)

    assert shown.files_done == 1
    assert len(await bay.site.manifests()) == 2


async def test_a_hung_volume_holds_up_one_bay(bay: Bay, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a look at one bay never ends, the next bay and the dock's own disk go on."""
    never = threading.Event()
    look = directory_presence._volume_at  # noqa: SLF001 -- what hangs is the kernel's call in it

    def hang(root: Path) -> object:
        return look(root) if root == bay.folder else never.wait()

    monkeypatch.setattr(directory_presence, "_volume_at", hang)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(max_workers=1))
    hung = BaySupervisor(in_folder(BayNumber(2), bay.folder.with_name("2")), bay.parts, pace=PACE)
    hanging = asyncio.create_task(hung.run())
    try:
        dock_recorder(bay.folder)
        async with bay.served():
            await bay.until_state(BayState.SEALED)
    finally:
        never.set()
        hanging.cancel()
        await asyncio.wait({hanging})


async def test_a_bay_that_failed_works_again(bay: Bay, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a bay showed when our program failed, it begins anew with what is docked."""

    async def fail(*_facts: object) -> None:
        raise ValueError("nobody thought of this receipt")

    dock_recorder(bay.folder)
    with monkeypatch.context() as patched:
        patched.setattr(bay.store, "are_receipted", fail)
        supervisor = BaySupervisor(in_folder(BAY, bay.folder), bay.parts, pace=PACE)
        with pytest.raises(ExceptionGroup):
            await supervisor.run()
    assert bay.board.bay(BAY).state is BayState.SEALED
    running = asyncio.create_task(supervisor.run())
    await bay.until_state(BayState.IDENTIFYING)
    await bay.until_state(BayState.SEALED)
    running.cancel()
    await asyncio.wait({running})


class Scripted:
    """A presence that says what it is given, and has no volume."""

    def __init__(self, *changes: Arrived | Left) -> None:
        self._changes = changes

    async def changes(self) -> AsyncIterator[Arrived | Left]:
        for change in self._changes:
            yield change
        await asyncio.get_running_loop().create_future()

    async def remember_content(self) -> None:
        """There is none."""

    async def ready(self, report: Callable[[StepReport], None]) -> None:
        """Nobody has to be asked."""

    def mount(
        self, *, read_limit_bytes_s: int | None = None
    ) -> contextlib.AbstractContextManager[Volume]:
        raise AssertionError(f"never mounted ({read_limit_bytes_s})")


async def test_a_recorder_that_cannot_be_mounted_asks_for_a_person(bay: Bay) -> None:
    """The bay shows why, the site is told, and nothing is read; it leaves like any other."""
    problem = ("E-MNT-101", "no file system that recorders use")
    presence = Scripted(Arrived(problem=problem), Left(), Arrived(problem=problem))
    settings = BaySettings(number=BAY, presence=lambda _thread, _is_relied_on: presence)
    running = asyncio.create_task(BaySupervisor(settings, bay.parts, pace=PACE).run())
    try:
        shown = await bay.until_state(BayState.ATTENTION)
        await bay.settle()
        told, *_ = await bay.notices.undelivered_alerts()
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    assert (shown.problem, shown.problem_text) == problem
    assert told.code == "E-MNT-101"
