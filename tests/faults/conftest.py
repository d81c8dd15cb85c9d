"""A disk that loses what a power cut loses."""

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
