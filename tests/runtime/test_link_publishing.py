import asyncio
from pathlib import Path

import pytest

from runtime.link import Delivered, LinkLostError, LinkRefusedError, LinkSettings, open_link
from tests.runtime.talking import TOPIC, as_client
from tests.simulators.broker import Broker

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("quiet_loop")]


async def test_nobody_listening_is_told(broker: Broker) -> None:
    """A message that the broker accepted for nobody is told from one that it passes on."""
    async with open_link(as_client("tx", broker)) as sender:
        assert await sender.publish(TOPIC, b"") is Delivered.NO_SUBSCRIBER
        await sender.subscribe(TOPIC)
        assert await sender.publish(TOPIC, b"") is Delivered.ACCEPTED


async def test_a_refused_message_raises(tmp_path: Path) -> None:
    """A PUBACK with "not authorized" is an error, and the link goes on."""
    with Broker(tmp_path, acl=["topic write test/allowed"]) as broker:
        async with open_link(as_client("tx", broker)) as sender:
            with pytest.raises(LinkRefusedError) as caught:
                await sender.publish("test/forbidden", b"")

            assert caught.value.reason_code == 0x87
            assert await sender.publish("test/allowed", b"") is Delivered.NO_SUBSCRIBER


async def test_a_message_beyond_our_limit_is_not_sent(broker: Broker) -> None:
    """The broker would drop it silently at the other end; so it is refused here."""
    settings = LinkSettings(
        host=broker.host, port=broker.port, client_id="tx", tls=None, max_packet_bytes=1000
    )
    async with open_link(settings) as sender:
        with pytest.raises(LinkRefusedError) as caught:
            await sender.publish(TOPIC, bytes(1000))
        await sender.publish(TOPIC, bytes(900))

    assert caught.value.reason_code == 0x95


async def test_a_message_beyond_the_brokers_limit_is_not_sent(tmp_path: Path) -> None:
    """The broker would end the connection, on each attempt anew; so it is refused here."""
    with Broker(tmp_path, extra=["max_packet_size 1000"]) as broker:
        async with open_link(as_client("tx", broker)) as sender:
            with pytest.raises(LinkRefusedError) as caught:
                await sender.publish(TOPIC, bytes(1000))
            await sender.publish(TOPIC, bytes(900))

    assert caught.value.reason_code == 0x95


async def test_more_messages_than_the_window_wait_their_turn(broker: Broker) -> None:
    """Messages beyond what may be unanswered at a time are sent as answers arrive."""
    async with open_link(as_client("tx", broker)) as sender:
        answers = await asyncio.gather(*(sender.publish(TOPIC, b"") for _ in range(50)))

    assert answers == [Delivered.NO_SUBSCRIBER] * 50


async def test_given_up_messages_make_room(broker: Broker) -> None:
    """Who stops waiting for answers does not shut the window for others."""
    async with open_link(as_client("tx", broker)) as sender:
        broker.freeze()
        waiting = {asyncio.create_task(sender.publish(TOPIC, b"")) for _ in range(50)}
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        broker.thaw()

        answers = await asyncio.gather(*(sender.publish(TOPIC, b"") for _ in range(50)))

    assert answers == [Delivered.NO_SUBSCRIBER] * 50


async def test_publishing_to_a_killed_broker_raises(broker: Broker) -> None:
    """Every call that waits for an answer, or for its turn, ends when the broker does."""
    async with open_link(as_client("tx", broker)) as sender:
        broker.freeze()
        waiting: set[asyncio.Task[object]] = {asyncio.create_task(sender.subscribe(TOPIC))}
        waiting |= {
            asyncio.create_task(sender.publish(TOPIC, b"", timeout_s=3600)) for _ in range(50)
        }
        await asyncio.sleep(0)
        broker.kill()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)

        assert {type(outcome) for outcome in outcomes} == {LinkLostError}
        with pytest.raises(LinkLostError):
            await sender.publish(TOPIC, b"")


async def test_a_silent_broker_is_given_up(broker: Broker) -> None:
    """A message that nobody answers for ends the connection: its fate is unknown."""
    async with open_link(as_client("tx", broker)) as sender:
        broker.freeze()
        with pytest.raises(LinkLostError):
            await sender.publish(TOPIC, b"", timeout_s=0.1)
        with pytest.raises(LinkLostError):
            await sender.publish(TOPIC, b"")
