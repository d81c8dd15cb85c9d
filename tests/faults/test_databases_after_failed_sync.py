"""A database whose log could not be synced once, and a program that starts again after that."""

import asyncio
import contextlib
import sqlite3
import subprocess
import sys

import pytest
from sqlalchemy.exc import SQLAlchemyError

from tests.architecture.source_tree import ROOT
from tests.simulators.committing import COMMIT
from tests.simulators.faultfs.mount import FaultDisk
from tests.simulators.faultfs.rules import Effect, Operation


@pytest.mark.parametrize("skip", [1, 3])
@pytest.mark.parametrize("which", COMMIT)
def test_what_is_committed_after_a_restart_is_durable(
    disk: FaultDisk, which: str, skip: int
) -> None:
    """A sync of the log fails, the program ends; what the next one commits survives a power cut.

    The next one still reads the pages that the failed sync has dropped: they are in memory, clean.
    """
    commit, path = COMMIT[which], disk.root / "database.sqlite"
    asyncio.run(commit(path, [0]))
    subprocess.run(["sync", disk.root], check=True)
    rule = disk.fault(Effect.LOST_PAGES, [Operation.SYNC_FILE], path="*-wal", skip=skip)
    first = subprocess.run(
        [sys.executable, "-m", "tests.simulators.committing", which, path, *"123456789"],
        cwd=ROOT,
        check=False,
        capture_output=True,
    )
    assert first.returncode == 1, first.stderr
    assert disk.count(rule).hits == 1

    with contextlib.suppress(OSError, sqlite3.Error, SQLAlchemyError):
        asyncio.run(commit(path, [100, 101], at_end=lambda _: disk.crash()))
    assert disk.is_down
    disk.restart()

    assert asyncio.run(commit(path))[-2:] == [100, 101]


@pytest.mark.parametrize("which", COMMIT)
def test_a_full_disk_does_not_keep_it_shut(disk: FaultDisk, which: str) -> None:
    """A program that was killed starts on a full disk, with all rows; it may have to make room."""
    commit, path = COMMIT[which], disk.root / "database.sqlite"
    asyncio.run(commit(path, [0]))
    numbers = map(str, range(1, 600))
    subprocess.run(
        [sys.executable, "-m", "tests.simulators.committing", which, path, *numbers],
        cwd=ROOT,
        check=True,
    )
    kept = [one for one in disk.root.iterdir() if not one.name.endswith("-shm")]
    used_bytes = sum(one.stat().st_size for one in kept)
    disk.set_disk(capacity_bytes=used_bytes)

    assert asyncio.run(commit(path)) == list(range(600))
