import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.site import Site, SiteOptions
from soak.checker import check
from soak.killing import Killer
from soak.recorders import MIB, Habits, WornRecorder, worn_recorders
from soak.station import Station, places_of
from tests.e2e.archive_reading import refuse_bad_bags

pytestmark = pytest.mark.processes

BAYS = 8
KILLS = 50
SEED = 1
PATIENCE_S = 240


@pytest.fixture
def recorders(tmp_path: Path) -> list[WornRecorder]:
    # Large enough for clips that are noted in the journal before they are whole.
    habits = Habits(clips=2, large_clip_bytes=24 * MIB)
    return list(worn_recorders(tmp_path / "recorders", BAYS, seed=SEED, habits=habits))


@pytest.fixture
def site(tmp_path: Path, recorders: list[WornRecorder]) -> Iterator[Site]:
    options = SiteOptions(bays=BAYS, read_limit_bytes_s=8 * MIB, reconcile_s=5)
    site = Site(tmp_path / "site", [one.registered for one in recorders], options)
    site.prepare()
    try:
        yield site
    finally:
        site.stop()


@pytest.mark.timeout(600)
def test_killed_programs_archive_exactly_once(site: Site, recorders: list[WornRecorder]) -> None:
    """Dock, archive and broker are killed at random moments; each file is archived exactly once."""
    dice = random.Random(SEED)
    station, killer = Station(site, recorders, dice), Killer(site, dice)
    site.start_archive()
    site.start_dock()

    while killer.kills.total() < KILLS:
        station.fill_bays()
        killer.wait()
        station.take_released()
        killer.wait()
        killer.kill()
    station.finish(patience_s=PATIENCE_S)

    originals = [original for one in recorders for original in one.originals]
    assert station.faults == []
    assert check(originals, places_of(site)) == []
    assert refuse_bad_bags(site.archive) > 0
