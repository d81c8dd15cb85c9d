"""The network of the other tests does to a connection what it was told, and nothing else."""

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.simulators.fault_proxy import (
    HOST,
    Ending,
    Fault,
    FaultProxy,
    Way,
    lay_proxy,
    proxy_thread,
    seeded_faults,
)

TIMEOUT_S = 30


class FarEnd:
    """What the connections of a server brought, and how they ended."""

    def __init__(self, *, echoes: bool) -> None:
        self.echoes = echoes
        self.got: list[bytearray] = []
        self.ends: asyncio.Queue[str] = asyncio.Queue()


class FarConnection(asyncio.Protocol):
    """One of them."""

    def __init__(self, far: FarEnd) -> None:
        self._far = far
        self._got = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._far.got.append(self._got)

    def data_received(self, data: bytes) -> None:
        self._got += data
        if self._far.echoes and self._transport is not None:
            self._transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._far.ends.put_nowait("fin" if exc is None else "reset")


@asynccontextmanager
async def behind_proxy(
    *faults: Fault, echoes: bool = True
) -> AsyncIterator[tuple[FarEnd, FaultProxy]]:
    far = FarEnd(echoes=echoes)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(TIMEOUT_S):
        server = await loop.create_server(lambda: FarConnection(far), HOST, 0)
        port = server.sockets[0].getsockname()[1]
        async with server, lay_proxy(HOST, port, faults=faults) as proxy:
            yield far, proxy


async def say(proxy: FaultProxy, text: bytes) -> tuple[bytes, str]:
    """Return what came back of *text*, and how the connection ended."""
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    answer, ending = b"", "fin"
    try:
        writer.write(text)
        writer.write_eof()
        while chunk := await reader.read(1 << 16):
            answer += chunk
    except ConnectionError:
        ending = "reset"
    writer.close()
    return answer, ending


async def test_a_good_connection_carries_everything() -> None:
    """Without a fault every byte passes both ways, and both ends end in good order."""
    text = bytes(range(256)) * 1_000
    async with behind_proxy() as (far, proxy):
        answer = await say(proxy, text)
        far_end = await far.ends.get()

    assert answer == (text, "fin")
    assert far_end == "fin"
    assert proxy.passed == {Way.OUT: len(text), Way.BACK: len(text)}


@pytest.mark.parametrize("ending", [Ending.RESET, Ending.FIN])
@pytest.mark.parametrize("after_bytes", [0, 1, 70_000])
async def test_exactly_so_many_bytes_reach_the_far_end(after_bytes: int, ending: Ending) -> None:
    """A cut lets the bytes before it pass and no other, and the far end hears how it was."""
    text = bytes(range(256)) * 1_000
    fault = Fault(way=Way.OUT, after_bytes=after_bytes, ending=ending)
    async with behind_proxy(fault, echoes=False) as (far, proxy):
        await say(proxy, text)
        far_end = await far.ends.get()

    assert far.got == [text[:after_bytes]]
    assert far_end == ending.value
    assert proxy.struck == [fault]


async def test_exactly_so_many_bytes_come_back() -> None:
    """A cut of the way back lets the far end get everything, and us the bytes before it."""
    fault = Fault(way=Way.BACK, after_bytes=3, ending=Ending.FIN)
    async with behind_proxy(fault) as (far, proxy):
        answer, _ = await say(proxy, b"abcdef")

    assert answer == b"abc"
    assert far.got == [b"abcdef"]


async def test_silence_is_not_told_to_anybody() -> None:
    """On a half-open connection neither end hears that nothing passes any more."""
    fault = Fault(after_bytes=2, ending=Ending.SILENCE)
    async with behind_proxy(fault) as (far, proxy):
        talking = asyncio.create_task(say(proxy, b"abcdef"))
        await proxy.until_struck()
        assert not talking.done()
        assert far.ends.empty()
        await proxy.cut()
        _, ending = await talking
        far_end = await far.ends.get()

    assert far.got == [b"ab"]
    assert (ending, far_end) == ("reset", "reset")


async def test_after_a_cut_nobody_is_let_in_until_it_is_mended() -> None:
    """While the network is cut connections are refused, and the port stays the same."""
    async with behind_proxy() as (_, proxy):
        await proxy.cut()
        with pytest.raises(ConnectionRefusedError):
            await say(proxy, b"x")
        await proxy.plug_in()
        answer = await say(proxy, b"x")

    assert answer == (b"x", "fin")


async def test_a_slow_connection_carries_everything() -> None:
    """Delay and throttle change no byte."""
    text = bytes(range(256)) * 4
    fault = Fault(delay_s=0.001, bytes_per_s=1 << 17)
    async with behind_proxy(fault) as (_, proxy):
        answer = await say(proxy, text)

    assert answer == (text, "fin")


async def test_a_doubled_connection_arrives_twice() -> None:
    """The far end gets two connections with the same bytes; only one of them is answered."""
    async with behind_proxy(Fault(doubled=True)) as (far, proxy):
        answer = await say(proxy, b"abc")
        await far.ends.get()
        await far.ends.get()

    assert answer == (b"abc", "fin")
    assert far.got == [b"abc", b"abc"]


def test_the_same_seed_gives_the_same_faults() -> None:
    """What a seed breaks can be broken again."""
    first, second = (list(itertools.islice(seeded_faults(7), 50)) for _ in range(2))

    assert first == second
    assert {fault.ending for fault in first if fault.after_bytes is not None} == set(Ending)


def test_a_program_without_a_loop_can_cut_too() -> None:
    """In a thread of its own the proxy serves a blocking client, is cut, and mended."""
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        with proxy_thread(HOST, port) as proxy:
            with socket.create_connection((proxy.host, proxy.port), TIMEOUT_S) as near:
                far, _ = listener.accept()
                with far:
                    far.settimeout(TIMEOUT_S)
                    near.sendall(b"x")
                    assert far.recv(1) == b"x"
                    proxy.cut()
                    with pytest.raises(ConnectionResetError):
                        far.recv(1)
            proxy.plug_in()
            with socket.create_connection((proxy.host, proxy.port), TIMEOUT_S):
                listener.accept()[0].close()

    assert proxy.accepted == 2
