"""A peer that is no good broker loses us the link, and never more than that."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.link import (
    LinkError,
    LinkLostError,
    LinkRefusedError,
    LinkSettings,
    Message,
    open_link,
)

pytestmark = pytest.mark.usefixtures("quiet_loop")

PATIENCE_S: Final = 60
CONNACK: Final = bytes.fromhex("20 03 00 00 00")
CONNACK_ONE_AT_A_TIME: Final = bytes.fromhex("20 06 00 00 03 21 0001")
BUSY: Final = bytes.fromhex("20 03 00 89 00")
SHUTTING_DOWN: Final = bytes.fromhex("e0 02 8b 00")
PUBLISH: Final = bytes.fromhex("32 06 0001 61 0007 00")
PUBLISH_TO_NO_TEXT: Final = bytes.fromhex("32 07 0002 fffe 0007 00")
PUBACK_OF_NOTHING: Final = bytes.fromhex("40 02 0063")
UNKNOWN_REASON: Final = bytes.fromhex("e0 02 7f 00")
UNKNOWN_PACKET: Final = bytes.fromhex("00 00")


Converse = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def listen(converse: Converse) -> AsyncIterator[LinkSettings]:
    """Accept one connection, and wait for its end."""
    over = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await converse(reader, writer)
        writer.transport.abort()
        over.set()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield LinkSettings(host=host, port=port, client_id="rx", tls=None)
    await over.wait()


def peer(*says: bytes, hangs_up: bool) -> contextlib.AbstractAsyncContextManager[LinkSettings]:
    """Say one thing for each that is heard, and then close or keep silent."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for saying in says:
            await reader.read(1 << 16)
            writer.write(saying)
        if hangs_up:
            writer.write_eof()
        while await reader.read(1 << 16):
            pass

    return listen(converse)


async def talk(settings: LinkSettings) -> list[Message]:
    """Connect, say something, and receive until the link is lost."""
    messages: list[Message] = []
    async with asyncio.timeout(PATIENCE_S):
        with contextlib.suppress(LinkLostError):
            async with open_link(settings) as link:
                await link.publish("a", b"", qos=0)
                async for message in link.messages():
                    messages.append(message)  # noqa: PERF401 - a comprehension would lose them all
    return messages


async def test_hanging_up_instead_of_answering() -> None:
    """A peer that closes before its CONNACK is noticed by that, not by a timeout."""
    async with peer(b"", hangs_up=True) as settings:
        with pytest.raises(LinkLostError, match="broke"):
            async with open_link(settings):
                pass


async def test_hanging_up_with_the_answer() -> None:
    """A connection that is over as soon as it is made does not look alive."""
    async with peer(CONNACK + SHUTTING_DOWN, hangs_up=True) as settings:
        with pytest.raises(LinkLostError, match="shutting down"):
            async with open_link(settings) as link:
                await anext(aiter(link.messages()))


async def test_what_came_before_the_end_is_yielded() -> None:
    """A message and the end in one packet: the message is not lost."""
    async with peer(CONNACK, PUBLISH + SHUTTING_DOWN, hangs_up=True) as settings:
        [message] = await talk(settings)

    assert (message.topic, message.mid, message.payload) == ("a", 7, b"")


async def test_a_busy_broker_is_told() -> None:
    """A refusal is told by its reason code, even if the peer hangs up with it."""
    async with peer(BUSY, hangs_up=True) as settings:
        with pytest.raises(LinkRefusedError) as caught:
            async with open_link(settings):
                pass

    assert caught.value.reason_code == 0x89


@pytest.mark.parametrize(
    "nonsense",
    [PUBLISH_TO_NO_TEXT, UNKNOWN_REASON, UNKNOWN_PACKET],
    ids=["topic", "reason", "packet"],
)
async def test_nonsense_ends_the_link(nonsense: bytes) -> None:
    """What MQTT does not allow ends the connection, though the peer would go on."""
    async with peer(CONNACK, nonsense, hangs_up=False) as settings:
        assert not await talk(settings)


async def test_an_answer_to_nothing_is_ignored() -> None:
    """A PUBACK that nobody waits for changes nothing."""
    async with peer(CONNACK, PUBACK_OF_NOTHING + PUBLISH, hangs_up=True) as settings:
        assert len(await talk(settings)) == 1


async def test_the_announced_window_is_kept() -> None:
    """A peer that takes one unanswered message gets one, whatever else it is told meanwhile."""
    heard = bytearray()
    subscribed = asyncio.Event()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 << 16)
        writer.write(CONNACK_ONE_AT_A_TIME)
        while chunk := await reader.read(1 << 16):
            heard.extend(chunk)
            if b"filter" in heard:
                subscribed.set()

    async with listen(converse) as settings, open_link(settings) as link:
        waiting: set[asyncio.Task[object]] = {
            asyncio.create_task(link.publish("topic", b"")),
            asyncio.create_task(link.publish("topic", b"")),
        }
        await asyncio.sleep(0)
        waiting.add(asyncio.create_task(link.subscribe("filter")))
        async with asyncio.timeout(PATIENCE_S):
            await subscribed.wait()
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)

    assert heard.count(b"topic") == 1


@settings(deadline=None, max_examples=50)
@given(said=st.binary(max_size=64), first=st.sampled_from([(), (CONNACK,)]))
def test_any_bytes_end_the_link_at_most(said: bytes, first: tuple[bytes, ...]) -> None:
    """Whatever a peer says, a connection ends with one of our errors."""

    async def scenario() -> None:
        async with peer(*first, said, hangs_up=True) as settings:
            with contextlib.suppress(LinkError):
                await talk(settings)

    asyncio.run(scenario())
