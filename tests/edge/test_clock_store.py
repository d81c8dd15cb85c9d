from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from edge_agent.adapters.clock_store import ClockStore, NotedClock
from edge_agent.ingest.told import Told
from tests.simulators.docking_site import MORNING, DockingSite, open_site, recording
from tests.simulators.killing_journal import KilledError
from tests.simulators.memory_volume import MemoryVolume

DEAD = NotedClock(recorder_time=MORNING - timedelta(days=10_000), drift_ms=-864_000_000_000)
SET = NotedClock(recorder_time=MORNING, drift_ms=300)
SERIAL = "0000017"
HOUR_MS = 3_600_000


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[DockingSite]:
    async with open_site(tmp_path / "journal.sqlite") as opened:
        yield opened


async def test_what_was_noted_before_the_clock_was_set_holds(site: DockingSite) -> None:
    """A talk that was cut short and is held again tells a clock that is right now."""
    clocks = ClockStore(site.journal)

    assert await clocks.note(SERIAL, DEAD, at_ms=0) == DEAD
    assert await clocks.note(SERIAL, SET, at_ms=HOUR_MS) == DEAD
    assert await clocks.note("0000018", SET, at_ms=HOUR_MS) == SET


async def test_what_was_noted_long_ago_is_over(site: DockingSite) -> None:
    """A day later the recorder has filmed by the clock that was set; likewise if ours went back."""
    clocks = ClockStore(site.journal)
    await clocks.note(SERIAL, DEAD, at_ms=30 * HOUR_MS)

    assert await clocks.note(SERIAL, SET, at_ms=60 * HOUR_MS) == SET
    assert await clocks.note(SERIAL, DEAD, at_ms=HOUR_MS) == DEAD


async def test_a_docking_takes_it_over(site: DockingSite) -> None:
    """Once a docking has it, the next talk begins anew; a kill does not lose what was told."""
    clocks = ClockStore(site.journal)
    told = Told(driver="line-protocol-1", serial=SERIAL, drift_ms=DEAD.drift_ms)
    await clocks.note(SERIAL, DEAD, at_ms=0)
    site.kill_at_call(1, after=True, only="begin_copies")
    with pytest.raises(KilledError):
        await site.dock(MemoryVolume(files=recording()), told=told)
    site.live_again()
    site.live.clear()

    assert await clocks.note(SERIAL, SET, at_ms=HOUR_MS) == SET
    await site.start()
    [manifest] = await site.manifests()
    assert manifest.clock.drift_ms == DEAD.drift_ms
