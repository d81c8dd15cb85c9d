import asyncio
from pathlib import Path
from typing import Final

import pytest
import uvloop

from runtime.link import LinkLostError, LinkRefusedError, Will, open_link
from tests.runtime.talking import TOPIC, PowerCutError, as_client, drain, numbers, over_tls, take
from tests.simulators.broker import Broker
from tests.simulators.certificates import Authority
from tests.simulators.fault_proxy import FaultProxy

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("quiet_loop")]


async def test_a_refused_connection_raises(tmp_path: Path) -> None:
    """A CONNACK with a failure code is an error with that code."""
    with (
        Broker(tmp_path, extra=["allow_anonymous false"]) as broker,
        pytest.raises(LinkRefusedError) as caught,
    ):
        async with open_link(as_client("rx", broker)):
            pass

    assert caught.value.reason_code == 0x87


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


async def test_a_broken_line_publishes_the_will(broker: Broker, cable: FaultProxy) -> None:
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
