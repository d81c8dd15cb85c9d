"""A dock whose disk turns read-only, fails or hangs: it says so, waits, and goes on by itself."""

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from edge_agent import app, staying_alive
from edge_agent.adapters.disk_watch import DISK_SILENT, DiskWatch, WatchPace
from edge_agent.config import load_config
from edge_agent.ports import DISK_REFUSES
from tests.edge.test_app import REGISTRY, archive, archived, broker, released, site, snapshot_when
from tests.simulators.archive_service import ArchiveService
from tests.simulators.bay_folders import dock_recorder
from tests.simulators.edge_site import EdgeSite
from tests.simulators.faultfs.mount import FaultDisk
from tests.simulators.faultfs.rules import Effect, Operation

__all__ = ["archive", "broker", "site"]  # fixtures

pytestmark = pytest.mark.processes

Fault = Callable[[FaultDisk], object]

EVERYTHING: Final = frozenset(Operation)
# Each with what the bay says of it.
FAULTS: Final[dict[str, tuple[Fault, str]]] = {
    "read-only": (lambda disk: disk.set_disk(read_only=True), DISK_REFUSES),
    "fails": (lambda disk: disk.fail(*EVERYTHING, times=None, error=errno.EIO), DISK_REFUSES),
    "hangs": (lambda disk: disk.fault(Effect.STALL, EVERYTHING, times=None), DISK_SILENT),
}


def mend(disk: FaultDisk) -> None:
    disk.set_disk(read_only=False)
    disk.clear_rules()


def on_disk(site: EdgeSite, disk: FaultDisk) -> None:
    """Put the dock's staging and journal on the disk that fails, and let it read slowly."""
    text = site.config.read_text()
    for name in ("staging", "journal.sqlite"):
        text = text.replace(f'= "{name}"', f'= "{disk.root / name}"')
    site.config.write_text(f"{text}read_limit_bytes_s = 400_000\n")


def on_recorder(folder: Path) -> dict[Path, tuple[bytes, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@contextlib.asynccontextmanager
async def running(site: EdgeSite) -> AsyncIterator[None]:
    """Let an agent run; that it ends by itself is a failure."""
    async with asyncio.TaskGroup() as group:
        agent = group.create_task(app._serve_until_stopped(load_config(site.config)))  # noqa: SLF001 -- run_agent brings a loop of its own
        yield
        agent.cancel()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test wait as long as a dock does."""
    pace = WatchPace(pause_s=0.1, silent_s=1.0)
    for module in (app, staying_alive):
        monkeypatch.setattr(module, "DiskWatch", partial(DiskWatch, pace=pace))
    monkeypatch.setattr(staying_alive, "_DISK_PAUSE_S", 0.1)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_disk_that_fails_while_a_recorder_is_read(
    site: EdgeSite, archive: ArchiveService, disk: FaultDisk, fault: str
) -> None:
    """The bay says so; mended, all is archived, and the recorder is as it was."""
    on_disk(site, disk)
    await archive.publish_registry(REGISTRY)
    contents = dock_recorder(site.bay(1))
    before = on_recorder(site.bay(1))
    break_it, code = FAULTS[fault]
    try:
        async with running(site):
            await snapshot_when(site, lambda one: one.bays[0].bytes_done > 0)
            break_it(disk)
            await snapshot_when(site, lambda one: one.bays[0].problem == code)
            if code == DISK_SILENT:
                await archive.until(lambda heard: any(bay.problem == code for bay in heard.bays))
            manifests = len(archive.heard.manifests)
            mend(disk)
            await archive.until(released)
    finally:
        mend(disk)

    assert manifests == 0
    assert archived(archive) == set(contents.values())
    assert on_recorder(site.bay(1)) == before


@pytest.mark.parametrize("fault", ["read-only", "fails"])
async def test_a_disk_that_takes_nothing_at_the_start(
    site: EdgeSite, archive: ArchiveService, disk: FaultDisk, fault: str
) -> None:
    """The agent answers, and says why it reads nothing; mended, it begins by itself."""
    on_disk(site, disk)
    await archive.publish_registry(REGISTRY)
    contents = dock_recorder(site.bay(1))
    break_it, code = FAULTS[fault]
    break_it(disk)
    try:
        async with running(site):
            await snapshot_when(site, lambda one: one.bays[0].problem == code)
            mend(disk)
            await archive.until(released)
    finally:
        mend(disk)

    assert archived(archive) == set(contents.values())


async def test_a_disk_that_hangs_while_it_is_waited_for(
    site: EdgeSite, archive: ArchiveService, disk: FaultDisk
) -> None:
    """Who asks is told, the agent can be stopped, and mended all is archived."""
    on_disk(site, disk)
    await archive.publish_registry(REGISTRY)
    contents = dock_recorder(site.bay(1))
    disk.fail(*EVERYTHING, times=None, error=errno.EIO)
    try:
        async with running(site):
            await snapshot_when(site, lambda one: one.bays[0].problem == DISK_REFUSES)
            disk.clear_rules()
            disk.fault(Effect.STALL, EVERYTHING, times=None)
            await snapshot_when(site, lambda one: one.bays[0].problem == DISK_SILENT)
        # Stopped while it hangs.
        mend(disk)
        async with running(site):
            await archive.until(released)
    finally:
        mend(disk)

    assert archived(archive) == set(contents.values())
