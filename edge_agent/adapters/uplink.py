"""The dock's one connection to the archive's broker, kept up for ever.

Nothing of the dock waits for it. Each connection starts by saying again everything that the
archive has not answered for: what a broker acknowledged counts for nothing.
"""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Final

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type
from tenacity.wait import wait_random_exponential

from edge_agent.adapters.attestation_post import AttestationPost
from edge_agent.adapters.bay_board import BayBoard
from edge_agent.adapters.command_desk import CommandDesk
from edge_agent.adapters.disk_word import disk_failure
from edge_agent.adapters.notice_store import Clock, Notice, NoticeStore
from edge_agent.adapters.outbox_store import OutboxStore
from edge_agent.adapters.pulse import Pulse
from edge_agent.adapters.registry_book import RegistryBook
from edge_agent.adapters.task_keeper import PART_FAILED
from edge_agent.adapters.telemetry import Telemetry, TelemetryPace
from edge_agent.adapters.upload_queue import UploadQueue
from edge_agent.adapters.vitals import Vitals
from edge_agent.outbox.answers import Contradiction, KnownManifest, Receipted, Unhandled
from protocol import strict_json
from protocol.identifiers import DockId
from protocol.keys import SigningKey
from protocol.topics import REGISTRY, Channel, of_dock
from runtime.errors import LinkError, LinkRefusedError
from runtime.link import Link, LinkSettings, Message, Will, open_link

_PUBLISH_TIMEOUT_S: Final = 30.0
_SLOWEST_BYTES_S: Final = 64 * 1024

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkPace:
    """When things are said again.

    Attributes:
        reconcile_s: Manifests without a receipt are published again after this time.
        first_wait_s: About how long before the second connection; then twice as long, with jitter.
        longest_wait_s: The most between two connections; one that held longer was a good one.
        telemetry: How often bays, status and metrics are told.
    """

    reconcile_s: float = 30.0
    first_wait_s: float = 1.0
    longest_wait_s: float = 30.0
    telemetry: TelemetryPace = field(default_factory=TelemetryPace)


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkParts:
    """What the uplink carries from and to.

    Attributes:
        registry: Replaced after a newer one was committed.
        receipts: Beats after a receipt was committed.
        key: The dock's; it cosigns what was seen of the archive's log.
        attestations: None where no guard is configured.
    """

    store: OutboxStore
    notices: NoticeStore
    uploads: UploadQueue
    board: BayBoard
    vitals: Vitals
    registry: RegistryBook
    receipts: Pulse
    commands: CommandDesk
    key: SigningKey
    attestations: AttestationPost | None = None


