"""Controls: with one protection taken away, the checks of the dock's promises find a loss."""

from collections.abc import Iterable
from random import Random
from typing import Any

import aiosqlite
import pytest

from protocol.manifest import EvidenceLevel
from tests.faults.test_dock_power_cut import a_dock, cut_at, points_of_a_docking, receipts_for
from tests.simulators.crash_points import CrashPoint
from tests.simulators.dock_on_fault_disk import FaultyDock
from tests.simulators.faultfs.mount import FaultDisk
from tests.simulators.faultfs.rules import Effect, Operation


async def losses_after_the_power_went(dock: FaultyDock) -> list[str]:
    assert await dock.run()
    assert not dock.losses()
    dock.disk.crash()
    dock.restart()
    return dock.losses()


async def test_all_protections_lose_nothing(disk: FaultDisk) -> None:
    """The control of the controls: with nothing taken away there is no loss."""
    assert not await losses_after_the_power_went(a_dock(disk))


@pytest.mark.parametrize("operation", [Operation.SYNC_FILE, Operation.SYNC_FOLDER])
async def test_staging_without_a_sync(disk: FaultDisk, operation: Operation) -> None:
    """Without the syncs of files, and without those of folders, staged copies are lost."""
    dock = a_dock(disk)
    disk.fault(Effect.IGNORED, [operation], path="staging/*", times=None)

    assert await losses_after_the_power_went(dock)


async def some_loss(disk: FaultDisk, points: Iterable[CrashPoint]) -> list[str]:
    for point in points:
        dock = a_dock(disk)
        cut_at(disk, point)
        await dock.run()
        dock.restart()
        if found := dock.losses():
            return found
    return []


@pytest.fixture
def synced_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every journal that is opened has synchronous=NORMAL."""
    ask = aiosqlite.Connection.execute_fetchall

    async def asked(connection: aiosqlite.Connection, text: str, *values: Any) -> Any:
        return await ask(connection, text.replace("= FULL", "= NORMAL"), *values)

    monkeypatch.setattr(aiosqlite.Connection, "execute_fetchall", asked)


@pytest.mark.usefixtures("synced_less")
async def test_a_journal_that_is_synced_less(disk: FaultDisk, seed: int) -> None:
    """With synchronous=NORMAL rows are lost that were acknowledged."""
    points = await points_of_a_docking(disk, Random(seed))

    assert await some_loss(disk, sorted(points, key=lambda point: -point.number))


@pytest.mark.usefixtures("synced_less")
async def test_a_receipt_that_is_synced_less(disk: FaultDisk) -> None:
    """With synchronous=NORMAL a copy is freed by a receipt that is lost."""
    dock = a_dock(disk)
    assert await dock.run()
    disk.crash_at(0, happens=True, operations=[Operation.SYNC_FOLDER], path="staging/files")
    assert not await dock.free(receipts_for(dock))
    dock.restart()

    assert dock.losses()


async def test_a_copy_that_is_not_read_back(disk: FaultDisk) -> None:
    """At L1, which does without reading back, a write that the disk has lost is not found out."""
    dock = a_dock(disk)
    dock.evidence_level = EvidenceLevel.L1
    dock.checkpoint_bytes = 1 << 30  # one write for each file: a later one would mend it
    disk.fault(Effect.LOST_WRITE, [Operation.WRITE], path="staging/partial/*")

    assert await dock.run()

    assert dock.losses()
