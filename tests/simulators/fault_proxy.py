"""A network that can be made bad: carries TCP connections on loopback, and breaks them as told.

TLS passes through untouched; bytes are counted as they are on the wire. In a test::

    async with lay_proxy(broker.host, broker.port) as proxy:
        proxy.script(Fault(way=Way.BACK, after_bytes=700, ending=Ending.SILENCE))
        ...  # connect to proxy.host, proxy.port
        await proxy.cut()
        await proxy.plug_in()

In a program without an event loop::

    with proxy_thread("127.0.0.1", 8883, faults=seeded_faults(7)) as proxy:
        ...  # connect to proxy.host, proxy.port
        proxy.cut()
        proxy.plug_in()
"""

import asyncio
import contextlib
import random
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, unique
from typing import Any, Final

HOST: Final = "127.0.0.1"

_CHUNK_BYTES: Final = 1 << 16
_THREAD_TIMEOUT_S: Final = 30.0
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER for no time: closing sends RST


@unique
class Way(Enum):
    """Which bytes of a connection are meant."""

    OUT = "out"  # from who connected
    BACK = "back"


@unique
class Ending(Enum):
    """What happens instead of the byte that does not pass."""

    RESET = "reset"  # RST to both ends
    FIN = "fin"  # an orderly end to both
    SILENCE = "silence"  # both ends go on, and nothing of either reaches the other any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What befalls one connection.

    Attributes:
        way: Whose bytes are counted.
        after_bytes: So many bytes of that way pass, and the next one does not; None: all pass.
        ending: What happens at that byte.
        delay_s: How long each piece, of either way, is held.
        bytes_per_s: How fast each way is at most; None for as fast as it goes.
        doubled: All that goes out arrives on a second connection too, whose answers nobody gets.
    """

    way: Way = Way.OUT
    after_bytes: int | None = None
    ending: Ending = Ending.RESET
    delay_s: float = 0.0
    bytes_per_s: int | None = None
    doubled: bool = False


HARMLESS: Final = Fault()


def seeded_faults(seed: int, *, share: float = 0.5, most_bytes: int = 1 << 22) -> Iterator[Fault]:
    """Yield a fault for each connection, for ever; the same for the same arguments.

    Args:
        seed: Of everything random.
        share: How many of the connections are hit, 0 to 1.
        most_bytes: What passes at most on one that is cut; small figures are as likely as large
            ones, so that handshakes and headers are hit as often as bodies.
    """
    dice = random.Random(seed)
    while True:
        hit = dice.random() < share
        yield Fault(
            way=dice.choice(list(Way)),
            after_bytes=int(most_bytes ** dice.random()) if hit else None,
            ending=dice.choices(list(Ending), weights=[4, 3, 1])[0],
            delay_s=dice.choice([0.0, 0.0, 0.0, 0.002, 0.02]),
            bytes_per_s=dice.choice([None, None, 1 << 20, 1 << 23]),
        )


class FaultProxy:
    """Carries connections from its own port to another one; from `lay_proxy`.

    Attributes:
        accepted: How many connections there were.
        struck: The faults that ended a connection, in that order.
        passed: How many bytes of each way passed on the last connection that was accepted.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        faults: Iterable[Fault] = (),
        listen_port: int = 0,
        near_tls: ssl.SSLContext | None = None,
        far_tls: ssl.SSLContext | None = None,
    ) -> None:
        """Carry to *host* and *port*; nothing listens yet.

        Args:
            host: Of the target.
            port: Of the target.
            faults: One for each connection; beyond the last, connections are good.
            listen_port: Our own; 0 for any free one, which then stays the same.
            near_tls: With both contexts TLS ends here and begins anew, so that faults count the
                bytes within: to who connects, we are the server.
            far_tls: To the target, we are the client.
        """
        self._target = (host, port)
        self._scripted: deque[Fault] = deque()
        self._faults = iter(faults)
        self._near_tls, self._far_tls = near_tls, far_tls
        self._server: asyncio.Server | None = None
        self._carrying: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self.host = HOST
        self.port = listen_port
        self.accepted = 0
        self.struck: list[Fault] = []
        self.passed = dict.fromkeys(Way, 0)

    def script(self, *faults: Fault) -> None:
        """Have the next connections hit by *faults*, one each, before any others."""
        self._scripted.extend(faults)

    def unscript(self) -> None:
        """Take back what `script` said and has not happened yet."""
        self._scripted.clear()

    async def plug_in(self) -> None:
        """Carry connections; again after `cut`, on the same port."""
        self._server = await asyncio.start_server(
            self._accept, HOST, self.port, ssl=self._near_tls, limit=_CHUNK_BYTES
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Reset all connections, and refuse new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        carrying = self._carrying.copy()
        for task in carrying:
            task.cancel()
        await asyncio.gather(*carrying, return_exceptions=True)

    async def until_struck(self, count: int = 1) -> None:
        """Return when so many connections were ended by a fault."""
        while len(self.struck) < count:
            self._news.clear()
            await self._news.wait()

    async def until_accepted(self, count: int) -> None:
        """Return when there were so many connections."""
        while self.accepted < count:
            self._news.clear()
            await self._news.wait()

    def lead_to(self, port: int) -> None:
        """Carry connections to another port from now on."""
        self._target = (self._target[0], port)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer), name="fault proxy")
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._news.set()
        fault = self._scripted.popleft() if self._scripted else next(self._faults, HARMLESS)
        carried = _Carried(fault, self._note)
        self.passed = carried.passed
        writers, ending = [writer], Ending.RESET
        try:
            far = [await self._reach() for _ in range(2 if fault.doubled else 1)]
            writers += [far_writer for _, far_writer in far]
            async with asyncio.TaskGroup() as group:
                group.create_task(carried.pump(Way.OUT, reader, writers[1:]), name="proxy out")
                group.create_task(carried.pump(Way.BACK, far[0][0], [writer]), name="proxy back")
                for unheard, _ in far[1:]:
                    group.create_task(_throw_away(unheard), name="proxy second")
            ending = Ending.FIN
        except* _EndedError as ended:
            ending = _first(ended).ending
        except* OSError:
            pass  # one end broke: the other hears of it
        finally:
            for one in writers:
                _end(one, ending)

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self._target, ssl=self._far_tls, limit=_CHUNK_BYTES)

    def _note(self, fault: Fault) -> None:
        self.struck.append(fault)
        self._news.set()


