"""Opening links to a broker, and taking what arrives, with patience."""

import asyncio
from typing import Final

import pytest

from runtime.link import Link, LinkLostError, LinkSettings, Message, Will
from runtime.tls import client_context
from tests.simulators.broker import Broker
from tests.simulators.certificates import Authority, Pair
from tests.simulators.fault_proxy import FaultProxy

PATIENCE_S: Final = 60
TOPIC: Final = "test/manifests"


class PowerCutError(Exception):
    """Stands for whatever ends the program in the middle of its work."""


def as_client(name: str, broker: Broker | FaultProxy, will: Will | None = None) -> LinkSettings:
    return LinkSettings(host=broker.host, port=broker.port, client_id=name, tls=None, will=will)


def over_tls(name: str, broker: Broker, authority: Authority, pair: Pair) -> LinkSettings:
    context = client_context(ca=authority.ca, certificate=pair.certificate, key=pair.key)
    return LinkSettings(host=broker.host, port=broker.port, client_id=name, tls=context)


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
