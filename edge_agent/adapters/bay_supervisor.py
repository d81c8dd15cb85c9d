"""One bay from the arrival of a recorder to its leaving, over and over."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass, field, replace
from enum import Enum, unique
from functools import partial
from typing import Any, Final, cast

import structlog

from edge_agent.adapters.bay_board import BayBoard
from edge_agent.adapters.bay_face import BayFace
from edge_agent.adapters.disk_word import DISK_FULL, disk_failure, is_full
from edge_agent.adapters.eraser import Eraser
from edge_agent.adapters.notice_store import Notice, NoticeStore
from edge_agent.adapters.outbox_store import OutboxStore
from edge_agent.adapters.presence import Arrived, Left, Presence
from edge_agent.adapters.pulse import Pulse
from edge_agent.adapters.registry_book import RegistryBook
from edge_agent.adapters.room_queue import RoomQueue
from edge_agent.adapters.task_keeper import PART_FAILED
from edge_agent.adapters.vitals import Vitals
from edge_agent.bay.machine import BayEvent
from edge_agent.docking import run_docking
from edge_agent.drivers.dialog import StepReport
from edge_agent.errors import DriverError, SourceVanishedError
from edge_agent.ingest.progress import BayProgress
from edge_agent.mounting.errors import MountError
from edge_agent.one_thread import OneThread
from edge_agent.ports import DockingOutcome, DockingPorts, DockingSettings, OutcomeKind
from protocol.identifiers import BayNumber, RecorderId
from protocol.messages import BayState
from protocol.registry import RecorderEntry

# Nothing is read before the site has said which recorders it knows.
AWAITING_REGISTRY: Final = "E-BAY-102"
# The dock's own disk failed, and a second try succeeded.
DISK_FALTERED: Final = "E-BAY-103"

# A volume that the reader has lost is soon found gone, or was never away.
_GONE_TIMEOUT_S: Final = 5.0

# In these states the bay says that all which is on the recorder was read.
_RELIED_ON: Final = frozenset({BayState.SEALED, BayState.RELEASABLE})

# Of these a recorder that stays may be tried again.
_TRIED_AGAIN: Final = frozenset({BayState.QUARANTINED, BayState.ATTENTION})

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BaySettings:
    """One bay.

    Attributes:
        presence: Makes what tells whether a recorder is there; gets the bay's own thread, and
            whether what was read counts as all there is.
        read_limit_bytes_s: None for as fast as it goes.
        read_turn: Shared by the bays of one USB upstream.
    """

    number: BayNumber
    presence: Callable[[OneThread, Callable[[], bool]], Presence]
    read_limit_bytes_s: int | None = None
    read_turn: contextlib.AbstractAsyncContextManager[object] = field(
        default_factory=contextlib.nullcontext
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPace:
    """When a docking that needs attention is tried again, while its recorder stays.

    Attributes:
        first_s: After this time; then after twice as long.
        longest_s: The most between two tries.
        most_sealed: After so many tries that sealed a manifest no other one is made, unless only
            room was lacking: what cannot be read twice is not read a third time.
    """

    first_s: float = 30.0
    longest_s: float = 1800.0
    most_sealed: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class BayParts:
    """What all bays share.

    Attributes:
        receipts: Beats after each receipt that was committed.
        mended: Beats when the dock's disk, which took nothing, does again.
        room: Where bays wait for room on the dock's disk.
        on_sealed: Called after manifests were put into the outbox.
    """

    ports: DockingPorts
    settings: DockingSettings
    board: BayBoard
    notices: NoticeStore
    store: OutboxStore
    registry: RegistryBook
    receipts: Pulse
    mended: Pulse
    room: RoomQueue
    vitals: Vitals
    eraser: Eraser
    on_sealed: Callable[[], None]


@unique
class _Then(Enum):
    """What follows a docking while its recorder stays."""

    NOTHING = "nothing"
    RETRY_LATER = "retry_later"
    RETRY_WITH_ROOM = "retry_with_room"
    RETRY_WHEN_MENDED = "retry_when_mended"
    RETRY_WITH_REGISTRY = "retry_with_registry"


@dataclass(frozen=True, slots=True, kw_only=True)
class _News:
    """What may make another try worth it; each waits for what is new since the last try began."""

    registry: Callable[[], Coroutine[Any, Any, int]]
    freed: Callable[[], Coroutine[Any, Any, int]]
    mended: Callable[[], Coroutine[Any, Any, int]]
    asked: Callable[[], Coroutine[Any, Any, int]]


class BaySupervisor:
    """Looks after one bay; `run` is its only task."""

    def __init__(self, bay: BaySettings, parts: BayParts, *, pace: RetryPace | None = None) -> None:
        self._bay = bay
        self._parts = parts
        self._pace = pace or RetryPace()
        self._face = BayFace(parts.settings.dock, bay.number, parts.board, parts.ports.clock)
        # The bay's own ports tell it which recorder the registry was asked for.
        self._ports = replace(
            parts.ports, find_recorder=self._find_recorder, read_turn=bay.read_turn
        )
        self._thread: OneThread
        self._presence: Presence
        self._named: dict[str, str] = {}
        self._alerted: set[str] = set()
        self._sealed_tries = 0
        self._counted = (0, 0)
        self._asked = Pulse()

    @property
    def number(self) -> BayNumber:
        """Which bay this is."""
        return self._bay.number

    @property
    def name(self) -> str:
        """What the bay is called in logs and alerts."""
        return f"bay {self._bay.number}"

    async def run(self) -> None:
        """Serve one recorder after the other, until cancelled; that seals nothing.

        Raises:
            sqlite3.Error: The journal failed.
        """
        # After a failure this begins anew, whatever the bay showed.
        self._face.reset()
        async with OneThread(f"bay-{self._bay.number}-volume") as thread:
            presence = self._bay.presence(thread, lambda: self._face.state in _RELIED_ON)
            self._thread, self._presence = thread, presence
            await self._serve_all(presence)

    def rescan(self) -> bool:
        """Try the recorder again that could not be read; False if there is none."""
        can_help = self._face.state in _TRIED_AGAIN
        if can_help:
            self._asked.beat()
        return can_help

    def show_problem(self, code: str, text: str) -> None:
        """Show why the bay is not looked at yet."""
        self._face.show_problem((code, text))

    def show_disk_problem(self, problem: tuple[str, str] | None) -> None:
        """Show what is wrong with the dock's disk, or that nothing is any more."""
        self._face.show_disk_problem(problem)

    async def _serve_all(self, presence: Presence) -> None:
        seen = cast("AsyncGenerator[Arrived | Left, None]", presence.changes())
        gone = asyncio.Event()
        serving: asyncio.Task[None] | None = None
        async with asyncio.TaskGroup() as group, contextlib.aclosing(seen) as changes:
            async for change in changes:
                if isinstance(change, Arrived):
                    gone = asyncio.Event()
                    name = f"bay {self._bay.number} recorder"
                    serving = group.create_task(self._serve(gone, change.problem), name=name)
                elif serving is not None:
                    # A docking under way notices by itself, and seals what it has.
                    gone.set()
                    await serving

    async def _serve(self, gone: asyncio.Event, problem: tuple[str, str] | None) -> None:
        """One recorder, from its arrival until it has left; one with a *problem* is not read."""
        self._named, self._alerted, self._sealed_tries = {}, set(), 0
        self._face.advance(BayEvent.ARRIVED)
        try:
            if problem is None:
                await self._dock_until_done(gone)
            else:
                self._face.advance(BayEvent.FAULT, problem=problem)
                await self._raise_alert(*problem)
                await gone.wait()
        finally:
            self._parts.room.leave(self._bay.number)
        self._face.advance(BayEvent.LEFT)

    async def _dock_until_done(self, gone: asyncio.Event) -> None:
        """Dock it as often as that helps, and return when it has left."""
        pause_s = self._pace.first_s
        while await self._registry_known(gone):
            news = self._news()
            outcome = await self._try_to_dock()
            await self._note(outcome)
            then = await self._follow(outcome, gone)
            await self._until_it_helps(then, outcome, gone, news=news, pause_s=pause_s)
            if gone.is_set():
                return
            pause_s = min(2 * pause_s, self._pace.longest_s)
            self._face.advance(BayEvent.RETRY)

    def _news(self) -> _News:
        parts = self._parts
        return _News(
            registry=partial(parts.registry.changes.beyond, parts.registry.changes.beats),
            freed=partial(parts.room.freed.beyond, parts.room.freed.beats),
            mended=partial(parts.mended.beyond, parts.mended.beats),
            asked=partial(self._asked.beyond, self._asked.beats),
        )

    async def _until_it_helps(
        self,
        then: _Then,
        outcome: DockingOutcome,
        gone: asyncio.Event,
        *,
        news: _News,
        pause_s: float,
    ) -> None:
        """Return when another try may end otherwise, or the recorder has left."""
        match then:
            case _Then.NOTHING if self._face.state in _TRIED_AGAIN:
                await _either(gone, news.asked())
            case _Then.NOTHING:
                await gone.wait()
            case _Then.RETRY_WITH_REGISTRY:
                await _either(gone, news.registry(), news.asked())
            case _Then.RETRY_LATER:
                news_of_any = (news.registry(), news.mended(), news.asked())
                await _either(gone, *news_of_any, timeout_s=pause_s)
            case _Then.RETRY_WHEN_MENDED:
                await _either(gone, news.mended(), news.asked())
            case _Then.RETRY_WITH_ROOM:
                if not outcome.lacking_bytes:  # the disk refused what it had room for
                    await _either(gone, news.freed(), timeout_s=pause_s)
                await _either(gone, self._room_for(outcome))

    async def _room_for(self, outcome: DockingOutcome) -> None:
        if outcome.waits_for is not None:
            await self._parts.room.turn(self._bay.number, outcome.waits_for)

    async def _registry_known(self, gone: asyncio.Event) -> bool:
        """Return True as soon as there is a registry, or False when the recorder left."""
        registry = self._parts.registry
        if registry.current is None:
            self._face.show_problem((AWAITING_REGISTRY, "waiting for the site's first registry"))
        while registry.current is None and not gone.is_set():
            await _either(gone, registry.changes.beyond(registry.changes.beats))
        self._face.show_problem(None)
        return not gone.is_set()

    async def _try_to_dock(self) -> DockingOutcome:
        """Dock; where we fail at this one recorder, the other bays go on."""
        try:
            return await self._dock()
        except Exception as error:
            if is_full(error):
                return DockingOutcome(kind=OutcomeKind.ATTENTION, code=DISK_FULL, text=repr(error))
            if disk_failure(error) is not None:
                raise
            _log.exception("a docking failed", bay=self._bay.number)
            return DockingOutcome(kind=OutcomeKind.ATTENTION, code=PART_FAILED, text=repr(error))

    async def _dock(self) -> DockingOutcome:
        self._counted = (0, 0)
        with contextlib.ExitStack() as stack:
            try:
                told = await self._presence.ready(self._show_step)
                self._face.show_battery(None if told is None else told.battery_percent)
                mount = self._presence.mount(read_limit_bytes_s=self._bay.read_limit_bytes_s)
                volume = await self._thread.run(partial(stack.enter_context, mount))
                await self._presence.remember_content()
            except SourceVanishedError as error:
                return DockingOutcome(kind=OutcomeKind.LEFT, text=str(error))
            except (DriverError, MountError) as error:
                return DockingOutcome(kind=OutcomeKind.ATTENTION, code=error.code, text=str(error))
            must_wait = self._parts.room.must_wait(self._bay.number)
            try:
                return await run_docking(
                    volume,
                    bay=self._bay.number,
                    ports=self._ports,
                    settings=replace(self._parts.settings, only_marked=must_wait),
                    report=self._report,
                    told=told,
                )
            finally:
                self._parts.room.has_room(self._bay.number)

    def _show_step(self, step: StepReport) -> None:
        """Show where the talk with the recorder is; its outcome tells more."""
        _log.info(
            "recorder asked",
            bay=self._bay.number,
            step=step.step.value,
            outcome=step.outcome.value,
            code=step.code,
            tries=step.tries,
            seconds=round(step.duration_s, 3),
        )
        self._face.show_step(f"{step.step.value}: {step.code or step.outcome.value}")

    def _find_recorder(self, *, model: str, serial: str) -> RecorderEntry | None:
        self._named = {"model": model, "serial": serial}
        self._face.show_name(model=model, serial=serial)
        return self._parts.ports.find_recorder(model=model, serial=serial)

    def _report(self, progress: BayProgress) -> None:
        if self._face.state is BayState.IDENTIFYING:
            self._face.advance(BayEvent.IDENTIFIED)
            self._parts.room.has_room(self._bay.number)
        self._face.show_progress(progress)
        files, size_bytes = self._counted
        counters = self._parts.vitals.counters
        counters.ingested_files += max(0, progress.files_done - files)
        counters.ingested_bytes += max(0, progress.bytes_done - size_bytes)
        self._counted = progress.files_done, progress.bytes_done

    async def _note(self, outcome: DockingOutcome) -> None:
        """Hand over what was sealed, and tell what a person must know; each thing once."""
        self._face.show_end(findings=outcome.findings_total)
        _log.info(
            "docking ended",
            bay=self._bay.number,
            kind=outcome.kind.value,
            code=outcome.code,
            manifests=len(outcome.manifest_ids),
        )
        if outcome.docking_id is not None:
            promised_bytes = await self._parts.store.promised_bytes(outcome.docking_id)
            self._parts.board.promise(outcome.docking_id, promised_bytes)
        if outcome.manifest_ids:
            self._sealed_tries += 1
            self._parts.on_sealed()
        if outcome.code is not None:
            await self._alert(outcome, outcome.code, outcome.text)
        elif outcome.disk_faults:
            text = f"the dock's disk failed once: {outcome.disk_faults[0]}"
            await self._alert(outcome, DISK_FALTERED, text)

    async def _alert(self, outcome: DockingOutcome, code: str, text: str) -> None:
        recorder = None if outcome.recorder is None else outcome.recorder.recorder_id
        await self._raise_alert(code, text, recorder)

    async def _raise_alert(self, code: str, text: str, recorder: RecorderId | None = None) -> None:
        """Tell the site; each thing once for each recorder that is docked."""
        if code in self._alerted:
            return
        self._alerted.add(code)
        await self._parts.notices.raise_alert(
            Notice(code=code, text=text, facts=self._named, bay=self._bay.number, recorder=recorder)
        )

    async def _follow(self, outcome: DockingOutcome, gone: asyncio.Event) -> _Then:
        """Bring the bay to the state that *outcome* means, and say what is to be done next."""
        problem = None if outcome.code is None else (outcome.code, outcome.text)
        match outcome.kind:
            case OutcomeKind.SEALED:
                await self._await_receipts(outcome, gone)
                return _Then.NOTHING
            case OutcomeKind.REFUSED:
                self._face.advance(BayEvent.REFUSED, problem=problem)
                return _Then.RETRY_WITH_REGISTRY
            case OutcomeKind.LEFT:
                await _either(gone, asyncio.sleep(_GONE_TIMEOUT_S))
                if gone.is_set():
                    return _Then.NOTHING
                lost = (SourceVanishedError.code, outcome.text)
                self._face.advance(BayEvent.FAULT, problem=lost)
                return _Then.RETRY_LATER
            case OutcomeKind.ATTENTION:
                self._face.advance(BayEvent.FAULT, problem=problem)
                if outcome.waits_for is not None:
                    return _Then.RETRY_WITH_ROOM
                hopeless = self._sealed_tries >= self._pace.most_sealed
                return _Then.RETRY_WHEN_MENDED if hopeless else _Then.RETRY_LATER

    async def _await_receipts(self, outcome: DockingOutcome, gone: asyncio.Event) -> None:
        if self._face.state is BayState.IDENTIFYING:
            self._face.advance(BayEvent.IDENTIFIED)
        self._face.advance(BayEvent.MANIFEST_SEALED)
        needed = {*outcome.manifest_ids, *outcome.known_manifest_ids}
        while not gone.is_set():
            receipts = self._parts.receipts.beats
            if await self._parts.store.are_receipted(needed):
                await self._release(outcome, gone)
                return
            await _either(gone, self._parts.receipts.beyond(receipts))

    async def _release(self, outcome: DockingOutcome, gone: asyncio.Event) -> None:
        """Let the recorder be taken, once what the site wants erased from it is."""
        eraser = self._parts.eraser
        self._face.advance(BayEvent.RECEIPT_VERIFIED)
        if not eraser.is_wanted(self._bay.number, outcome):
            return
        self._face.advance(BayEvent.ERASING_BEGAN)
        ended = await eraser.erase(self._bay.number, outcome, gone, self._face.show_erasing)
        self._face.show_erased(ended.erased)
        if gone.is_set():
            return
        if ended.problem is not None:
            await self._alert(outcome, *ended.problem)
        self._face.advance(BayEvent.ERASING_ENDED, problem=ended.problem)


async def _either(
    gone: asyncio.Event, *waiting: Coroutine[Any, Any, object], timeout_s: float | None = None
) -> None:
    """Return when *gone* is set, one of *waiting* has ended, or the time is up; raise its error."""
    tasks: set[asyncio.Task[object]] = {asyncio.create_task(one) for one in (gone.wait(), *waiting)}
    try:
        done, _ = await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    for task in done:
        task.result()
