"""Who may connect: so many at a time, and nobody who connects and says nothing.

Each connection costs a descriptor and memory. So they are limited in total, for each certificate,
and, before there is a certificate, for each address; and a connection that is within no request for
too long is closed, be it silent, slow with its headers, or kept for later.
"""

import asyncio
import contextlib
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Final

import structlog

from runtime.tls import peer_common_name

# When there are no descriptors left, accepting again at once would only fail again.
_OUT_OF_DESCRIPTORS_PAUSE_S: Final = 0.5
_BACKLOG: Final = 128

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorLimits:
    """How much of the archive's attention there is.

    Attributes:
        connections: In total.
        of_certificate: For each common name.
        of_address: From each address, while they have shown no certificate.
        handshake_s: A TLS handshake takes no longer.
        idle_s: A connection that is within no request for so long is closed.
    """

    connections: int = 1_024
    of_certificate: int = 32
    of_address: int = 64
    handshake_s: float = 10.0
    idle_s: float = 30.0


DEFAULT_DOOR_LIMITS: Final = DoorLimits()


@dataclass(slots=True)
class _Connection:
    name: str | None
    idle_since_s: float
    requests: int = 0


class Presence:
    """The connections that are open, and which of them are within a request."""

    def __init__(self) -> None:
        self._connections: dict[asyncio.Transport, _Connection] = {}

    @contextlib.contextmanager
    def request(self, transport: asyncio.Transport) -> Iterator[None]:
        """Tell that a connection is within a request for the length of the block."""
        connection = self._of(transport)
        connection.requests += 1
        try:
            yield
        finally:
            connection.requests -= 1
            connection.idle_since_s = asyncio.get_running_loop().time()

    def enter(self, transport: asyncio.Transport, limits: DoorLimits) -> bool:
        """Count a connection whose handshake is done; return False if its owner has too many."""
        entering = self._of(transport)
        self._forget_closed()
        count = sum(one.name == entering.name for one in self._connections.values())
        return count <= limits.of_certificate

    def count(self) -> int:
        """Return how many connections are open."""
        self._forget_closed()
        return len(self._connections)

    def end_idle(self, idle_s: float) -> None:
        """Close the connections that were within no request for too long."""
        self._forget_closed()
        oldest_s = asyncio.get_running_loop().time() - idle_s
        for transport, one in self._connections.items():
            if one.requests == 0 and one.idle_since_s < oldest_s:
                transport.abort()

    def _of(self, transport: asyncio.Transport) -> _Connection:
        if transport not in self._connections:
            name = peer_common_name(transport.get_extra_info("ssl_object"))
            now_s = asyncio.get_running_loop().time()
            self._connections[transport] = _Connection(name, now_s)
        return self._connections[transport]

    def _forget_closed(self) -> None:
        for transport in [one for one in self._connections if one.is_closing()]:
            del self._connections[transport]


@contextlib.asynccontextmanager
async def open_door(
    protocol: Callable[[], asyncio.BaseProtocol],
    presence: Presence,
    *,
    host: str,
    port: int,
    tls: ssl.SSLContext,
    limits: DoorLimits,
) -> AsyncIterator[int]:
    """Accept connections for the length of the block; yields the port that is listened on.

    Leaving the block lets nobody in any more; who is in stays.

    Args:
        protocol: Makes what serves a connection.
        presence: Told by whoever serves, when a request begins and ends.
        host: An address, or a name that has one.
        port: 0 takes a free one.
        tls: Asks for certificates.
        limits: How many, and how long.

    Raises:
        OSError: The address cannot be listened on.
    """
    loop = asyncio.get_running_loop()
    [(family, *_, address), *_] = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    with socket.create_server(address[:2], family=family, backlog=_BACKLOG) as listener:
        listener.settimeout(0)
        door = _Door(protocol, presence, tls, limits)
        async with asyncio.TaskGroup() as tasks:
            keeping = [
                tasks.create_task(door.accept(listener), name="door"),
                tasks.create_task(door.end_idle(), name="door idle"),
            ]
            try:
                yield listener.getsockname()[1]
            finally:
                for task in keeping:
                    task.cancel()
                await door.close()


class _Door:
    def __init__(
        self,
        protocol: Callable[[], asyncio.BaseProtocol],
        presence: Presence,
        tls: ssl.SSLContext,
        limits: DoorLimits,
    ) -> None:
        self._protocol = protocol
        self._presence = presence
        self._tls = tls
        self._limits = limits
        self._entering: dict[asyncio.Task[None], str] = {}

    async def accept(self, listener: socket.socket) -> None:
        """Accept until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listener)
            except OSError as error:
                _log.warning("no connection can be accepted", error=error.strerror)
                await asyncio.sleep(_OUT_OF_DESCRIPTORS_PAUSE_S)
                continue
            if self._is_full(str(address[0])):
                connection.close()
                continue
            task = asyncio.create_task(self._let_in(connection), name="door handshake")
            self._entering[task] = str(address[0])
            task.add_done_callback(self._entering.pop)

    async def end_idle(self) -> None:
        """Close silent connections until cancelled."""
        while True:
            await asyncio.sleep(self._limits.idle_s / 4)
            self._presence.end_idle(self._limits.idle_s)

    async def close(self) -> None:
        """Give up handshakes that are under way."""
        entering = list(self._entering)
        for task in entering:
            task.cancel()
        await asyncio.gather(*entering, return_exceptions=True)

    async def _let_in(self, connection: socket.socket) -> None:
        connection.settimeout(0)
        # Small answers go out at once, as asyncio's own servers have it.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol,
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=self._limits.handshake_s,
            )
        except (OSError, EOFError) as error:  # a stranger, or somebody who went; ssl's are OSErrors
            _log.debug("handshake failed", error=repr(error))
            connection.close()
            return
        if not self._presence.enter(transport, self._limits):
            _log.warning("a dock has too many connections", limit=self._limits.of_certificate)
            transport.abort()

    def _is_full(self, address: str) -> bool:
        of_address = Counter(self._entering.values())[address]
        total = len(self._entering) + self._presence.count()
        full = total >= self._limits.connections or of_address >= self._limits.of_address
        if full:
            _log.warning("connection refused", address=address, open=total, entering=of_address)
        return full
