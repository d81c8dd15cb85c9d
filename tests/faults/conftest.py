"""A disk that loses what a power cut loses."""

import os
import random
from collections.abc import Iterator

import pytest

from tests.simulators.faultfs.mount import FaultDisk, mounted


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
