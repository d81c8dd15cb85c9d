"""A disk that loses what a power cut loses."""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.simulators.crash_points import EVERYWHERE
from tests.simulators.faultfs.mount import FaultDisk, mounted

_EVERYWHERE_TIMEOUT_S: Final = 1_800.0


@pytest.fixture(scope="session")
def fault_mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultDisk]:
    with mounted(tmp_path_factory.mktemp("fault-disk")) as disk:
        yield disk


@pytest.fixture
def disk(fault_mount: FaultDisk) -> Iterator[FaultDisk]:
    """An empty one."""
    fault_mount.reset()
    yield fault_mount
    fault_mount.clear_rules()


@pytest.fixture
def seed() -> int:
    """Of a test that chooses by chance; a failure shows it, BAYWARD_SEED repeats it."""
    seed = int(os.environ.get("BAYWARD_SEED", random.getrandbits(32)))
    print("BAYWARD_SEED:", seed)  # noqa: T201 - pytest shows it with a failure
    return seed


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every crash point of a long run the time that it takes."""
    if EVERYWHERE:
        here = Path(__file__).parent
        for item in items:
            if item.path.parent == here:
                item.add_marker(pytest.mark.timeout(_EVERYWHERE_TIMEOUT_S))
