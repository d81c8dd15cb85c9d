"""The dock's agent, wired together. Nothing is decided here."""

import asyncio
import contextlib
import os
import sqlite3
import ssl
import time
from collections import defaultdict
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import structlog
import uvloop

from edge_agent.adapters.attestation_post import make_post
from edge_agent.adapters.attestations import Attester, make_attester
from edge_agent.adapters.ballast import Ballast
from edge_agent.adapters.bay_board import BayBoard
from edge_agent.adapters.bay_lights import BayLights, light_outputs
from edge_agent.adapters.bay_supervisor import BayParts, BaySettings, BaySupervisor
from edge_agent.adapters.check_up import CheckUp
from edge_agent.adapters.clock_store import ClockStore
from edge_agent.adapters.command_acts import Acts
from edge_agent.adapters.command_desk import CommandDesk
from edge_agent.adapters.control_socket import Snapshot, serve_control
from edge_agent.adapters.disk_watch import DiskWatch, Problem
from edge_agent.adapters.disk_word import DISK_FULL, disk_failure, is_full
from edge_agent.adapters.eraser import Eraser
from edge_agent.adapters.examining import Examination
from edge_agent.adapters.freeing import Freeing
from edge_agent.adapters.guard_link import GuardLink, Isolated
from edge_agent.adapters.instance_lock import hold_lock
from edge_agent.adapters.journal import Journal
from edge_agent.adapters.latest import Latest
from edge_agent.adapters.mount_client import MountClient
from edge_agent.adapters.notice_store import NoticeStore, unix_ms
from edge_agent.adapters.outbox_store import OutboxStore
from edge_agent.adapters.presences import logs_folder, presence_maker
from edge_agent.adapters.pulse import Pulse
from edge_agent.adapters.recorder_logs import RecorderLogs
from edge_agent.adapters.registry_book import RegistryBook
from edge_agent.adapters.room_queue import RoomQueue
from edge_agent.adapters.salvage_disk import SalvageDisk
from edge_agent.adapters.staging_disk import StagingDisk
from edge_agent.adapters.staging_way import choose_way
from edge_agent.adapters.storage_check import clear_staging, pair_storage
from edge_agent.adapters.task_keeper import PART_FAILED, keep_running
from edge_agent.adapters.tus_client import TusClient, UploadLimits, open_tus_client
from edge_agent.adapters.uplink import Uplink, UplinkPace, UplinkParts
from edge_agent.adapters.upload_queue import QueueLimits, UploadQueue
from edge_agent.adapters.vitals import AGENT, Vitals
from edge_agent.allotments import Allotments
from edge_agent.config import EdgeConfig, load_profiles
from edge_agent.interrupted import close_interrupted_dockings
from edge_agent.ports import DockingPorts, DockingSettings
from edge_agent.staying_alive import empty_board, stay_alive, utc_now, wait_for_disk
from protocol.envelope import keyring
from protocol.identifiers import DockId, mint_uuid7, parse_dock
from protocol.keys import KeyId, VerifyingKey
from protocol.manifest import EvidenceLevel
from runtime.keys import load_certificate_key, load_signing_key
from runtime.link import LinkSettings
from runtime.service import notify, stop_event
from runtime.tls import client_context

_BALLAST_PAUSE_S: Final = 60.0
# A disk that stalls holds up one for each part of the agent; names are looked up in them, too.
_THREADS: Final = 32

_log = structlog.get_logger(__name__)


