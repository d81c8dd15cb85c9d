from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import create_engine, update
from sqlalchemy.engine import make_url

from server_agent.catalogue import tables
from server_agent.console.config import ConsoleSettings, catalogue_url
from server_agent.console.reader import PAGE_ROWS, CatalogueReader, open_catalogue
from server_agent.console.records import Wanted
from tests.simulators.console_data import DOCK, FilledSite, fill_site

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
EVERYTHING = Wanted()


@pytest.fixture
async def reader(site: FilledSite, settings: ConsoleSettings) -> AsyncIterator[CatalogueReader]:
    engine = open_catalogue(catalogue_url(settings, base=site.root))
    yield CatalogueReader(engine)
    await engine.dispose()


async def test_site_facts(reader: CatalogueReader) -> None:
    """Names of the newest registry, alerts newest first, and what was refused."""
    facts = await reader.read_site(now_utc=NOW)

    assert facts.names.version == 7
    assert facts.names.officers["012301"] == "张伟"
    assert [alert.code for alert in facts.alerts] == [
        *("F-ADM-008", "F-FOR-001", "F-ING-003", "E-XYZ-999")
    ]
    assert facts.alerts[0].facts == (("model", "DSJ-V2"), ("serial", "V2-88231907"))
    assert (facts.alerts_total, facts.refused_messages, facts.refused_manifests) == (4, 2, 0)


async def test_what_is_over(reader: CatalogueReader, site: FilledSite) -> None:
    """An alert whose cause has passed is with its dock's, with when, and not on the live page."""
    at = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
    engine = create_engine(f"sqlite:///{site.catalogue}")
    with engine.begin() as connection:
        connection.execute(
            update(tables.alerts).where(tables.alerts.c.code == "F-FOR-001").values(over_at=at)
        )
    engine.dispose()

    facts = await reader.read_site(now_utc=NOW)
    alerts, total = await reader.alerts_of(DOCK, bay=None, offset=0)

    assert [alert.code for alert in facts.alerts] == ["F-ADM-008", "F-ING-003", "E-XYZ-999"]
    assert (facts.alerts_total, total) == (3, 4)
    assert [one.over_at_utc for one in alerts if one.code == "F-FOR-001"] == [at]
    assert {one.over_at_utc for one in alerts if one.code != "F-FOR-001"} == {None}


async def test_newest_recordings_first(reader: CatalogueReader, site: FilledSite) -> None:
    """All archived recordings, by the time that they were recorded at."""
    rows, total = await reader.list_recordings(EVERYTHING, offset=0)

    assert total == len(site.filed) == len(rows)
    times = [(row.recorded_on, row.started) for row in rows]
    assert times == sorted(times, reverse=True)
    assert {row.evidence for row in rows} == {"L2"}


async def test_filters_are_exact(reader: CatalogueReader, site: FilledSite) -> None:
    """Day, officer and recorder each select exactly what has them."""
    one = site.filed[0]
    for wanted, attribute, value in (
        (Wanted(day=one.day), "day", one.day),
        (Wanted(officer=one.officer), "officer", one.officer),
        (Wanted(recorder=one.recorder), "recorder", one.recorder),
        (Wanted(own=one.officer), "officer", one.officer),
    ):
        rows, total = await reader.list_recordings(wanted, offset=0)
        meant = {filed.recording_id for filed in site.filed if getattr(filed, attribute) == value}

        assert {row.recording_id for row in rows} == meant
        assert total == len(meant)


async def test_own_and_another_officer_is_nothing(reader: CatalogueReader) -> None:
    """An officer who asks for another officer's recordings gets none."""
    wanted = Wanted(officer="012302", own="012301")

    assert await reader.list_recordings(wanted, offset=0) == ((), 0)


async def test_a_day_without_recordings(reader: CatalogueReader) -> None:
    """A day on which nothing was recorded is an empty list."""
    assert await reader.list_recordings(Wanted(day=date(2020, 1, 1)), offset=0) == ((), 0)


async def test_pages_follow_each_other(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Pages have no recording twice and miss none."""
    many = fill_site(tmp_path_factory.mktemp("many"), recordings=PAGE_ROWS + 7)

    engine = open_catalogue(make_url(f"sqlite+aiosqlite:///{many.catalogue}"))
    reader = CatalogueReader(engine)
    first, total = await reader.list_recordings(EVERYTHING, offset=0)
    second, _ = await reader.list_recordings(EVERYTHING, offset=PAGE_ROWS)
    await engine.dispose()

    assert (total, len(first), len(second)) == (PAGE_ROWS + 7, PAGE_ROWS, 7)
    shown = [row.recording_id for row in (*first, *second)]
    assert set(shown) == {filed.recording_id for filed in many.filed}


async def test_one_recording_with_all_its_facts(reader: CatalogueReader, site: FilledSite) -> None:
    """A recording has its clips in order, its signed manifest and its receipt."""
    filed = site.filed[1]
    detail = await reader.find_recording(filed.recording_id, EVERYTHING)

    assert detail is not None
    assert tuple(clip.file_id for clip in detail.clips) == filed.file_ids
    assert tuple(clip.sha256 for clip in detail.clips) == filed.sha256
    assert detail.dock == DOCK
    assert detail.recording.bag_path == filed.bag_path
    assert detail.manifest is not None
    assert detail.manifest.recordings[0].recording_id == filed.recording_id
    assert detail.receipt is not None
    assert detail.receipt.manifest_id == detail.manifest.manifest_id
    assert detail.archived_at_utc - detail.receipt.archived_at == timedelta(0)


async def test_anothers_recording_is_not_found(reader: CatalogueReader, site: FilledSite) -> None:
    """For an officer, another officer's recording is not there."""
    filed = site.filed[0]

    assert await reader.find_recording(filed.recording_id, Wanted(own=filed.officer)) is not None
    assert await reader.find_recording(filed.recording_id, Wanted(own="999999")) is None


async def test_what_has_not_arrived_is_not_listed(
    reader: CatalogueReader, site: FilledSite
) -> None:
    """A recording without a bag is neither listed, nor found, nor played."""
    filed = site.filed[0]
    engine = create_engine(f"sqlite:///{site.catalogue}")
    with engine.begin() as connection:
        connection.execute(
            update(tables.groups)
            .where(tables.groups.c.recording_id == filed.recording_id)
            .values(bag_id=None)
        )
    engine.dispose()

    rows, total = await reader.list_recordings(EVERYTHING, offset=0)
    assert total == len(rows) == len(site.filed) - 1
    assert await reader.find_recording(filed.recording_id, EVERYTHING) is None
    assert await reader.find_file(filed.file_ids[0]) is None
