"""One connection to the MQTT broker, on which nothing is lost silently.

What the client library would do by itself, and what this adapter does instead:

- it acknowledges what it receives before anybody has seen it → `Link.acknowledge` does, and what
  was not acknowledged comes again in the next session;
- it takes a PUBACK that says "not authorised" for success → the reason code decides;
- it keeps messages of an earlier connection when a client object is used again → each connection
  has its own object, and reconnecting is the caller's loop;
- it waits for its own timeout when the connection breaks under a call → every waiting call fails
  at once, with `LinkLostError`.

aiomqtt gives us the event loop's side of paho: connecting, reading, writing, keep-alive. Beyond
its public API we use `aiomqtt.Client._client` (the paho client), `aiomqtt.Client._disconnected`
(set when reading or writing raised) and paho's `Client._sock_close`;
tests/runtime/test_link_library.py fails when one of them goes away or changes its meaning.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import Enum, unique
from typing import Any, Final, cast

import aiomqtt
from paho.mqtt import client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from runtime.errors import ForeignMessageError, LinkError, LinkLostError, LinkRefusedError

__all__ = [
    "Delivered",
    "ForeignMessageError",
    "Link",
    "LinkError",
    "LinkLostError",
    "LinkRefusedError",
    "LinkSettings",
    "Message",
    "Will",
    "open_link",
]

SESSION_EXPIRY_S: Final = 7 * 24 * 3600

_CONNECT_TIMEOUT_S: Final = 10.0
_SUBSCRIBE_TIMEOUT_S: Final = 30.0
_LEAVE_TIMEOUT_S: Final = 5.0
_MAX_IN_FLIGHT: Final = 20  # paho's own window; the broker may ask for less
_HEADER_BYTES: Final = 16  # fixed header 5, topic length 2, packet id 2, properties 1; and to spare

# MQTT 5.0 §2.4
_NO_MATCHING_SUBSCRIBERS: Final = 0x10
_FIRST_FAILURE: Final = 0x80
_PACKET_TOO_LARGE: Final = 0x95

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """What the broker publishes for us, at QoS 1, when we go without saying so."""

    topic: str
    payload: bytes
    retain: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """How to reach the broker, and who we are there.

    Attributes:
        host: Name or address; with TLS it must be in the broker's certificate.
        port: 1 to 65535.
        client_id: Always the same for the same program, and unlike every other program's: the
            session, and with it what we have not acknowledged, hangs on it.
        tls: From runtime.tls; None for an unprotected listener on this machine.
        keepalive_s: A silent broker is given up after at most twice this long.
        will: None for no will.
        receive_maximum: How many unacknowledged messages the broker may have on their way to us.
        max_packet_bytes: Neither sent nor accepted beyond this. The broker drops a bigger message
            without a word to either end, so it is one figure for a whole site.
    """

    host: str
    port: int
    client_id: str
    tls: ssl.SSLContext | None
    keepalive_s: int = 20
    will: Will | None = None
    receive_maximum: int = 64
    max_packet_bytes: int = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What somebody published; it belongs to the connection that it came by.

    Attributes:
        retain: The broker had kept it for whoever would subscribe.
        mid: Its packet id, 0 at QoS 0.
        qos: 0, or 1: then it is to be acknowledged.
    """

    topic: str
    payload: bytes
    retain: bool
    mid: int
    qos: int


@unique
class Delivered(Enum):
    """What is known of a published message. None of them means that anybody has kept it."""

    ACCEPTED = "accepted"
    NO_SUBSCRIBER = "no_subscriber"
    UNCONFIRMED = "unconfirmed"  # QoS 0: handed to the network


