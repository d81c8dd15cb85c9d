"""A bay whose recorder has a file that cannot be read whole."""

import contextlib

import pytest

from edge_agent.adapters.bay_supervisor import RetryPace
from edge_agent.adapters.directory_volume import DirectoryVolume
from edge_agent.ingest.salvage import SECTOR_BYTES
from edge_agent.ingest.volume import SourceFile
from protocol.findings import FindingCode
from protocol.messages import BayState
from tests.edge.test_bay_supervisor import Bay, bay
from tests.simulators.bay_folders import CLIP_BYTES, dock_recorder, pull_recorder
from tests.simulators.worn_volume import Wear

__all__ = ["bay"]  # the fixture

TRIES = RetryPace().most_sealed


@pytest.fixture
def wear(monkeypatch: pytest.MonkeyPatch) -> Wear:
    wear = Wear(path=b"", bad=range(0))

    def open_worn(
        volume: DirectoryVolume, path: bytes
    ) -> contextlib.AbstractContextManager[SourceFile]:
        return wear.open(volume, path)

    monkeypatch.setattr(DirectoryVolume, "open", open_worn)
    return wear


async def test_no_receipt_releases_it(bay: Bay, wear: Wear) -> None:
    """Whatever is archived of it, the bay asks for a person, and an alert says which file it is."""
    wear.path, *_ = map(str.encode, dock_recorder(bay.folder))
    wear.bad = range(10 * SECTOR_BYTES, 11 * SECTOR_BYTES)
    async with bay.served():
        while len(await bay.site.manifests()) < TRIES:
            await bay.settle()
        shown = await bay.until_state(BayState.ATTENTION)
        for manifest in await bay.site.manifests():
            await bay.receipt(manifest.sequence)
        await bay.settle()
        after = bay.board.bay(shown.bay)

    manifests = await bay.site.manifests()
    [told] = [one for one in manifests[-1].incomplete if one.readable]
    assert (shown.state, after.state) == (BayState.ATTENTION, BayState.ATTENTION)
    assert after.problem == FindingCode.UNREADABLE_FILE.value
    assert told.taken_bytes == CLIP_BYTES - SECTOR_BYTES
    assert [alert.code for alert in await bay.alerts()] == [FindingCode.UNREADABLE_FILE.value]
    assert all(wear.path.decode() in alert.text for alert in await bay.alerts())


async def test_once_it_can_be_read_it_is_released(bay: Bay, wear: Wear) -> None:
    """Docked again, read whole this time, the recorder is released by its receipts."""
    wear.path, *_ = map(str.encode, dock_recorder(bay.folder))
    wear.bad = range(10 * SECTOR_BYTES, 11 * SECTOR_BYTES)
    async with bay.served():
        await bay.until_state(BayState.ATTENTION)
        wear.bad = range(0)
        pulled = pull_recorder(bay.folder)
        await bay.until_state(BayState.EMPTY)
        pulled.rename(bay.folder)
        await bay.until_state(BayState.SEALED)
        for manifest in await bay.site.manifests():
            await bay.receipt(manifest.sequence)
        await bay.until_state(BayState.RELEASABLE)

    claimed = [file for one in await bay.site.manifests() for file in one.staged_files()]
    assert len(claimed) == 3
