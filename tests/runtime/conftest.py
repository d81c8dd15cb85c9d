import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.simulators.broker import Broker
from tests.simulators.fault_proxy import FaultProxy, lay_proxy


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A running broker that lets everybody do everything."""
    with Broker(tmp_path / "broker") as running:
        yield running


@pytest.fixture
async def cable(broker: Broker) -> AsyncIterator[FaultProxy]:
    """A cable to that broker, plugged in."""
    async with lay_proxy(broker.host, broker.port) as laid:
        yield laid


@pytest.fixture
async def quiet_loop() -> AsyncIterator[None]:
    """Fail the test if a callback or an abandoned task raised in its loop."""
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    yield
    assert not reported
