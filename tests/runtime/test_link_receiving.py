import asyncio
from pathlib import Path

import pytest

from runtime.link import Delivered, ForeignMessageError, LinkLostError, LinkRefusedError, open_link
from tests.runtime.talking import PATIENCE_S, TOPIC, PowerCutError, as_client, drain, numbers, take
from tests.simulators.broker import Broker
from tests.simulators.fault_proxy import FaultProxy

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("quiet_loop")]


async def test_acknowledged_messages_do_not_come_again(cable: FaultProxy, broker: Broker) -> None:
    """Of 30 messages 12 are acknowledged, the line breaks: the next session gets 13 to 30."""
    async with open_link(as_client("tx", broker)) as sender:
        with pytest.raises(LinkLostError):  # noqa: PT012 - which step fails first is up to the line
            async with open_link(as_client("rx", cable)) as receiver:
                await receiver.subscribe(TOPIC)
                for number in range(1, 31):
                    await sender.publish(TOPIC, b"%d" % number)
                first = await take(receiver, 12)
                for message in first:
                    await receiver.acknowledge(message)
                await receiver.publish("test/after", b"")  # so that the broker has them all
                await cable.cut()
                await receiver.publish("test/after", b"")

    async with open_link(as_client("rx", broker)) as receiver:
        again = await take(receiver, 18)
        broker.kill()
        assert numbers(first) == list(range(1, 13))
        assert numbers(again) == list(range(13, 31))
        assert receiver.session_present
        assert not await drain(receiver)


async def test_what_was_received_is_not_acknowledged_by_itself(broker: Broker) -> None:
    """A program that dies between receiving and committing gets the message again."""
    with pytest.raises(PowerCutError):  # noqa: PT012 - the end of the program is the test
        async with open_link(as_client("rx", broker)) as receiver:
            await receiver.subscribe(TOPIC)
            await receiver.publish(TOPIC, b"1")
            await take(receiver, 1)
            raise PowerCutError

    async with open_link(as_client("rx", broker)) as receiver:
        assert numbers(await take(receiver, 1)) == [1]


async def test_messages_of_an_absence_are_kept(broker: Broker) -> None:
    """A session outlives an orderly goodbye: what is published meanwhile arrives afterwards."""
    async with open_link(as_client("rx", broker)) as receiver:
        await receiver.subscribe(TOPIC)
    async with open_link(as_client("tx", broker)) as sender:
        answer = await sender.publish(TOPIC, b"1")

    async with open_link(as_client("rx", broker)) as receiver:
        assert answer is Delivered.ACCEPTED
        assert numbers(await take(receiver, 1)) == [1]


async def test_a_burst_is_not_dropped(broker: Broker) -> None:
    """More messages than may be unacknowledged at once all arrive, in order, as they are taken."""
    async with (
        open_link(as_client("tx", broker)) as sender,
        open_link(as_client("rx", broker)) as receiver,
    ):
        await receiver.subscribe(TOPIC)
        async with asyncio.TaskGroup() as group:
            for number in range(300):
                group.create_task(sender.publish(TOPIC, b"%d" % number))
        seen: list[int] = []
        async with asyncio.timeout(PATIENCE_S):
            async for message in receiver.messages():
                seen.append(int(message.payload))
                await receiver.acknowledge(message)
                if len(seen) == 300:
                    break

    assert seen == list(range(300))


async def test_a_cancelled_receiver_loses_nothing(broker: Broker) -> None:
    """Giving up on waiting takes no message away from who waits next."""
    async with open_link(as_client("rx", broker)) as receiver:
        await receiver.subscribe(TOPIC)
        waiting = asyncio.create_task(take(receiver, 1))
        await receiver.publish("test/elsewhere", b"")
        waiting.cancel()
        await asyncio.wait({waiting})
        await receiver.publish(TOPIC, b"1")

        assert numbers(await take(receiver, 1)) == [1]


async def test_a_new_connection_has_no_stale_messages(broker: Broker, cable: FaultProxy) -> None:
    """What an earlier connection had received and not yielded comes once, not twice."""
    async with open_link(as_client("tx", broker)) as sender:
        with pytest.raises(LinkLostError):  # noqa: PT012 - the line breaks under the call
            async with open_link(as_client("rx", cable)) as receiver:
                await receiver.subscribe(TOPIC)
                await sender.publish(TOPIC, b"1")
                await sender.publish(TOPIC, b"2")
                await receiver.publish("test/elsewhere", b"")
                await cable.cut()
                await receiver.publish("test/elsewhere", b"")

    async with open_link(as_client("rx", broker)) as receiver:
        [first, second] = await take(receiver, 2)
        broker.kill()
        assert numbers([first, second]) == [1, 2]
        assert not await drain(receiver)


