import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
import uvloop

from runtime.link import (
    Delivered,
    ForeignMessageError,
    Link,
    LinkLostError,
    LinkRefusedError,
    LinkSettings,
    Message,
    Will,
    open_link,
)
from runtime.tls import client_context
from tests.simulators.broker import Broker
from tests.simulators.cable import Cable, lay_cable
from tests.simulators.certificates import Authority, Pair

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("quiet_loop")]

PATIENCE_S: Final = 60
TOPIC: Final = "test/manifests"


class PowerCutError(Exception):
    """Stands for whatever ends the program in the middle of its work."""


@pytest.fixture
async def cable(broker: Broker) -> AsyncIterator[Cable]:
    async with lay_cable(broker.host, broker.port) as laid:
        yield laid


def as_client(name: str, broker: Broker | Cable, will: Will | None = None) -> LinkSettings:
    return LinkSettings(host=broker.host, port=broker.port, client_id=name, tls=None, will=will)


def over_tls(name: str, broker: Broker, authority: Authority, pair: Pair) -> LinkSettings:
    context = client_context(ca=authority.ca, certificate=pair.certificate, key=pair.key)
    return LinkSettings(host=broker.host, port=broker.port, client_id=name, tls=context)


def dynamic_security() -> Path:
    [plugin] = Path("/usr/lib").glob("*/mosquitto_dynamic_security.so")
    return plugin


async def take(link: Link, count: int) -> list[Message]:
    """Receive *count* messages, in order."""
    taken: list[Message] = []
    async with asyncio.timeout(PATIENCE_S):
        async for message in link.messages():
            taken.append(message)
            if len(taken) == count:
                break
    return taken


async def drain(link: Link) -> list[Message]:
    """Receive all that has arrived, when the link is lost."""
    drained: list[Message] = []
    with pytest.raises(LinkLostError):  # noqa: PT012 - the loop ends by it
        async with asyncio.timeout(PATIENCE_S):
            async for message in link.messages():
                drained.append(message)  # noqa: PERF401 - a comprehension would lose them all
    return drained


def numbers(messages: list[Message]) -> list[int]:
    return [int(message.payload) for message in messages]


async def test_acknowledged_messages_do_not_come_again(cable: Cable, broker: Broker) -> None:
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


async def test_a_new_connection_has_no_stale_messages(broker: Broker, cable: Cable) -> None:
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


async def test_nobody_listening_is_told(broker: Broker) -> None:
    """A message that the broker accepted for nobody is told from one that it passes on."""
    async with open_link(as_client("tx", broker)) as sender:
        assert await sender.publish(TOPIC, b"") is Delivered.NO_SUBSCRIBER
        await sender.subscribe(TOPIC)
        assert await sender.publish(TOPIC, b"") is Delivered.ACCEPTED


async def test_a_retained_message_is_marked(broker: Broker) -> None:
    """Who subscribes later gets the last value, and sees that it is an old one."""
    async with open_link(as_client("rx", broker)) as link:
        await link.publish(TOPIC, b"1", retain=True)
        await link.subscribe(TOPIC)
        [message] = await take(link, 1)

    assert message.retain
    assert (message.topic, message.payload) == (TOPIC, b"1")


async def test_a_refused_message_raises(tmp_path: Path) -> None:
    """A PUBACK with "not authorized" is an error, and the link goes on."""
    with Broker(tmp_path, acl=["topic write test/allowed"]) as broker:
        async with open_link(as_client("tx", broker)) as sender:
            with pytest.raises(LinkRefusedError) as caught:
                await sender.publish("test/forbidden", b"")

            assert caught.value.reason_code == 0x87
            assert await sender.publish("test/allowed", b"") is Delivered.NO_SUBSCRIBER


async def test_a_granted_quality_below_the_asked_one_raises(tmp_path: Path) -> None:
    """A subscription that would lose messages counts as refused."""
    with Broker(tmp_path, extra=["max_qos 0"]) as broker:
        async with open_link(as_client("rx", broker)) as receiver:
            with pytest.raises(LinkRefusedError) as caught:
                await receiver.subscribe(TOPIC)

    assert caught.value.reason_code == 0


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


async def test_a_refused_connection_raises(tmp_path: Path) -> None:
    """A CONNACK with a failure code is an error with that code."""
    with (
        Broker(tmp_path, extra=["allow_anonymous false"]) as broker,
        pytest.raises(LinkRefusedError) as caught,
    ):
        async with open_link(as_client("rx", broker)):
            pass

    assert caught.value.reason_code == 0x87


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


async def test_receiving_from_a_killed_broker_raises(broker: Broker) -> None:
    """Who waits for messages learns that none will come, however often it asks."""
    async with open_link(as_client("rx", broker)) as receiver:
        await receiver.subscribe(TOPIC)
        broker.kill()

        assert not await drain(receiver)
        assert not await drain(receiver)


async def test_a_silent_broker_is_given_up(broker: Broker) -> None:
    """A message that nobody answers for ends the connection: its fate is unknown."""
    async with open_link(as_client("tx", broker)) as sender:
        broker.freeze()
        with pytest.raises(LinkLostError):
            await sender.publish(TOPIC, b"", timeout_s=0.1)
        with pytest.raises(LinkLostError):
            await sender.publish(TOPIC, b"")


async def test_an_absent_broker_is_told(broker: Broker) -> None:
    """Connecting to nobody is a lost link, which is tried again, not a bug."""
    broker.kill()

    with pytest.raises(LinkLostError):
        async with open_link(as_client("rx", broker)):
            pass


