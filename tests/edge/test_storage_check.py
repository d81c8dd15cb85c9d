from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_agent.adapters.journal import Journal
from edge_agent.adapters.notice_store import NoticeStore
from edge_agent.adapters.salvage_disk import SalvageDisk
from edge_agent.adapters.staging_disk import StagingDisk
from edge_agent.adapters.storage_check import COPIES_ORPHANED, clear_staging, pair_storage
from edge_agent.errors import ForeignStagingError
from tests.simulators.docking_site import DockingSite, recording
from tests.simulators.memory_volume import MemoryVolume
from tests.simulators.sealed_manifests import DOCK, NOW


@dataclass(slots=True)
class Storage:
    """A journal and a staging folder, as at a start of the agent."""

    journal: Journal
    staging: StagingDisk
    salvaging: SalvageDisk
    notices: NoticeStore

    async def start(self) -> None:
        await pair_storage(self.journal, self.staging)
        await clear_staging(self.journal, self.staging, self.salvaging, self.notices)

    async def take_footage(self, *, clips: int = 3) -> None:
        await DockingSite(journal=self.journal, staging=self.staging).dock(
            MemoryVolume(files=recording(clips=clips))
        )


@asynccontextmanager
async def storage(root: Path, *, journal: str = "journal.sqlite") -> AsyncIterator[Storage]:
    async with Journal.open(root / journal) as opened:
        notices = NoticeStore(opened, dock=DOCK, clock=lambda: NOW)
        staging = root / "staging"
        disk = StagingDisk(staging, reserve_bytes=0)
        yield Storage(opened, disk, SalvageDisk(staging), notices)


async def test_its_own_copies_stay(tmp_path: Path) -> None:
    """From start to start, journal and staging belong together and nothing is put aside."""
    for _ in range(2):
        async with storage(tmp_path) as one:
            await one.start()
            await one.take_footage()

    async with storage(tmp_path) as one:
        await one.start()
        assert one.staging.sealed_count() == 3
        assert not await one.notices.undelivered_alerts()


async def test_a_new_journal_is_refused(tmp_path: Path) -> None:
    """A journal that knows nothing destroys no copies, however often the agent is started."""
    async with storage(tmp_path) as one:
        await one.start()
        await one.take_footage()

    for _ in range(2):
        async with storage(tmp_path, journal="new.sqlite") as other:
            with pytest.raises(ForeignStagingError):
                await other.start()
            assert other.staging.sealed_count() == 3


async def test_a_new_journal_is_refused_without_a_number(tmp_path: Path) -> None:
    """Copies of an installation that had no number yet are as safe."""
    async with storage(tmp_path) as one:
        await one.take_footage()

    async with storage(tmp_path, journal="new.sqlite") as other:
        with pytest.raises(ForeignStagingError):
            await other.start()


async def test_the_journal_of_another_staging_is_refused(tmp_path: Path) -> None:
    """A journal with dockings of its own is no better than an empty one."""
    (tmp_path / "other").mkdir()
    async with storage(tmp_path) as one, storage(tmp_path / "other") as other:
        for each in (one, other):
            await each.start()
            await each.take_footage()

        with pytest.raises(ForeignStagingError):
            await pair_storage(other.journal, one.staging)


async def test_an_older_journal_puts_copies_aside(tmp_path: Path) -> None:
    """What was sealed since the backup is kept and counted, and a person is told."""
    backup = tmp_path / "backup.sqlite"
    async with storage(tmp_path) as one:
        await one.start()
        await one.take_footage(clips=1)
        await one.journal.connection.execute_fetchall("VACUUM INTO ?", (str(backup),))
        await one.take_footage()

    async with storage(tmp_path, journal=backup.name) as restored:
        await restored.start()
        alerts = await restored.notices.undelivered_alerts()

    assert [(alert.code, alert.facts["copies"]) for alert in alerts] == [(COPIES_ORPHANED, "2")]
    assert restored.staging.orphaned_count() == 2


async def test_an_emptied_staging_is_taken_over(tmp_path: Path) -> None:
    """Where there are no copies none can be lost: a new disk, or a new journal, is welcome."""
    async with storage(tmp_path) as one, storage(tmp_path, journal="new.sqlite") as other:
        await one.start()
        await other.start()
        await other.start()