@contextlib.asynccontextmanager
async def open_link(settings: LinkSettings) -> AsyncIterator["Link"]:
    """Connect for the length of the block; for the next connection, call again.

    The session at the broker outlives the connection by `SESSION_EXPIRY_S`. Leaving the block
    normally says goodbye, and the will is not published. Leaving it by any exception, be it a
    cancellation, has the broker publish the will: nobody is left to say how we are.

    Raises:
        LinkLostError: The broker cannot be reached, is not the one its certificate should name, or
            does not answer.
        LinkRefusedError: The broker does not want us.
    """
    link = Link(settings)
    orderly = False
    try:
        await link.connect()
        yield link
        orderly = True
    finally:
        await link.leave(orderly=orderly)


class Link:
    """One connection; from `open_link`. Not thread-safe: it belongs to the loop it was opened in.

    Attributes:
        session_present: The broker remembered our session: subscriptions and messages of before
            are there. Otherwise whatever was on its way to us is gone.
    """

    def __init__(self, settings: LinkSettings) -> None:
        self.session_present = False
        self._settings = settings
        self._refusal: ReasonCode | None = None
        self._lost: str | None = None
        self._ended = asyncio.Event()
        self._incoming: asyncio.Queue[Message | None] = asyncio.Queue()
        self._unacknowledged: dict[int, Message] = {}
        self._replies: dict[int, asyncio.Future[ReasonCode]] = {}
        self._window = asyncio.Semaphore(_MAX_IN_FLIGHT)
        self._max_packet_bytes = settings.max_packet_bytes
        self._client = _client(settings)
        self._client._disconnected.add_done_callback(self._on_failure)  # noqa: SLF001 -- see above
        self._paho = self._client._client  # noqa: SLF001 -- see above
        self._paho.manual_ack_set(on=True)
        self._tell_library = cast("Callable[..., None]", self._paho.on_connect)
        self._paho.on_connect = self._on_connect
        self._paho.on_disconnect = self._on_disconnect
        self._paho.on_message = self._on_message
        self._paho.on_publish = self._on_publish
        self._paho.on_subscribe = self._on_subscribe

    async def subscribe(self, topic: str, qos: int = 1) -> None:
        """Ask for what is published under a topic filter; once for each connection.

        Raises:
            LinkRefusedError: The broker said no, or grants less than *qos*.
            LinkLostError: The connection ended.
        """
        async with self._answered_within(_SUBSCRIBE_TIMEOUT_S):
            code, mid = self._paho.subscribe(topic, qos)
            if code != paho.MQTT_ERR_SUCCESS or mid is None:
                raise self._lose(f"subscribe: {paho.error_string(code)}")
            granted = await self._reply(mid)
        if granted.value < qos or granted.value >= _FIRST_FAILURE:
            raise LinkRefusedError(
                f"subscribe to {topic!r}", reason_code=granted.value, reason=str(granted)
            )

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        timeout_s: float = 30.0,
    ) -> Delivered:
        """Publish a message; at QoS 1, wait until the broker has answered for it.

        Calls that overlap are sent in the order of the calls. A broker that leaves a message
        unanswered is given up: the connection ends.

        Args:
            topic: Without wildcards.
            payload: Its exact bytes.
            qos: 0 or 1.
            retain: The broker keeps it for whoever subscribes later.
            timeout_s: For the answer, and for the turn to be sent.

        Raises:
            LinkRefusedError: The broker said no, or the message is too big (0x95): then it was not
                sent.
            LinkLostError: The connection ended, or there was no answer in time. The message may
                have arrived or not.
        """
        self._refuse_oversized(topic, payload)
        async with self._answered_within(timeout_s):
            answer = await self._reply(await self._send(topic, payload, qos=qos, retain=retain))
        if answer.value >= _FIRST_FAILURE:
            raise LinkRefusedError(
                f"publish to {topic!r}", reason_code=answer.value, reason=str(answer)
            )
        if qos == 0:
            return Delivered.UNCONFIRMED
        if answer.value == _NO_MATCHING_SUBSCRIBERS:
            return Delivered.NO_SUBSCRIBER
        return Delivered.ACCEPTED

    async def messages(self) -> AsyncIterator[Message]:
        """Yield what arrives, in order of arrival, until the connection ends.

        Nothing is dropped: what arrived before the end is still yielded. To be read by one task.

        Raises:
            LinkLostError: The connection ended, and all that had arrived was yielded.
        """
        while (message := await self._incoming.get()) is not None:
            yield message
        self._incoming.put_nowait(None)  # whoever asks again gets the same answer
        self._refuse_lost()

    async def acknowledge(self, message: Message) -> None:
        """Tell the broker that a message need not come again: what it asked for is committed.

        Acknowledge in order of arrival (MQTT 5.0 §4.6). The broker may still miss the
        acknowledgement; then the message does come again. At QoS 0 there is nothing to tell.

        Raises:
            ForeignMessageError: It is not an unacknowledged message of this connection.
            LinkLostError: The connection ended; the message comes again.
        """
        if message.qos == 0:
            return
        if self._unacknowledged.get(message.mid) is not message:
            raise ForeignMessageError(f"{message.topic!r}, packet {message.mid}")
        self._refuse_lost()
        del self._unacknowledged[message.mid]
        self._paho.ack(message.mid, message.qos)

    async def connect(self) -> None:
        """Connect; once, by `open_link`."""
        entering = asyncio.create_task(self._client.__aenter__(), name="mqtt connect")
        ended = asyncio.create_task(self._ended.wait(), name="mqtt connection ended")
        try:
            await asyncio.wait({entering, ended}, return_when=asyncio.FIRST_COMPLETED)
            if self._refusal is None:
                # Does nothing unless the broker hung up instead of answering.
                entering.cancel()
        finally:
            ended.cancel()
            # The thread that connects cannot be stopped, and gives up by itself after some
            # seconds. Leaving without waiting for it would leave its socket open.
            await asyncio.wait({entering})
            failure = None if entering.cancelled() else entering.exception()
        if self._refusal is not None:
            raise LinkRefusedError(
                "connect", reason_code=self._refusal.value, reason=str(self._refusal)
            )
        if isinstance(failure, aiomqtt.MqttError):
            raise self._lose(f"connect: {failure}")
        if failure is not None:
            raise failure
        self._refuse_lost()

    async def leave(self, *, orderly: bool) -> None:
        """Disconnect; once, by `open_link`. Without *orderly*, the broker publishes the will."""
        reason = "Normal disconnection" if orderly else "Disconnect with will message"
        try:
            code = self._paho.disconnect(ReasonCode(PacketTypes.DISCONNECT, reason))
            if code == paho.MQTT_ERR_SUCCESS:
                async with asyncio.timeout(_LEAVE_TIMEOUT_S):
                    await self._ended.wait()
        except TimeoutError:
            _log.warning("the broker did not take our goodbye within %s s", _LEAVE_TIMEOUT_S)
        finally:
            self._lose("we left")
            self._paho._sock_close()  # noqa: SLF001 -- see above

    @contextlib.asynccontextmanager
    async def _answered_within(self, timeout_s: float) -> AsyncIterator[None]:
        self._refuse_lost()
        try:
            async with asyncio.timeout(timeout_s):
                yield
        except TimeoutError:
            raise self._lose(f"no answer within {timeout_s:g} s") from None

    async def _send(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> int:
        """Send when the broker's window has room; its answer, whoever waits for it, makes room."""
        await self._window.acquire()
        sent = False
        try:
            self._refuse_lost()
            info = self._paho.publish(topic, payload, qos, retain)
            if info.rc != paho.MQTT_ERR_SUCCESS:
                raise self._lose(f"publish: {paho.error_string(info.rc)}")
            sent = True
        finally:
            if not sent:
                self._window.release()
        return info.mid

    async def _reply(self, mid: int) -> ReasonCode:
        answer: asyncio.Future[ReasonCode] = asyncio.get_running_loop().create_future()
        self._replies[mid] = answer
        try:
            return await answer
        finally:
            del self._replies[mid]

    def _refuse_oversized(self, topic: str, payload: bytes) -> None:
        packet_bytes = _HEADER_BYTES + len(topic.encode()) + len(payload)
        if packet_bytes > self._max_packet_bytes:
            raise LinkRefusedError(
                f"publish to {topic!r}",
                reason_code=_PACKET_TOO_LARGE,
                reason=f"{packet_bytes} bytes, at most {self._max_packet_bytes}",
            )

    def _refuse_lost(self) -> None:
        if self._lost is not None:
            raise LinkLostError(self._lost)

    def _lose(self, why: str) -> LinkLostError:
        """End the connection for everybody who waits on it; the first reason is the one told."""
        if self._lost is None:
            self._lost = why
            self._ended.set()
            self._incoming.put_nowait(None)
            self._window.release()  # wakes the first in the queue, who wakes the next
            for answer in self._replies.values():
                if not answer.done():
                    answer.set_exception(LinkLostError(why))
            # Not at once: paho may be in a callback, under a lock that closing takes too.
            loop = asyncio.get_running_loop()
            loop.call_soon(self._paho._sock_close)  # noqa: SLF001 -- see above
        return LinkLostError(self._lost)

    # paho calls these in the loop's thread.

    def _on_connect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.ConnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason_code.is_failure:
            self._refusal = reason_code
        self.session_present = flags.session_present
        in_flight = getattr(properties, "ReceiveMaximum", _MAX_IN_FLIGHT)
        self._window = asyncio.Semaphore(min(in_flight, _MAX_IN_FLIGHT))
        largest = getattr(properties, "MaximumPacketSize", self._max_packet_bytes)
        self._max_packet_bytes = min(largest, self._max_packet_bytes)
        self._tell_library(client, userdata, flags, reason_code, properties)

    def _on_disconnect(
        self,
        _client: paho.Client,
        _userdata: Any,
        flags: paho.DisconnectFlags,
        reason_code: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        ended_by = "the broker" if flags.is_disconnect_packet_from_server else "the connection"
        self._lose(f"ended by {ended_by}: {reason_code}")

    def _on_failure(self, disconnected: asyncio.Future[None]) -> None:
        if not disconnected.cancelled():
            self._lose(f"reading or writing failed: {disconnected.exception()!r}")

    def _on_message(self, _client: paho.Client, _userdata: Any, arrived: paho.MQTTMessage) -> None:
        message = Message(
            topic=arrived.topic,
            payload=bytes(arrived.payload),
            retain=arrived.retain,
            mid=arrived.mid,
            qos=arrived.qos,
        )
        if message.qos > 0:
            self._unacknowledged[message.mid] = message
        self._incoming.put_nowait(message)

    def _on_publish(
        self,
        _client: paho.Client,
        _userdata: Any,
        mid: int,
        reason_code: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._window.release()
        self._answer(mid, reason_code)

    def _on_subscribe(
        self,
        _client: paho.Client,
        _userdata: Any,
        mid: int,
        reason_codes: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        self._answer(mid, reason_codes[0])

    def _answer(self, mid: int, reason_code: ReasonCode) -> None:
        answer = self._replies.get(mid)
        if answer is not None and not answer.done():
            answer.set_result(reason_code)


def _client(settings: LinkSettings) -> aiomqtt.Client:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's gap
    properties.SessionExpiryInterval = SESSION_EXPIRY_S
    properties.ReceiveMaximum = settings.receive_maximum
    properties.MaximumPacketSize = settings.max_packet_bytes
    will = None
    if settings.will is not None:
        will = aiomqtt.Will(
            settings.will.topic, settings.will.payload, qos=1, retain=settings.will.retain
        )
    return aiomqtt.Client(
        settings.host,
        settings.port,
        identifier=settings.client_id,
        protocol=aiomqtt.ProtocolVersion.V5,
        clean_start=False,
        properties=properties,
        keepalive=settings.keepalive_s,
        timeout=_CONNECT_TIMEOUT_S,
        max_inflight_messages=_MAX_IN_FLIGHT,
        tls_context=settings.tls,
        will=will,
        logger=_log,
    )
