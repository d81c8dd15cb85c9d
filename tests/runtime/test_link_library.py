"""What runtime.wire uses of aiomqtt and paho beyond their public API."""

# ruff: noqa: SLF001 - private members are what this is about

import asyncio

import aiomqtt
import pytest
from paho.mqtt import client as paho

from tests.simulators.broker import Broker

pytestmark = pytest.mark.processes


async def connected(broker: Broker) -> aiomqtt.Client:
    client = aiomqtt.Client(broker.host, broker.port, protocol=aiomqtt.ProtocolVersion.V5)
    await client.__aenter__()
    return client


async def test_the_paho_client_is_where_we_look(broker: Broker) -> None:
    """The library keeps its paho client in `_client`, with its own handler of the CONNACK."""
    client = await connected(broker)

    assert isinstance(client._client, paho.Client)
    assert callable(client._client.on_connect)
    await client.__aexit__(None, None, None)


async def test_closing_the_socket_ends_the_connection(broker: Broker) -> None:
    """The call `_sock_close` closes without a goodbye, tells the loop, and may be called again."""
    client = await connected(broker)
    [reading] = [task for task in asyncio.all_tasks() if task is client._misc_task]
    client._client._sock_close()
    client._client._sock_close()

    assert client._client.socket() is None
    assert client._client.publish("a", b"").rc == paho.MQTT_ERR_NO_CONN
    await asyncio.wait({reading})


async def test_a_failing_callback_is_told(broker: Broker) -> None:
    """When handling what was read raises, `_disconnected` gets the exception."""
    client = await connected(broker)

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    client._client.on_message = fail
    await client.subscribe("a")
    await client.publish("a", b"")
    await asyncio.wait({client._disconnected})

    assert isinstance(client._disconnected.exception(), ZeroDivisionError)
    client._client._sock_close()
