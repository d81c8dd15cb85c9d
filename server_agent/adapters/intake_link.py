"""The archive's side of MQTT: what docks publish comes in, what the archive signed goes out.

A message is acknowledged when it is committed, and not before; its answer goes out meanwhile. An
answer that gets lost does no harm: the dock asks again until it has its receipt.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeVar

import structlog
from sqlalchemy.exc import SQLAlchemyError

from protocol import strict_json
from protocol.commands import CommandAnswer
from protocol.errors import ProtocolError
from protocol.identifiers import DockId
from protocol.messages import MAX_TELEMETRY_BYTES, DockStatus
from protocol.topics import REGISTRY, Channel, of_all_docks, of_dock, parse_dock_topic
from runtime.link import (
    Link,
    LinkError,
    LinkLostError,
    LinkRefusedError,
    LinkSettings,
    Message,
    open_link,
)
from server_agent.catalogue.book import Received
from server_agent.signing import Answer

CLIENT_ID: Final = "bayward-archive"

_MANIFESTS: Final = of_all_docks(Channel.MANIFESTS)
_ALERTS: Final = of_all_docks(Channel.ALERTS)
_ATTESTATIONS: Final = of_all_docks(Channel.ATTESTATIONS)
_STATUS: Final = of_all_docks(Channel.STATUS)
_ANSWERS: Final = of_all_docks(Channel.ANSWERS)
_COSIGNATURES: Final = of_all_docks(Channel.COSIGNATURES)
# One transaction: as many messages as are there, but no more than can be parsed in a second.
_BATCH_MESSAGES: Final = 256
_BATCH_BYTES: Final = 8 * 1024 * 1024
_UNSENT_ANSWERS: Final = 10_000
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 10.0

_T = TypeVar("_T")

_log = structlog.get_logger(__name__)


class IntakeLink:
    """Connects, and connects again, until cancelled."""

    def __init__(
        self,
        settings: LinkSettings,
        *,
        take: Callable[[Sequence[Received]], Awaitable[Sequence[Answer]]],
        registry: Callable[[], bytes],
        answered: Callable[[CommandAnswer], None],
        watched: Callable[[Received], Awaitable[None]],
    ) -> None:
        """Link the broker that *settings* name with the archive.

        Args:
            settings: With CLIENT_ID and the archive's certificate.
            take: Keeps messages durably, in order, and returns what to answer.
            registry: Returns the signed registry that is in force.
            answered: Is told what a dock says to a command.
            watched: Takes in what a dock says of the custody log.
        """
        self._settings = settings
        self._take = take
        self._registry = registry
        self._answered = answered
        self._watched = watched
        self._registry_changed = asyncio.Event()
        self._unsent: asyncio.Queue[Answer] = asyncio.Queue(_UNSENT_ANSWERS)
        self._online: dict[DockId, bool] = {}

    def publish(self, answer: Answer) -> None:
        """Let an answer go out when there is a connection."""
        try:
            self._unsent.put_nowait(answer)
        except asyncio.QueueFull:
            _log.warning("answer dropped: the dock asks again", dock=answer.dock)

    def publish_registry(self) -> None:
        """Let the registry go out again: it has changed."""
        self._registry_changed.set()

    async def run(self) -> None:
        """Keep the link until cancelled."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                async with open_link(self._settings) as link:
                    _log.info("broker connected", session_present=link.session_present)
                    pause_s = _FIRST_PAUSE_S
                    await self._serve(link)
            except* LinkError as group:
                _log.warning("broker lost", reasons=[str(one) for one in _leaves(group)])
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _serve(self, link: Link) -> None:
        arrived: asyncio.Queue[Message] = asyncio.Queue()
        for topic in (
            _MANIFESTS,
            _ALERTS,
            _ATTESTATIONS,
            _STATUS,
            _ANSWERS,
            _COSIGNATURES,
        ):
            await link.subscribe(topic)
        self._registry_changed.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._receive(link, arrived), name="intake receive")
            tasks.create_task(self._take_in(link, arrived), name="intake take in")
            tasks.create_task(self._send_answers(link), name="intake answer")
            tasks.create_task(self._send_registry(link), name="intake registry")

    async def _receive(self, link: Link, arrived: asyncio.Queue[Message]) -> None:
        # The broker's window for us bounds the queue: nothing in it has been acknowledged.
        async for message in link.messages():
            arrived.put_nowait(message)

    async def _take_in(self, link: Link, arrived: asyncio.Queue[Message]) -> None:
        while True:
            batch = await _next_batch(arrived)
            seen, kept = list[Received](), list[Received]()
            for message in batch:
                if not (self._is_status(message) or self._is_answer(message)):
                    one = Received(untrusted_topic=message.topic, untrusted_body=message.payload)
                    (seen if _is_cosignature(message) else kept).append(one)
            await self._until_kept(partial(self._take_seen, seen))
            for answer in await self._until_kept(partial(self._take, kept)):
                self.publish(answer)
            for message in batch:
                await link.acknowledge(message)

    async def _take_seen(self, messages: Sequence[Received]) -> None:
        for one in messages:
            await self._watched(one)

    async def _until_kept(self, take: Callable[[], Awaitable[_T]]) -> _T:
        """While our own disk fails, messages stay with the broker: nothing is acknowledged."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return await take()
            except (SQLAlchemyError, OSError):
                _log.exception("messages could not be kept")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _send_answers(self, link: Link) -> None:
        while True:
            answers = [await self._unsent.get()]
            while not self._unsent.empty() and len(answers) < _BATCH_MESSAGES:
                answers.append(self._unsent.get_nowait())
            try:
                await _publish_all(link, answers)
            except LinkLostError:
                for answer in answers:  # some of them a second time, which does no harm
                    self.publish(answer)
                raise

    async def _send_registry(self, link: Link) -> None:
        while True:
            await self._registry_changed.wait()
            self._registry_changed.clear()
            try:
                await link.publish(REGISTRY, self._registry(), retain=True)
            except LinkRefusedError as error:
                _log.error("registry refused by the broker", reason=str(error))
            else:
                _log.info("registry published")

    def _is_answer(self, message: Message) -> bool:
        """Return whether a message is about a command; whoever asked is told."""
        try:
            topic = parse_dock_topic(message.topic)
            if topic.channel is not Channel.ANSWERS:
                return False
            parsed = strict_json.parse(
                message.payload, CommandAnswer, max_bytes=MAX_TELEMETRY_BYTES
            )
        except (ProtocolError, ValueError) as error:
            is_answer = message.topic.endswith(f"/{Channel.ANSWERS.value}")
            if is_answer:
                _log.warning("answer unreadable", topic=message.topic, reason=str(error))
            return is_answer
        if parsed.dock == topic.dock:
            self._answered(parsed)
        return True

    def _is_status(self, message: Message) -> bool:
        """Return whether a message is about a dock's presence, which the log is told of."""
        try:
            topic = parse_dock_topic(message.topic)
            if topic.channel is not Channel.STATUS:
                return False
            status = strict_json.parse(message.payload, DockStatus, max_bytes=MAX_TELEMETRY_BYTES)
        except (ProtocolError, ValueError) as error:
            is_status = message.topic.endswith(f"/{Channel.STATUS.value}")
            if is_status:
                _log.warning("dock status unreadable", topic=message.topic, reason=str(error))
            return is_status
        if self._online.get(topic.dock) != status.online:
            self._online[topic.dock] = status.online
            _log.info(
                "dock online" if status.online else "dock offline",
                dock=topic.dock,
                pending=status.pending_manifests,
            )
        return True