async def test_a_restarted_broker_is_found_again(broker: Broker) -> None:
    """The next connection is a new one; that the session is gone can be seen."""
    async with open_link(as_client("rx", broker)) as receiver:
        broker.stop()
        assert not await drain(receiver)
    broker.start()

    async with open_link(as_client("rx", broker)) as receiver:
        assert not receiver.session_present


async def test_persistent_sessions_survive_a_restart(tmp_path: Path) -> None:
    """A broker that keeps its state hands out after a restart what was not acknowledged."""
    with Broker(tmp_path, extra=["persistence true"]) as broker:
        async with open_link(as_client("rx", broker)) as receiver:
            await receiver.subscribe(TOPIC)
            await receiver.publish(TOPIC, b"1")
            await take(receiver, 1)
        broker.stop()
        broker.start()

        async with open_link(as_client("rx", broker)) as receiver:
            assert receiver.session_present
            assert numbers(await take(receiver, 1)) == [1]


async def test_a_second_client_of_the_same_id_ends_the_first(broker: Broker) -> None:
    """Two programs with one client id cannot both be connected; the first is told."""
    async with open_link(as_client("rx", broker)) as first, open_link(as_client("rx", broker)):
        assert not await drain(first)


WILL: Final = Will(topic="test/status", payload=b"offline", retain=True)


async def test_a_broken_line_publishes_the_will(broker: Broker, cable: Cable) -> None:
    """Who goes without a word is reported by the broker."""
    async with open_link(as_client("watcher", broker)) as watcher:
        await watcher.subscribe(WILL.topic)
        async with open_link(as_client("dock", cable, WILL)) as dock:
            await cable.cut()
            assert not await drain(dock)
        [message] = await take(watcher, 1)

    assert message.payload == b"offline"


async def test_leaving_by_an_exception_publishes_the_will(broker: Broker) -> None:
    """A program that breaks in the middle has its will published at once."""
    async with open_link(as_client("watcher", broker)) as watcher:
        await watcher.subscribe(WILL.topic)
        with pytest.raises(PowerCutError):
            async with open_link(as_client("dock", broker, WILL)):
                raise PowerCutError
        [message] = await take(watcher, 1)

    assert message.payload == b"offline"


async def test_an_orderly_leave_publishes_no_will(broker: Broker) -> None:
    """Who says goodbye has said how it is, and the broker adds nothing."""
    async with open_link(as_client("watcher", broker)) as watcher:
        await watcher.subscribe(WILL.topic)
        async with open_link(as_client("dock", broker, WILL)) as dock:
            await dock.publish(WILL.topic, b"stopped")
        async with open_link(as_client("dock", broker)) as dock:
            await dock.publish(WILL.topic, b"started")

        assert [message.payload for message in await take(watcher, 2)] == [b"stopped", b"started"]


async def test_cancelled_while_connecting(broker: Broker) -> None:
    """Giving up on a broker that does not answer ends orderly, and leaves no socket behind."""
    broker.freeze()
    connecting = asyncio.create_task(open_link(as_client("rx", broker)).__aenter__())
    await asyncio.sleep(0)
    connecting.cancel()
    await asyncio.sleep(0)
    broker.thaw()

    with pytest.raises(asyncio.CancelledError):
        await connecting


async def test_mutual_tls(tmp_path: Path) -> None:
    """With a certificate of the site we are who it says; the ACL goes by that."""
    authority = Authority(tmp_path / "pki")
    acl = ["pattern write docks/%u/status", "pattern read docks/%u/#"]
    with Broker(tmp_path / "broker", authority=authority, acl=acl) as broker:
        dock = over_tls("rx", broker, authority, authority.issue_tls("dock-7"))
        async with open_link(dock) as link:
            await link.subscribe("docks/dock-7/#")
            await link.publish("docks/dock-7/status", b"1")
            assert numbers(await take(link, 1)) == [1]
            with pytest.raises(LinkRefusedError):
                await link.publish("docks/dock-8/status", b"")


async def test_a_stranger_is_not_let_in(tmp_path: Path) -> None:
    """A certificate of another authority opens no connection, and that shows at once."""
    authority, other = Authority(tmp_path / "pki"), Authority(tmp_path / "other")
    pair = other.issue_tls("dock-7")
    with Broker(tmp_path / "broker", authority=authority) as broker, pytest.raises(LinkLostError):
        async with open_link(over_tls("rx", broker, authority, pair)):
            pass


async def test_an_impostor_is_not_believed(tmp_path: Path) -> None:
    """A broker whose certificate is of another authority is not talked to."""
    authority, other = Authority(tmp_path / "pki"), Authority(tmp_path / "other")
    pair = other.issue_tls("dock-7")
    with Broker(tmp_path / "broker", authority=authority) as broker, pytest.raises(LinkLostError):
        async with open_link(over_tls("rx", broker, other, pair)):
            pass


def test_the_link_runs_on_uvloop(tmp_path: Path) -> None:
    """The loop that the agents run on carries a message over TLS like asyncio's own."""
    authority = Authority(tmp_path / "pki")
    with (
        Broker(tmp_path / "broker", authority=authority) as broker,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        settings = over_tls("rx", broker, authority, authority.issue_tls("dock-7"))

        async def there_and_back() -> list[int]:
            async with open_link(settings) as link:
                await link.subscribe(TOPIC)
                await link.publish(TOPIC, b"1")
                [message] = await take(link, 1)
                await link.acknowledge(message)
                broker.kill()
                return numbers([message, *await drain(link)])

        assert runner.run(there_and_back()) == [1]
