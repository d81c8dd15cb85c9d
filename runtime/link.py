"""One connection to the MQTT broker, on which nothing is lost silently.

What MQTT clients do by themselves, and what this adapter does instead:

- they acknowledge what they receive before anybody has seen it → `Link.acknowledge` does, and
  what was not acknowledged comes again in the next session;
- they take a PUBACK that says "not authorised" for success → the reason code decides;
- they keep messages of an earlier connection when a client object is used again → each connection
  has its own object, and reconnecting is the caller's loop;
- they wait for their own timeout when the connection breaks under a call → every waiting call
  fails at once, with `LinkLostError`.
"""

import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from protocol.envelope import MAX_PACKET_BYTES
from runtime.errors import ForeignMessageError, LinkError, LinkLostError, LinkRefusedError
from runtime.wire import MAX_IN_FLIGHT, Message, Wire

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
_HEADER_BYTES: Final = 16  # fixed header 5, topic length 2, packet id 2, properties 1; and to spare

# MQTT 5.0 §2.4
_NO_MATCHING_SUBSCRIBERS: Final = 0x10
_FIRST_FAILURE: Final = 0x80
_PACKET_TOO_LARGE: Final = 0x95


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
    max_packet_bytes: int = MAX_PACKET_BYTES


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
    wire = Wire(_client(settings))
    orderly = False
    try:
        await wire.connect()
        yield Link(wire, max_packet_bytes=settings.max_packet_bytes)
        orderly = True
    finally:
        await wire.leave(orderly=orderly)


class Link:
    """One connection; from `open_link`. Not thread-safe: it belongs to the loop it was opened in.

    Attributes:
        session_present: The broker remembered our session: subscriptions and messages of before
            are there. Otherwise whatever was on its way to us is gone.
    """

    def __init__(self, wire: Wire, *, max_packet_bytes: int) -> None:
        self.session_present = wire.session_present
        self._wire = wire
        self._max_packet_bytes = min(max_packet_bytes, wire.max_packet_bytes or max_packet_bytes)
        self._unacknowledged: dict[int, Message] = {}

    async def subscribe(self, topic: str, qos: int = 1) -> None:
        """Ask for what is published under a topic filter; once for each connection.

        Raises:
            LinkRefusedError: The broker said no, or grants less than *qos*.
            LinkLostError: The connection ended.
        """
        granted = await self._wire.subscribe(topic, qos=qos, timeout_s=_SUBSCRIBE_TIMEOUT_S)
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
        packet_bytes = _HEADER_BYTES + len(topic.encode()) + len(payload)
        if packet_bytes > self._max_packet_bytes:
            raise LinkRefusedError(
                f"publish to {topic!r}",
                reason_code=_PACKET_TOO_LARGE,
                reason=f"{packet_bytes} bytes, at most {self._max_packet_bytes}",
            )
        answer = await self._wire.publish(
            topic, payload, qos=qos, retain=retain, timeout_s=timeout_s
        )
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
        while (message := await self._wire.incoming.get()) is not None:
            if message.qos > 0:
                self._unacknowledged[message.mid] = message
            yield message
        self._wire.incoming.put_nowait(None)  # whoever asks again gets the same answer
        self._wire.refuse_lost()

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
        self._wire.acknowledge(message.mid)
        del self._unacknowledged[message.mid]


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
        max_inflight_messages=MAX_IN_FLIGHT,
        tls_context=settings.tls,
        will=will,
    )
