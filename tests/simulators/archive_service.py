"""An `Archive` on a network: it hears what docks publish, and answers."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from protocol import strict_json
from protocol.identifiers import DockId
from protocol.messages import MAX_TELEMETRY_BYTES, Alert, BayMessage, DockStatus, Metrics
from protocol.registry import Registry
from protocol.topics import REGISTRY, Channel, of_all_docks, of_dock, parse_dock_topic
from runtime.errors import LinkLostError
from runtime.link import Link, LinkSettings, Message, open_link
from tests.simulators.archive import Archive


@dataclass(slots=True)
class Heard:
    """What a dock told, in order of arrival."""

    statuses: list[DockStatus] = field(default_factory=list)
    bays: list[BayMessage] = field(default_factory=list)
    metrics: list[Metrics] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    manifests: list[bytes] = field(default_factory=list)


class ArchiveService:
    """An `Archive` on the broker; from `serve_archive`.

    Attributes:
        alter: What becomes of each answer before it is published; a test may drop or double it.
    """

    def __init__(self, archive: Archive, connection: Link, *, dock: DockId) -> None:
        self.archive = archive
        self.heard = Heard()
        self.alter: Callable[[bytes], list[bytes]] = lambda answer: [answer]
        self._connection = connection
        self._dock = dock
        self._news = asyncio.Event()
        self._arrived = asyncio.Event()

    async def until(self, condition: Callable[[Heard], bool]) -> None:
        """Return as soon as what was heard fulfils *condition*."""
        while not condition(self.heard):
            self._news.clear()
            await self._news.wait()

    async def publish_registry(self, registry: Registry) -> None:
        """Publish what the site knows, retained."""
        await self.publish(REGISTRY, self.archive.sign_registry(registry), retain=True)

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish anything."""
        await self._connection.publish(topic, payload, retain=retain)

    async def answer(self, payload: bytes) -> None:
        """Publish one message on the dock's receipts topic."""
        await self.publish(of_dock(self._dock, Channel.RECEIPTS), payload)

    async def run(self) -> None:
        """Take what docks publish, and answer."""
        self.archive.tus.on_file = lambda _manifest_id, _sha256: self._arrived.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take_messages(), name="archive messages")
            group.create_task(self._settle(), name="archive receipts")

    async def _take_messages(self) -> None:
        async for message in self._connection.messages():
            for answer in self._take(message):
                await self._say(answer)
            await self._connection.acknowledge(message)
            self._news.set()

    async def _settle(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            for answer in self.archive.settle():
                await self._say(answer)

    async def _say(self, answer: bytes) -> None:
        for altered in self.alter(answer):
            await self.answer(altered)

    def _take(self, message: Message) -> list[bytes]:
        channel, limit = parse_dock_topic(message.topic).channel, MAX_TELEMETRY_BYTES
        if channel is Channel.MANIFESTS:
            self.heard.manifests.append(message.payload)
            return self.archive.take_manifest(message.payload)
        if channel is Channel.COSIGNATURES:
            self.archive.log.take_seen(message.payload)
        elif channel is Channel.STATUS:
            self.heard.statuses.append(
                strict_json.parse(message.payload, DockStatus, max_bytes=limit)
            )
        elif channel is Channel.BAYS:
            self.heard.bays.append(strict_json.parse(message.payload, BayMessage, max_bytes=limit))
        elif channel is Channel.METRICS:
            self.heard.metrics.append(strict_json.parse(message.payload, Metrics, max_bytes=limit))
        elif channel is Channel.ALERTS:
            self.heard.alerts.append(strict_json.parse(message.payload, Alert, max_bytes=limit))
        return []


@contextlib.asynccontextmanager
async def serve_archive(
    archive: Archive, *, host: str, port: int, tls: ssl.SSLContext | None, dock: DockId
) -> AsyncIterator[ArchiveService]:
    """Connect *archive* to the broker for the length of the block."""
    settings = LinkSettings(host=host, port=port, client_id="archive", tls=tls)
    async with open_link(settings) as connection:
        service = ArchiveService(archive, connection, dock=dock)
        running = asyncio.create_task(service.run(), name="archive")
        for channel in (
            Channel.STATUS,
            Channel.BAYS,
            Channel.METRICS,
            Channel.ALERTS,
            Channel.MANIFESTS,
            Channel.COSIGNATURES,
        ):
            await connection.subscribe(of_all_docks(channel))
        try:
            yield service
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError, LinkLostError):
                await running