class _EndedError(Exception):
    """Both ways end."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.value)
        self.ending = ending


class _Carried:
    """Both ways of one connection under one fault."""

    def __init__(self, fault: Fault, strike: Callable[[Fault], None]) -> None:
        self.passed = dict.fromkeys(Way, 0)
        self._fault = fault
        self._strike = strike
        self._silent = False

    async def pump(
        self, way: Way, reader: asyncio.StreamReader, writers: list[asyncio.StreamWriter]
    ) -> None:
        """Carry one way to its end.

        Raises:
            _EndedError: The other way ends too.
            OSError: An end broke.
        """
        try:
            while chunk := await reader.read(self._piece_bytes()):
                await self._pass(way, chunk, writers)
        except OSError:
            if not self._silent:
                raise
        if self._silent:
            return
        if not all(writer.can_write_eof() for writer in writers):
            raise _EndedError(Ending.FIN)  # TLS has no half-closed connection
        for writer in writers:
            writer.write_eof()

    async def _pass(self, way: Way, chunk: bytes, writers: list[asyncio.StreamWriter]) -> None:
        if self._silent:
            return
        await self._hold(len(chunk))
        passing = chunk[: self._room(way, len(chunk))]
        for writer in writers:
            writer.write(passing)
            await writer.drain()
        self.passed[way] += len(passing)
        if len(passing) < len(chunk):
            self._strike(self._fault)
            if self._fault.ending is not Ending.SILENCE:
                raise _EndedError(self._fault.ending)
            self._silent = True

    def _room(self, way: Way, size_bytes: int) -> int:
        if self._fault.way is not way or self._fault.after_bytes is None:
            return size_bytes
        return max(0, min(size_bytes, self._fault.after_bytes - self.passed[way]))

    def _piece_bytes(self) -> int:
        pace = self._fault.bytes_per_s
        return _CHUNK_BYTES if pace is None else max(1, min(_CHUNK_BYTES, pace // 50))

    async def _hold(self, size_bytes: int) -> None:
        pace = self._fault.bytes_per_s
        wait_s = self._fault.delay_s + (size_bytes / pace if pace is not None else 0.0)
        if wait_s:
            await asyncio.sleep(wait_s)


class ProxyThread:
    """A `FaultProxy` for programs without an event loop; from `proxy_thread`."""

    def __init__(self, proxy: FaultProxy, loop: asyncio.AbstractEventLoop) -> None:
        self._proxy = proxy
        self._loop = loop
        self.host = proxy.host

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._proxy.port

    @property
    def accepted(self) -> int:
        """How many connections there were."""
        return self._proxy.accepted

    @property
    def struck(self) -> list[Fault]:
        """The faults that ended a connection so far."""
        return list(self._proxy.struck)

    def script(self, *faults: Fault) -> None:
        """As `FaultProxy.script`."""
        self._loop.call_soon_threadsafe(self._proxy.script, *faults)

    def plug_in(self) -> None:
        """As `FaultProxy.plug_in`."""
        self._await(self._proxy.plug_in())

    def cut(self) -> None:
        """As `FaultProxy.cut`."""
        self._await(self._proxy.cut())

    def _await(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_THREAD_TIMEOUT_S)


@contextlib.asynccontextmanager
async def lay_proxy(host: str, port: int, **options: Any) -> AsyncIterator[FaultProxy]:
    """Carry to *host* and *port* for the length of the block; options as for `FaultProxy`."""
    proxy = FaultProxy(host, port, **options)
    await proxy.plug_in()
    try:
        yield proxy
    finally:
        await proxy.cut()


@contextlib.contextmanager
def proxy_thread(host: str, port: int, **options: Any) -> Iterator[ProxyThread]:
    """Carry for the length of the block, in a thread of its own; options as for `FaultProxy`."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="fault proxy", daemon=True)
    thread.start()
    proxy = ProxyThread(FaultProxy(host, port, **options), loop)
    try:
        proxy.plug_in()
        yield proxy
    finally:
        proxy.cut()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_THREAD_TIMEOUT_S)
        loop.close()


async def _throw_away(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(_CHUNK_BYTES):
            pass


def _first(group: BaseExceptionGroup[_EndedError]) -> _EndedError:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def _end(writer: asyncio.StreamWriter, ending: Ending) -> None:
    if ending is Ending.FIN:
        writer.close()
        return
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
