"""The dock's disk fails, fills up or lies: nothing is lost, and with a good disk it goes on."""

import contextlib
import errno
from random import Random
from typing import Final

from edge_agent.ports import OutcomeKind
from protocol.findings import FindingCode
from tests.faults.test_dock_power_cut import a_dock, check_it_ends_well
from tests.simulators.crash_points import EVERYWHERE
from tests.simulators.dock_on_fault_disk import POWER_FAILURES, FaultyDock, place_of
from tests.simulators.faultfs.mount import FaultDisk
from tests.simulators.faultfs.rules import (
    MUTATING,
    REFUSED_READ_ONLY,
    Effect,
    Operation,
    Traced,
)

_FALLIBLE: Final = MUTATING | {Operation.READ, Operation.OPEN, Operation.LIST}
_ERRORS: Final = (errno.EIO, errno.ENOSPC)
_ROUNDS: Final = 200 if EVERYWHERE else 12


async def trace_of_a_docking(disk: FaultDisk) -> list[Traced]:
    """Dock undisturbed, and return what was asked of the disk."""
    assert await a_dock(disk).run()
    return [traced for traced in disk.trace() if traced.operation in _FALLIBLE]


def chosen(trace: list[Traced], chance: Random) -> list[int]:
    """Return the numbers of the operations to spoil: all, or one of each kind at each place."""
    if EVERYWHERE:
        return list(range(len(trace)))
    alike: dict[tuple[Operation, str], list[int]] = {}
    for number, traced in enumerate(trace):
        alike.setdefault((traced.operation, place_of(traced.paths[0])), []).append(number)
    return [chance.choice(numbers) for numbers in alike.values()]


async def run_badly(dock: FaultyDock) -> None:
    """Dock once, whatever the disk makes of it; then the power goes, and the disk is well again."""
    with contextlib.suppress(*POWER_FAILURES):
        await dock.run()
    dock.disk.clear_rules()
    dock.disk.set_disk(capacity_bytes=None, capacity_nodes=None, shown_free_bytes=None)
    assert not dock.losses()
    dock.disk.crash()
    dock.restart()
    assert not dock.losses()


async def test_any_operation_fails_once(disk: FaultDisk, seed: int) -> None:
    """EIO or ENOSPC at any single operation: told, tried anew or stopped at, and never a loss."""
    chance = Random(seed)
    for number in chosen(await trace_of_a_docking(disk), chance):
        for error in _ERRORS if EVERYWHERE else [chance.choice(_ERRORS)]:
            dock = a_dock(disk)
            disk.fail(*_FALLIBLE, skip=number, error=error)
            await run_badly(dock)
            await check_it_ends_well(dock)


async def test_the_disk_becomes_read_only(disk: FaultDisk, seed: int) -> None:
    """EROFS from any operation on: what was acknowledged stays, and the rest is taken later."""
    chance = Random(seed)
    trace = await trace_of_a_docking(disk)
    changing = [traced for traced in trace if traced.operation in REFUSED_READ_ONLY]
    for number in chosen(changing, chance):
        dock = a_dock(disk)
        disk.fail(*REFUSED_READ_ONLY, skip=number, times=None, error=errno.EROFS)
        await run_badly(dock)
        await check_it_ends_well(dock)


async def test_any_sync_loses_its_pages(disk: FaultDisk, seed: int) -> None:
    """A sync that fails once and then says that all is well: nobody believes it."""
    chance = Random(seed)
    trace = await trace_of_a_docking(disk)
    syncs = [traced for traced in trace if traced.operation is Operation.SYNC_FILE]
    for number in range(len(syncs)) if EVERYWHERE else chosen(syncs, chance):
        dock = a_dock(disk)
        disk.fault(Effect.LOST_PAGES, [Operation.SYNC_FILE], skip=number)
        await run_badly(dock)
        await check_it_ends_well(dock)


async def test_the_disk_is_full_at_any_byte(disk: FaultDisk, seed: int) -> None:
    """With room for any number of bytes, announced or not: nothing is lost, and room is used."""
    chance = Random(seed)
    assert await a_dock(disk).run()
    used_bytes = sum(path.stat().st_size for path in disk.root.rglob("*") if path.is_file())
    for _ in range(_ROUNDS):
        dock = a_dock(disk)
        disk.set_disk(
            capacity_bytes=chance.randrange(2 * used_bytes),
            shown_free_bytes=chance.choice((None, 1 << 30)),
        )
        await run_badly(dock)
        await check_it_ends_well(dock)


async def test_a_checkpoint_is_forgotten_before_its_bytes_go(disk: FaultDisk) -> None:
    """Full in mid-file: the journal does not promise what was thrown away."""
    dock = a_dock(disk)
    disk.fail(Operation.WRITE, path="staging/partial/*", skip=1, error=errno.ENOSPC)

    await run_badly(dock)
    await check_it_ends_well(dock)


async def test_the_disk_has_no_inodes(disk: FaultDisk) -> None:
    """Without room for one more file the dock stops, loses nothing, and goes on when there is."""
    for nodes in range(1, 12):
        dock = a_dock(disk)
        disk.set_disk(capacity_nodes=nodes)
        await run_badly(dock)
        await check_it_ends_well(dock)


async def test_the_disk_takes_little_at_a_time(disk: FaultDisk, seed: int) -> None:
    """Writes that do less than they were asked for, all of them, cost nothing."""
    dock = a_dock(disk)
    disk.fault(
        Effect.SHORT, [Operation.WRITE], path="staging/*", times=None, value=1 + seed % 8_191
    )

    await check_it_ends_well(dock)


async def test_the_disk_gives_little_at_a_time(disk: FaultDisk, seed: int) -> None:
    """Reads that give less than there is, all of them, change no digest."""
    dock = a_dock(disk)
    disk.fault(Effect.SHORT, [Operation.READ], path="staging/*", times=None, value=1 + seed % 8_191)

    await check_it_ends_well(dock)


async def test_a_lost_write_is_read_back(disk: FaultDisk) -> None:
    """A copy of which the disk has lost a write is found out, told, and made once more."""
    dock = a_dock(disk)
    dock.checkpoint_bytes = 1 << 30  # one write for each file: a later one would mend it
    disk.fault(Effect.LOST_WRITE, [Operation.WRITE], path="staging/partial/*")

    await check_it_ends_well(dock)

    assert FindingCode.COPY_DIFFERED in {one.code for one in dock.outcomes[-1].findings}
    disk.crash()
    dock.restart()
    assert not dock.losses()


async def test_a_disk_that_loses_every_write_stops_the_bay(disk: FaultDisk) -> None:
    """Nothing is claimed of a disk on which no copy reads back as it was written."""
    dock = a_dock(disk)
    disk.fault(Effect.LOST_WRITE, [Operation.WRITE], path="staging/partial/*", times=None)

    assert await dock.run()

    assert dock.outcomes[-1].kind is OutcomeKind.ATTENTION
    assert not dock.told.staged
    disk.clear_rules()
    await check_it_ends_well(dock)


async def test_an_eviction_that_proves_nothing_lowers_the_level(disk: FaultDisk) -> None:
    """On FUSE nothing is proved to come from the disk: compared, but no more than L1, and said."""
    dock = a_dock(disk)

    await check_it_ends_well(dock)

    [lowered] = [
        one for one in dock.outcomes[-1].findings if one.code is FindingCode.EVIDENCE_LOWERED
    ]
    assert "L1" in lowered.detail