def run_agent(config: EdgeConfig) -> None:
    """Take footage until SIGTERM or SIGINT, which seal nothing and lose nothing.

    Raises:
        EdgeError, RuntimeFault: The agent cannot work as it is configured.
        OSError, sqlite3.Error: The dock's own disk or journal failed; everything committed stays.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_serve_until_stopped(config))
        except BaseExceptionGroup as group:
            raise _first(group) from group


async def _serve_until_stopped(config: EdgeConfig) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
    with stop_event() as stop:
        # A disk that is well again before it is asked is believed once, then it is another fault.
        first = True
        while not stop.is_set():
            try:
                await _serve(config, stop)
            except (OSError, sqlite3.Error, BaseExceptionGroup) as error:
                # After a failure the journal says things that are not so: it is opened anew.
                failure = disk_failure(error)
                if failure is None or is_full(error):
                    raise
                _log.critical("the dock's disk or journal failed", error=repr(failure))
                waited = await wait_for_disk(config, stop)
                if not (waited or first):
                    raise
                first = waited


async def _serve(config: EdgeConfig, stop: asyncio.Event) -> None:
    with hold_lock(config.storage.journal):
        async with _assemble(config) as agent:
            await agent.prepare()
            control = serve_control(
                config.control.socket, board=agent.parts.board, snapshot=agent.snapshot
            )
            async with asyncio.TaskGroup() as group, control:
                tasks = [group.create_task(agent.run(config), name="agent")]
                tasks.append(group.create_task(stay_alive(stop, agent.watch), name="watchdog"))
                notify("READY=1")
                _log.info("ready", dock=config.dock, bays=len(agent.bays))
                await _either_set(stop, agent.tools.restart_asked)
                # systemd starts us again.
                stop.set()
                notify("STOPPING=1")
                _log.info("stopping")
                for task in tasks:
                    task.cancel()


async def _either_set(one: asyncio.Event, other: asyncio.Event) -> None:
    tasks = {asyncio.create_task(event.wait()) for event in (one, other)}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Agent:
    """The parts that run, and what they share."""

    uplink: Uplink
    uploads: UploadQueue
    freeing: Freeing
    watch: DiskWatch
    tools: "_Tools"
    bays: tuple[BaySupervisor, ...]
    parts: BayParts
    world: "_World"
    unhandled: Latest[int]
    orphaned: Latest[int]

    async def prepare(self) -> None:
        """Put in order what the last run left in staging."""
        world = self.world
        await clear_staging(world.journal, world.staging, world.salvaging, world.notices)

    async def run(self, config: EdgeConfig) -> None:
        """Do everything, until cancelled."""
        running = {
            # What talks is silent while the rule is broken; footage is taken as ever.
            "uplink": lambda: self.world.isolated.while_kept(self.uplink.run),
            "uploads": lambda: self.world.isolated.while_kept(self.uploads.run),
            "ingest": self._ingest,
            "ballast": self._keep_ballast,
            "disk": lambda: self.watch.run(self.world.notices),
            "doctor": self.tools.check_up.run,
            "commands": self.tools.commands.run,
        }
        if config.guard is not None:
            link = GuardLink(config.guard.socket, self.world.isolated, self.world.notices)
            running["guard"] = link.run
        if self.tools.attester is not None:
            running["attestations"] = self.tools.attester.run
        if self.tools.lights.are_any:
            running["lights"] = self.tools.lights.run
        if config.storage.free_after_receipt:
            running["freeing"] = self.freeing.run
        await self._keep(running)

    async def _keep(self, running: Mapping[str, Callable[[], Awaitable[None]]]) -> None:
        async with asyncio.TaskGroup() as group:
            for name, run in running.items():
                kept = keep_running(
                    name, run, self.world.notices, give_up_ballast=self.world.ballast.give_up
                )
                group.create_task(kept, name=name)

    async def _ingest(self) -> None:
        """Close the dockings that were cut short, then look after the bays."""
        try:
            for outcome in await close_interrupted_dockings(self.parts.ports, self.parts.settings):
                _log.warning("interrupted docking closed", docking=outcome.docking_id)
        except Exception as error:
            for bay in self.bays:
                bay.show_problem(DISK_FULL if is_full(error) else PART_FAILED, repr(error))
            raise
        self.parts.on_sealed()
        await self._keep({bay.name: bay.run for bay in self.bays})

    async def _keep_ballast(self) -> None:
        while True:
            await asyncio.sleep(_BALLAST_PAUSE_S)
            await asyncio.to_thread(self.world.ballast.settle)

    async def snapshot(self) -> Snapshot:
        """Return how the dock stands."""
        return Snapshot(
            dock=await self.parts.vitals.status(),
            bays=self.parts.board.bays(),
            uploads_waiting=self.uploads.waiting_files,
            unhandled_messages=await self.unhandled.value(),
            orphaned_files=await self.orphaned.value(),
            problem=self.parts.vitals.problem
            or self.uploads.problem
            or next(iter(self.tools.lights.problems.values()), None),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tools:
    """What a technician has of a dock."""

    lights: BayLights
    check_up: CheckUp
    commands: CommandDesk
    attester: Attester | None = None
    restart_asked: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True, kw_only=True)
class _World:
    """What is open as long as the agent runs, and what the journal had at its start."""

    dock: DockId
    tls: ssl.SSLContext
    journal: Journal
    notices: NoticeStore
    store: OutboxStore
    staging: StagingDisk
    salvaging: SalvageDisk
    ballast: Ballast
    client: TusClient
    registry: RegistryBook
    archive_keys: Mapping[KeyId, VerifyingKey]
    isolated: Isolated


@contextlib.asynccontextmanager
async def _assemble(config: EdgeConfig) -> AsyncIterator[_Agent]:
    dock = parse_dock(config.dock)
    tls = client_context(ca=config.tls.ca, certificate=config.tls.certificate, key=config.tls.key)
    archive_keys = keyring(load_certificate_key(config.archive.signing_certificate))
    limits = UploadLimits(max_bytes_s=config.uplink.max_upload_bytes_s)
    ballast = Ballast(config.storage.journal)
    await asyncio.to_thread(ballast.settle)
    reads_back = config.ingest.evidence is not EvidenceLevel.L1
    way = await asyncio.to_thread(
        choose_way, config.storage.staging, reads_back=reads_back, bays=len(config.bays)
    )
    staging = await asyncio.to_thread(
        StagingDisk, config.storage.staging, reserve_bytes=config.storage.min_free_bytes, way=way
    )
    async with (
        Journal.open(config.storage.journal) as journal,
        open_tus_client(config.archive.url, tls, limits=limits) as client,
    ):
        await pair_storage(journal, staging)
        notices = NoticeStore(journal, dock=dock, clock=utc_now)
        store = OutboxStore(journal, notices, dock=dock, archive_keys=archive_keys, clock=utc_now)
        await store.log.load()
        world = _World(
            dock=dock,
            tls=tls,
            journal=journal,
            notices=notices,
            store=store,
            staging=staging,
            salvaging=await asyncio.to_thread(SalvageDisk, config.storage.staging),
            ballast=ballast,
            client=client,
            registry=RegistryBook(await store.registry()),
            archive_keys=archive_keys,
            isolated=Isolated(),
        )
        yield _wire(config, world)


def _wire(config: EdgeConfig, world: _World) -> _Agent:
    dock, registry = world.dock, world.registry
    vitals = Vitals(
        dock=dock, bays=len(config.bays), clock=utc_now, free_bytes=world.staging.free_bytes
    )
    world.isolated.shows_at(vitals)
    vitals.registry_version = registry.current.version if registry.current else 0
    board = empty_board(config, dock)
    uploads = _upload_queue(config, world, board, vitals)
    receipts, desk = Pulse(), _command_desk(config, world)
    uplink = Uplink(
        _link_settings(config, world),
        UplinkParts(
            store=world.store,
            notices=world.notices,
            uploads=uploads,
            board=board,
            vitals=vitals,
            registry=registry,
            receipts=receipts,
            commands=desk,
            key=load_signing_key(config.signing.key),
            attestations=make_post(config, world.notices, dock, world.archive_keys),
        ),
        dock=dock,
        clock=utc_now,
        pace=UplinkPace(reconcile_s=config.uplink.reconcile_s),
    )
    ports = _docking_ports(config, world, on_sealed=uplink.manifest_sealed)
    bays: list[BaySupervisor] = []
    watch = _disk_watch(config, bays)
    room = RoomQueue(lambda: ports.allotments.room(ports.staging))
    parts = BayParts(
        ports=ports,
        settings=_docking_settings(config, dock),
        board=board,
        notices=world.notices,
        store=world.store,
        registry=registry,
        receipts=receipts,
        mended=watch.mended,
        room=room,
        vitals=vitals,
        eraser=_eraser(config, world),
        on_sealed=uplink.manifest_sealed,
    )
    bays += [BaySupervisor(bay, parts) for bay in _bay_settings(config, world)]
    return _Agent(
        uplink=uplink,
        uploads=uploads,
        freeing=Freeing(world.store, world.staging, receipts, on_freed=room.room_freed),
        watch=watch,
        tools=_tools(config, world, board, vitals, desk, bays),
        bays=tuple(bays),
        parts=parts,
        world=world,
        unhandled=Latest(world.notices.unhandled_count, 0),
        orphaned=Latest(lambda: asyncio.to_thread(world.staging.orphaned_count), 0),
    )


def _eraser(config: EdgeConfig, world: _World) -> Eraser:
    return Eraser(
        world.journal,
        world.registry,
        {
            bay.number: MountClient(config.mount.socket, bay.number)
            for bay in config.bays
            if bay.source == "usb"
        },
        folder=config.storage.journal.parent,
        clock=utc_now,
    )


def _disk_watch(config: EdgeConfig, bays: Sequence[BaySupervisor]) -> DiskWatch:
    def show(problem: Problem | None) -> None:
        for bay in bays:
            bay.show_disk_problem(problem)

    return DiskWatch([config.storage.staging, config.storage.journal.parent], show=show)


def _command_desk(config: EdgeConfig, world: _World) -> CommandDesk:
    return CommandDesk(
        world.journal,
        world.notices,
        dock=world.dock,
        bays=frozenset(bay.number for bay in config.bays),
        archive_keys=world.archive_keys,
        clock=utc_now,
    )


def _tools(
    config: EdgeConfig,
    world: _World,
    board: BayBoard,
    vitals: Vitals,
    desk: CommandDesk,
    bays: Sequence[BaySupervisor],
) -> _Tools:
    tools = _Tools(
        lights=BayLights(
            board,
            light_outputs(config, time.monotonic),
            world.notices,
            world.isolated,
            world.store.log,
        ),
        check_up=_check_up(config, world.dock, vitals),
        commands=desk,
        attester=make_attester(config, world.isolated, dock=world.dock, clock=utc_now),
    )
    desk.acts = Acts(
        desk,
        bays,
        lights=tools.lights,
        check_up=tools.check_up,
        logs=RecorderLogs(logs_folder(config)),
        attester=tools.attester,
        restart=tools.restart_asked.set,
    ).by_verb()
    return tools


def _check_up(config: EdgeConfig, dock: DockId, vitals: Vitals) -> CheckUp:
    examination = Examination(config=config, clock=utc_now)
    return CheckUp(dock=dock, examine=examination.verdicts, clock=utc_now, vitals=vitals)


def _upload_queue(
    config: EdgeConfig, world: _World, board: BayBoard, vitals: Vitals
) -> UploadQueue:
    return UploadQueue(
        world.client,
        world.staging,
        world.notices,
        on_progress=board.add_uploaded,
        counters=vitals.counters,
        limits=QueueLimits(at_once=config.uplink.uploads_at_once),
    )


def _link_settings(config: EdgeConfig, world: _World) -> LinkSettings:
    return LinkSettings(
        host=config.archive.mqtt_host,
        port=config.archive.mqtt_port,
        client_id=world.dock,
        tls=world.tls,
    )


def _docking_ports(
    config: EdgeConfig, world: _World, *, on_sealed: Callable[[], None]
) -> DockingPorts:
    return DockingPorts(
        journal=world.journal,
        staging=world.staging,
        salvaging=world.salvaging,
        find_recorder=world.registry.find_recorder,
        clock=utc_now,
        monotonic_s=time.monotonic,
        mint=_mint,
        allotments=Allotments(kept_for_marked_bytes=config.storage.kept_for_marked_bytes),
        on_sealed=on_sealed,
        isolation=lambda: world.isolated.isolation,
        watched_log=world.store.log.told,
    )


def _docking_settings(config: EdgeConfig, dock: DockId) -> DockingSettings:
    return DockingSettings(
        dock=dock,
        agent=AGENT,
        key=load_signing_key(config.signing.key),
        profiles=load_profiles(config.profiles),
        evidence_level=config.ingest.evidence,
        with_sm3=config.ingest.sm3,
        checkpoint_bytes=config.ingest.checkpoint_bytes,
    )


def _bay_settings(config: EdgeConfig, world: _World) -> Iterator[BaySettings]:
    clocks = ClockStore(world.journal)
    turns = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(1))
    for bay in config.bays:
        yield BaySettings(
            number=bay.number,
            presence=presence_maker(config, bay, clocks, utc_now),
            read_limit_bytes_s=bay.read_limit_bytes_s,
            read_turn=contextlib.nullcontext() if bay.upstream is None else turns[bay.upstream],
        )


def _mint() -> str:
    return mint_uuid7(unix_ms=unix_ms(utc_now()), entropy=os.urandom(10))


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
