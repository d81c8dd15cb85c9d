"""A dock that costs next to nothing: MQTT 5 over TLS with packets that were made beforehand.

In the field each dock has a machine of its own. Here all docks, the broker and the archive share
this machine's cores, so what publishes must leave them to what is measured. It keeps what the
standard asks of a client: window, packet ids, an acknowledgement for whatever arrives.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, cast

_CONNECT, _CONNACK, _PUBLISH, _PUBACK = 0x10, 0x20, 0x30, 0x40
_SUBSCRIBE, _SUBACK = 0x82, 0x90
_QOS_1: Final = 0x02
_CLEAN_START: Final = 0x02
_RECEIVE_MAXIMUM: Final = 0x21  # MQTT 5.0 §3.1.2.11.3
_WINDOW: Final = 64
_FAILURE: Final = 0x80


class DockClient(asyncio.Protocol):
    """Publishes envelopes in order, and gives what it receives to *received*."""

    def __init__(self, name: str, topic: str, received: Callable[[bytes], None]) -> None:
        self.ready = asyncio.get_running_loop().create_future()
        self._name, self._topic, self._received = name, topic, received
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[bytes] = deque()
        self._free = deque(range(1, _WINDOW + 1))
        self._buffer = bytearray()

    async def connect(self, port: int, tls: ssl.SSLContext, answers: str) -> None:
        """Connect to the broker on loopback and subscribe to *answers*."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(
            lambda: self, "127.0.0.1", port, ssl=tls, server_hostname="127.0.0.1"
        )
        properties = bytes([_RECEIVE_MAXIMUM, 0xFF, 0xFF])
        body = _text("MQTT") + bytes([5, _CLEAN_START, 0, 0, len(properties)]) + properties
        self._write(_packet(_CONNECT, body + _text(self._name)))
        self._write(_packet(_SUBSCRIBE, b"\0\1\0" + _text(answers) + b"\1"))
        await self.ready

    def publish(self, envelopes: Iterable[bytes]) -> None:
        """Send *envelopes* as the window has room; to be called once."""
        self._waiting.extend(envelopes)
        self._send()

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection (asyncio calls this)."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let whoever waits know (asyncio calls this)."""
        if not self.ready.done():
            self.ready.set_exception(exc or ConnectionError("the broker hung up"))

    def data_received(self, data: bytes) -> None:
        """Take what arrived (asyncio calls this)."""
        self._buffer += data
        acknowledged = bytearray()
        for kind, body in self._packets():
            if kind & 0xF0 == _PUBLISH:
                after_topic = 2 + int.from_bytes(body[:2])
                properties_bytes, start = _variable(body, after_topic + 2)
                acknowledged += _packet(_PUBACK, body[after_topic : after_topic + 2])
                self._received(body[start + properties_bytes :])
            elif kind == _PUBACK:
                if len(body) > 2 and body[2] >= _FAILURE:  # noqa: PLR2004 -- id, then reason code
                    raise ConnectionError(f"the broker refuses a manifest: {body[2]:#x}")
                self._free.append(int.from_bytes(body[:2]))
            elif kind == _SUBACK:
                self.ready.set_result(None)
        if acknowledged:
            self._write(bytes(acknowledged))
        self._send()

    def _send(self) -> None:
        packets = []
        while self._free and self._waiting:
            head = _text(self._topic) + self._free.popleft().to_bytes(2) + b"\0"
            packets.append(_packet(_PUBLISH | _QOS_1, head + self._waiting.popleft()))
        if packets:
            self._write(b"".join(packets))

    def _packets(self) -> Iterator[tuple[int, bytes]]:
        buffer = self._buffer
        start = 0
        while True:
            try:
                length, body = _variable(buffer, start + 1)
            except IndexError:
                break
            if len(buffer) < body + length:
                break
            yield buffer[start], bytes(buffer[body : body + length])
            start = body + length
        del buffer[:start]

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


def _variable(data: bytes | bytearray, start: int) -> tuple[int, int]:
    """Return a number of seven bits a byte (MQTT 5.0 §1.5.5), and where it ends."""
    number = shift = 0
    while True:
        byte = data[start]
        number |= (byte & 0x7F) << shift
        start += 1
        if byte < 0x80:  # noqa: PLR2004 -- the last one's high bit is clear
            return number, start
        shift += 7


def _packet(kind: int, body: bytes) -> bytes:
    length = bytearray()
    left = len(body)
    while True:
        left, byte = divmod(left, 0x80)
        length.append(byte | (0x80 if left else 0))
        if not left:
            return bytes([kind]) + bytes(length) + body


def _text(text: str) -> bytes:
    return len(text.encode()).to_bytes(2) + text.encode()