class Uplink:
    """Manifests, telemetry and alerts out; answers and the registry in. `run` is its only task."""

    def __init__(
        self,
        link: LinkSettings,
        parts: UplinkParts,
        *,
        dock: DockId,
        clock: Clock,
        pace: UplinkPace,
    ) -> None:
        """Take the parts; nothing is connected yet.

        Args:
            link: How to reach the broker; the will is added here.
            parts: What the uplink carries from and to.
            dock: Ourselves.
            clock: UTC.
            pace: When things are said again.
        """
        self._link_settings = link
        self._parts = parts
        self._dock = dock
        self._clock = clock
        self._pace = pace
        self._sealed = asyncio.Event()
        self._alerted: set[int] = set()
        self._forgotten_from: int | None = None

    def manifest_sealed(self) -> None:
        """Have new manifests published; called after their transaction."""
        self._sealed.set()

    async def run(self) -> None:
        """Connect, serve, and connect again, until cancelled; then the broker publishes the will.

        Raises:
            OSError, sqlite3.Error: The dock's own disk or journal failed; nothing is acknowledged
                that was not committed.
        """
        while True:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(LinkError),
                wait=wait_random_exponential(
                    multiplier=self._pace.first_wait_s, max=self._pace.longest_wait_s
                ),
            ):
                with attempt:
                    await self._connect_once()

    async def _connect_once(self) -> None:
        """Serve one connection; return after a good one, raise after one that hardly began."""
        loop = asyncio.get_running_loop()
        vitals = self._parts.vitals
        started_s = loop.time()
        lost: LinkError | None = None
        try:
            async with open_link(self._settings()) as link:
                vitals.connected_since, vitals.problem = self._clock(), None
                _log.info("connected", session_present=link.session_present)
                await self._serve(link)
        except* LinkError as errors:
            lost = _first(errors)
        finally:
            vitals.connected_since = None
        if lost is None:
            return
        vitals.counters.reconnects += 1
        vitals.problem = f"{lost.code}: {lost}"
        _log.warning("connection lost", code=lost.code, detail=str(lost))
        if loop.time() - started_s < self._pace.longest_wait_s:
            raise lost

    def _settings(self) -> LinkSettings:
        will = Will(
            topic=of_dock(self._dock, Channel.STATUS),
            payload=strict_json.encode(self._parts.vitals.will()),
            retain=True,
        )
        return replace(self._link_settings, will=will)

    async def _serve(self, link: Link) -> None:
        telemetry = Telemetry(
            link,
            dock=self._dock,
            board=self._parts.board,
            vitals=self._parts.vitals,
            notices=self._parts.notices,
            pace=self._pace.telemetry,
        )
        await self._recount()
        await link.subscribe(of_dock(self._dock, Channel.RECEIPTS))
        await link.subscribe(REGISTRY)
        await link.subscribe(of_dock(self._dock, Channel.COMMANDS))
        attestations = self._parts.attestations
        if attestations is not None:
            await link.subscribe(of_dock(self._dock, Channel.ATTESTED))
        await telemetry.introduce()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._receive(link), name="uplink answers")
            group.create_task(self._publish_manifests(link), name="uplink manifests")
            group.create_task(telemetry.run(), name="uplink telemetry")
            group.create_task(self._publish_answers(link), name="uplink command answers")
            group.create_task(self._cosign(link), name="uplink cosignatures")
            if attestations is not None:
                group.create_task(attestations.run(link), name="uplink attestations")

    async def _receive(self, link: Link) -> None:
        async for message in link.messages():
            await self._handle(message)
            await link.acknowledge(message)

    async def _handle(self, message: Message) -> None:
        """Commit what follows from a message; after a crash before the end, it comes again.

        A message that we fail at would come again for ever, and hold up all that are behind it:
        it is kept like one that nobody could read.
        """
        try:
            await self._obey(message)
        except Exception as error:
            if disk_failure(error) is not None:
                raise
            _log.exception("a message could not be handled", topic=message.topic)
            problem = Unhandled(code=PART_FAILED, detail=repr(error))
            await self._parts.notices.keep_unhandled(message.topic, message.payload, problem)
        await self._recount()

    async def _obey(self, message: Message) -> None:
        if message.topic == of_dock(self._dock, Channel.RECEIPTS):
            await self._obey_answer(message)
        elif message.topic == of_dock(self._dock, Channel.COMMANDS):
            await self._parts.commands.take(message.topic, message.payload)
        elif message.topic == of_dock(self._dock, Channel.ATTESTED) and self._parts.attestations:
            await self._parts.attestations.take(message.topic, message.payload)
        elif message.topic == REGISTRY:
            registry = await self._parts.store.take_registry(message.topic, message.payload)
            if registry is not None:
                self._parts.vitals.registry_version = registry.version
                _log.info("registry", version=registry.version)
                self._parts.registry.replace(registry)
        else:
            problem = Unhandled(
                code=Contradiction.FOREIGN_TOPIC.value, detail=f"topic {message.topic[:200]!r}"
            )
            await self._parts.notices.keep_unhandled(message.topic, message.payload, problem)

    async def _obey_answer(self, message: Message) -> None:
        effect = await self._parts.store.take_answer(message.topic, message.payload)
        _log.info("answer", decision=type(effect.decision).__name__, uploads=len(effect.uploads))
        if effect.uploads and not self._parts.uploads.offer(effect.uploads):
            _log.info("the upload queue is full; the archive will be asked again")
        if effect.docking is not None:
            _log.info("docking receipted", docking=effect.docking.docking_id)
        if effect.publish_from is not None:
            known = self._forgotten_from
            wanted = effect.publish_from
            self._forgotten_from = wanted if known is None else min(known, wanted)
        if isinstance(effect.decision, Receipted):
            self._parts.vitals.counters.receipts += 1
            self._parts.receipts.beat()

    async def _publish_answers(self, link: Link) -> None:
        """Tell what became of commands; one that the broker does not take is lost, and logged."""
        desk, topic = self._parts.commands, of_dock(self._dock, Channel.ANSWERS)
        while True:
            beats = desk.told.beats
            while answer := desk.next_answer():
                try:
                    await link.publish(topic, strict_json.encode(answer))
                except LinkRefusedError as error:
                    _log.error("answer not taken", code=error.code, detail=str(error))
                desk.answer_told(answer)
            await desk.told.beyond(beats)

    async def _cosign(self, link: Link) -> None:
        """Say what was seen of the archive's log, after each connection and whenever it grew."""
        log, topic = self._parts.store.log, of_dock(self._dock, Channel.COSIGNATURES)
        while True:
            beats = log.changes.beats
            if seen := log.seen(self._parts.key):
                try:
                    await link.publish(topic, strict_json.encode(seen))
                except LinkRefusedError as error:
                    _log.error("cosignature not taken", code=error.code, detail=str(error))
            await log.changes.beyond(beats)

    async def _recount(self) -> None:
        vitals = self._parts.vitals
        vitals.outbox = await self._parts.store.counts()
        vitals.touched.set()

    async def _publish_manifests(self, link: Link) -> None:
        """Publish what has no receipt, in order; what is new at once, everything now and then."""
        while True:
            all_from, self._forgotten_from = self._forgotten_from, None
            last = await self._publish_after(link, 0, all_from=all_from)
            await self._recount()
            due_s = asyncio.get_running_loop().time() + self._pace.reconcile_s
            while await self._sealed_before(due_s):
                last = await self._publish_after(link, last)
                await self._recount()

    async def _sealed_before(self, due_s: float) -> bool:
        try:
            async with asyncio.timeout_at(due_s):
                await self._sealed.wait()
        except TimeoutError:
            return False
        self._sealed.clear()
        return True

    async def _publish_after(self, link: Link, last: int, *, all_from: int | None = None) -> int:
        """Publish manifests above number *last*; return the highest number that was looked at."""
        store = self._parts.store
        while manifest := await store.next_unreceipted(after=last, all_from=all_from):
            last = manifest.sequence
            # The archive has said what it needs of this one, and it is on its way.
            if not self._parts.uploads.is_busy(manifest.manifest_id):
                await self._publish_manifest(link, manifest)
        return last

    async def _publish_manifest(self, link: Link, manifest: KnownManifest) -> None:
        timeout_s = _PUBLISH_TIMEOUT_S + len(manifest.envelope) / _SLOWEST_BYTES_S
        topic = of_dock(self._dock, Channel.MANIFESTS)
        try:
            delivered = await link.publish(topic, manifest.envelope, timeout_s=timeout_s)
        except LinkRefusedError as error:
            await self._note_refused(manifest, error)
        else:
            _log.debug("manifest published", sequence=manifest.sequence, to=delivered.value)

    async def _note_refused(self, manifest: KnownManifest, error: LinkRefusedError) -> None:
        """Go on with the next one: it stays in the outbox and is published again."""
        self._parts.vitals.problem = f"{error.code}: {error}"
        _log.error("manifest not taken", sequence=manifest.sequence, detail=str(error))
        if manifest.sequence not in self._alerted:
            self._alerted.add(manifest.sequence)
            text = f"the broker does not take manifest {manifest.sequence}: {error}"
            facts = {"sequence": str(manifest.sequence), "reason": f"0x{error.reason_code:02x}"}
            await self._parts.notices.raise_alert(Notice(code=error.code, text=text, facts=facts))


def _first(group: BaseExceptionGroup[LinkError]) -> LinkError:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
