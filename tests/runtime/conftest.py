from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulators.broker import Broker


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A running broker that lets everybody do everything."""
    with Broker(tmp_path / "broker") as running:
        yield running
