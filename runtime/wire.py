"""The library's side of one MQTT connection: paho's callbacks as awaits.

aiomqtt gives us the event loop's side of paho: connecting, reading, writing, keep-alive. Its own
calls are not used: they drop reason codes, and when the connection breaks they go on waiting.
Beyond its public API we use `aiomqtt.Client._client` (the paho client) and `._disconnected` (set
when reading raised), and paho's `Client._sock_close`; tests/runtime/test_link_library.py fails
when one of them goes away or changes its meaning.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final, cast

import aiomqtt
from paho.mqtt import client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from runtime.errors import LinkLostError, LinkRefusedError

MAX_IN_FLIGHT: Final = 20  # paho's own window; the broker may ask for less

_LEAVE_TIMEOUT_S: Final = 5.0

_log = logging.getLogger(__name__)


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


class Wire:
    """One connection of one client object, from `connect` to `leave`, each called once.

    Attributes:
        session_present: The broker remembered our session.
        max_packet_bytes: The biggest packet that the broker takes; None if it did not say.
        incoming: What arrived, in order, with None behind the last.
    """

    def __init__(self, client: aiomqtt.Client) -> None:
        self.session_present = False
        self.max_packet_bytes: int | None = None
        self.incoming: asyncio.Queue[Message | None] = asyncio.Queue()
        self._refusal: ReasonCode | None = None
        self._lost: str | None = None
        self._ended = asyncio.Event()
        self._answers: dict[int, asyncio.Future[ReasonCode]] = {}
        self._window = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._loop = asyncio.get_running_loop()
        self._client = client
        self._client._disconnected.add_done_callback(self._on_failure)  # noqa: SLF001 -- see above
        self._paho = self._client._client  # noqa: SLF001 -- see above
        self._tell_library = cast("Callable[..., None]", self._paho.on_connect)
        self._paho.manual_ack_set(on=True)
        self._paho.on_connect = self._on_connect
        self._paho.on_disconnect = self._on_disconnect
        self._paho.on_message = self._on_message
        self._paho.on_publish = self._on_publish
        self._paho.on_subscribe = self._on_subscribe
        self._paho.on_socket_register_write = self._on_socket_register_write

    async def connect(self) -> None:
        """Connect.

        Raises:
            LinkLostError: The broker cannot be reached, or hung up, or does not answer.
            LinkRefusedError: The broker does not want us.
        """
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
        self.refuse_lost()

    async def leave(self, *, orderly: bool) -> None:
        """Disconnect; unless *orderly*, the broker publishes the will."""
        reason = "Normal disconnection" if orderly else "Disconnect with will message"
        try:
            code = self._paho.disconnect(ReasonCode(PacketTypes.DISCONNECT, reason))
            if code == paho.MQTT_ERR_SUCCESS:
                async with asyncio.timeout(_LEAVE_TIMEOUT_S):
                    await self._ended.wait()
        except TimeoutError:
            _log.warning("the broker did not take our goodbye within %g s", _LEAVE_TIMEOUT_S)
        finally:
            self._lose("we left")

    async def subscribe(self, topic: str, *, qos: int, timeout_s: float) -> ReasonCode:
        """Send a SUBSCRIBE; return what the SUBACK says.

        Raises:
            LinkLostError: The connection ended, or there was no answer in time, which ends it.
        """
        async with self._answered_within(timeout_s):
            code, mid = self._paho.subscribe(topic, qos)
            if code != paho.MQTT_ERR_SUCCESS or mid is None:
                raise self._lose(f"subscribe: {paho.error_string(code)}")
            return await self._answer(mid)

    async def publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool, timeout_s: float
    ) -> ReasonCode:
        """Send a PUBLISH when its turn comes; return what the PUBACK says.

        At QoS 0 this is success as soon as the message was handed to the network.

        Raises:
            LinkLostError: The connection ended, or there was no answer in time, which ends it.
        """
        async with self._answered_within(timeout_s):
            return await self._answer(await self._send(topic, payload, qos=qos, retain=retain))

    def acknowledge(self, mid: int) -> None:
        """Send a PUBACK.

        Raises:
            LinkLostError: The connection ended.
        """
        self.refuse_lost()
        self._paho.ack(mid, 1)

    def refuse_lost(self) -> None:
        """Raise LinkLostError if the connection ended."""
        if self._lost is not None:
            raise LinkLostError(self._lost)

    @contextlib.asynccontextmanager
    async def _answered_within(self, timeout_s: float) -> AsyncIterator[None]:
        self.refuse_lost()
        try:
            async with asyncio.timeout(timeout_s):
                yield
        except TimeoutError:
            raise self._lose(f"no answer within {timeout_s:g} s") from None

    async def _send(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> int:
        """Send when the window has room; the answer, whether awaited or not, makes room again."""
        await self._window.acquire()
        sent = False
        try:
            self.refuse_lost()
            info = self._paho.publish(topic, payload, qos, retain)
            if info.rc != paho.MQTT_ERR_SUCCESS:
                raise self._lose(f"publish: {paho.error_string(info.rc)}")
            sent = True
        finally:
            if not sent:
                self._window.release()
        return info.mid

    async def _answer(self, mid: int) -> ReasonCode:
        answer: asyncio.Future[ReasonCode] = self._loop.create_future()
        self._answers[mid] = answer
        try:
            return await answer
        finally:
            del self._answers[mid]

    def _answered(self, mid: int, reason_code: ReasonCode) -> None:
        answer = self._answers.get(mid)
        if answer is not None and not answer.done():
            answer.set_result(reason_code)

    def _lose(self, why: str) -> LinkLostError:
        """End the connection for everybody who waits on it; the first reason is the one told."""
        if self._lost is None:
            self._lost = why
            self._ended.set()
            self.incoming.put_nowait(None)
            self._window.release()  # wakes the first who waits, who on failing wakes the next
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(LinkLostError(why))
            # Not at once: paho may be in a callback, under a lock that closing takes too.
            self._loop.call_soon(self._paho._sock_close)  # noqa: SLF001 -- see above
        return LinkLostError(self._lost)

    def _on_socket_register_write(
        self, _client: paho.Client, _userdata: Any, socket: "paho.SocketLike"
    ) -> None:
        # May be called in the thread that connects.
        self._loop.call_soon_threadsafe(self._watch, socket)

    def _watch(self, socket: "paho.SocketLike") -> None:
        # aiomqtt would watch a number, which by now may belong to another's new file.
        if socket.fileno() >= 0 and self._paho.want_write():
            self._loop.add_writer(socket.fileno(), self._write)

    def _write(self) -> None:
        try:
            self._paho.loop_write()
        except Exception as error:  # noqa: BLE001 -- nobody is above us but the loop, which goes on
            self._lose(f"writing failed: {error!r}")

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
        self.max_packet_bytes = getattr(properties, "MaximumPacketSize", None)
        in_flight = getattr(properties, "ReceiveMaximum", MAX_IN_FLIGHT)
        self._window = asyncio.Semaphore(min(in_flight, MAX_IN_FLIGHT))
        self._tell_library(client, userdata, flags, reason_code, properties)

    def _on_disconnect(
        self,
        _client: paho.Client,
        _userdata: Any,
        flags: paho.DisconnectFlags,
        reason_code: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._lose(f"the broker ended the connection: {reason_code}")
        else:
            self._lose(f"the connection broke: {reason_code}")

    def _on_failure(self, disconnected: asyncio.Future[None]) -> None:
        if not disconnected.cancelled():
            self._lose(f"reading failed: {disconnected.exception()!r}")

    def _on_message(self, _client: paho.Client, _userdata: Any, arrived: paho.MQTTMessage) -> None:
        message = Message(
            topic=arrived.topic,
            payload=bytes(arrived.payload),
            retain=arrived.retain,
            mid=arrived.mid,
            qos=arrived.qos,
        )
        self.incoming.put_nowait(message)

    def _on_publish(
        self,
        _client: paho.Client,
        _userdata: Any,
        mid: int,
        reason_code: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._window.release()
        self._answered(mid, reason_code)

    def _on_subscribe(
        self,
        _client: paho.Client,
        _userdata: Any,
        mid: int,
        reason_codes: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        self._answered(mid, reason_codes[0])