async def test_a_message_belongs_to_its_connection(broker: Broker) -> None:
    """A message of an earlier connection cannot acknowledge another one with the same packet id."""
    with pytest.raises(PowerCutError):  # noqa: PT012 - the end of the program is the test
        async with open_link(as_client("rx", broker)) as receiver:
            await receiver.subscribe(TOPIC)
            await receiver.publish(TOPIC, b"1")
            [old] = await take(receiver, 1)
            raise PowerCutError

    async with open_link(as_client("rx", broker)) as receiver:
        [new] = await take(receiver, 1)
        with pytest.raises(ForeignMessageError):
            await receiver.acknowledge(old)
        await receiver.acknowledge(new)


async def test_a_message_is_acknowledged_once(broker: Broker) -> None:
    """A second acknowledgement is our bug, and is not sent."""
    async with open_link(as_client("rx", broker)) as receiver:
        await receiver.subscribe(TOPIC)
        await receiver.publish(TOPIC, b"1")
        [message] = await take(receiver, 1)
        await receiver.acknowledge(message)

        with pytest.raises(ForeignMessageError):
            await receiver.acknowledge(message)


async def test_acknowledging_on_a_lost_link_is_told(broker: Broker) -> None:
    """Who could not acknowledge knows that the message comes again."""
    async with open_link(as_client("rx", broker)) as receiver:
        await receiver.subscribe(TOPIC)
        await receiver.publish(TOPIC, b"1")
        [message] = await take(receiver, 1)
        broker.kill()
        await drain(receiver)

        with pytest.raises(LinkLostError):
            await receiver.acknowledge(message)


async def test_quality_0_needs_no_acknowledgement(broker: Broker) -> None:
    """A message at QoS 0 is only handed over, and acknowledging it does nothing."""
    async with open_link(as_client("rx", broker)) as receiver:
        await receiver.subscribe(TOPIC, qos=0)
        answer = await receiver.publish(TOPIC, b"1", qos=0)
        [message] = await take(receiver, 1)
        await receiver.acknowledge(message)

    assert answer is Delivered.UNCONFIRMED
    assert (message.qos, message.mid) == (0, 0)


async def test_a_retained_message_is_marked(broker: Broker) -> None:
    """Who subscribes later gets the last value, and sees that it is an old one."""
    async with open_link(as_client("rx", broker)) as link:
        await link.publish(TOPIC, b"1", retain=True)
        await link.subscribe(TOPIC)
        [message] = await take(link, 1)

    assert message.retain
    assert (message.topic, message.payload) == (TOPIC, b"1")


async def test_a_granted_quality_below_the_asked_one_raises(tmp_path: Path) -> None:
    """A subscription that would lose messages counts as refused."""
    with Broker(tmp_path, extra=["max_qos 0"]) as broker:
        async with open_link(as_client("rx", broker)) as receiver:
            with pytest.raises(LinkRefusedError) as caught:
                await receiver.subscribe(TOPIC)

    assert caught.value.reason_code == 0


def dynamic_security() -> Path:
    [plugin] = Path("/usr/lib").glob("*/mosquitto_dynamic_security.so")
    return plugin


async def test_a_refused_subscription_raises(tmp_path: Path) -> None:
    """A SUBACK with a failure code is an error, and the link goes on."""
    # mosquitto's ACL file lets everybody subscribe, and withholds the messages; its plugin says no.
    rules = tmp_path / "rules.json"
    rules.write_text('{"defaultACLAccess": {"publishClientSend": true, "subscribe": false}}')
    extra = [f"plugin {dynamic_security()}", f"plugin_opt_config_file {rules}"]
    with Broker(tmp_path, extra=extra) as broker:
        async with open_link(as_client("rx", broker)) as receiver:
            with pytest.raises(LinkRefusedError) as caught:
                await receiver.subscribe(TOPIC)
            await receiver.publish(TOPIC, b"")

    assert caught.value.reason_code == 0x87


async def test_receiving_from_a_killed_broker_raises(broker: Broker) -> None:
    """Who waits for messages learns that none will come, however often it asks."""
    async with open_link(as_client("rx", broker)) as receiver:
        await receiver.subscribe(TOPIC)
        broker.kill()

        assert not await drain(receiver)
        assert not await drain(receiver)
