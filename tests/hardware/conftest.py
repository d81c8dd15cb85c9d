"""One guest for all tests of a module; each test has bays of its own."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hardware.kernel import BootFiles, boot_files


@pytest.fixture(scope="session")
def boot() -> BootFiles:
    return boot_files()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    # QEMU's sockets have short paths.
    with tempfile.TemporaryDirectory(prefix="hw-") as name:
        yield Path(name)