def _is_cosignature(message: Message) -> bool:
    return message.topic.endswith(f"/{Channel.COSIGNATURES.value}")


async def _next_batch(arrived: asyncio.Queue[Message]) -> list[Message]:
    batch = [await arrived.get()]
    size_bytes = len(batch[0].payload)
    while not arrived.empty() and len(batch) < _BATCH_MESSAGES and size_bytes < _BATCH_BYTES:
        batch.append(arrived.get_nowait())
        size_bytes += len(batch[-1].payload)
    return batch


async def _publish_all(link: Link, answers: Sequence[Answer]) -> None:
    """Publish *answers* in order; one that the broker refuses is lost, which does no harm.

    Raises:
        LinkLostError: The connection ended.
    """

    async def publish(answer: Answer) -> None:
        try:
            await link.publish(of_dock(answer.dock, answer.channel), answer.envelope)
        except LinkRefusedError as error:
            _log.warning("answer refused by the broker", dock=answer.dock, reason=str(error))

    results = await asyncio.gather(*map(publish, answers), return_exceptions=True)
    for failure in results:
        if failure is not None:
            raise failure


def _leaves(group: BaseExceptionGroup[LinkError]) -> list[BaseException]:
    return [
        leaf
        for one in group.exceptions
        for leaf in (_leaves(one) if isinstance(one, BaseExceptionGroup) else [one])
    ]
