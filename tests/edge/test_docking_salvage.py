"""Dockings of recorders with files that cannot be read whole."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge_agent.file_salvager import BUDGET_S
from edge_agent.ingest.files import Device, FileRow, FileState
from edge_agent.ingest.salvage import MAX_FAILURES, SECTOR_BYTES
from edge_agent.ports import OutcomeKind
from protocol.digest import sha256_hex
from protocol.findings import FindingCode
from protocol.manifest import Incomplete, IncompleteReason
from tests.simulators.docking_site import (
    MORNING,
    DockingSite,
    claimed,
    clip_path,
    mtime_ns,
    noise,
    open_site,
    recorder_time,
    recording,
)
from tests.simulators.killing_journal import KilledError
from tests.simulators.memory_salvage import MemorySalvage
from tests.simulators.memory_staging import MemoryStaging
from tests.simulators.memory_volume import MemoryVolume, Stored

R1 = Device(model="DSJ-A8", serial="0000017")
LATER = recorder_time(2026, 11, 21, 12)
BAD = clip_path(MORNING, 1)
SIZE_BYTES = 100 * SECTOR_BYTES
CONTENT = noise(BAD, SIZE_BYTES)
CHUNK_BYTES = 8 * SECTOR_BYTES


@pytest.fixture
def salvage() -> MemorySalvage:
    return MemorySalvage()


@pytest.fixture
async def site(tmp_path: Path, salvage: MemorySalvage) -> AsyncIterator[DockingSite]:
    async with open_site(tmp_path / "journal.sqlite") as opened:
        opened.salvaging = salvage
        yield opened


def card(*bad_sectors: int, content: bytes = CONTENT, others: bool = True) -> MemoryVolume:
    """Return a recorder with one long clip that has bad sectors, and another recording."""
    clip = Stored(content=content, mtime_ns=mtime_ns(MORNING), bad_sectors=frozenset(bad_sectors))
    return MemoryVolume(
        files={BAD: clip} | (recording(LATER, first=7) if others else {}), chunk_bytes=CHUNK_BYTES
    )


async def row(site: DockingSite) -> FileRow:
    return next(one for one in await site.journal.known_files(R1) if one.key.path == BAD)


async def incomplete(site: DockingSite) -> Incomplete:
    """Return the only file that the newest manifest lists as incomplete."""
    [found] = (await site.manifests())[-1].incomplete
    return found


def sectors(found: Incomplete) -> set[int]:
    return {
        sector
        for part in found.readable
        for sector in range(part.offset_bytes // SECTOR_BYTES, part.end_bytes // SECTOR_BYTES)
    }


async def test_all_but_the_bad_sector_is_kept_and_named(
    site: DockingSite, salvage: MemorySalvage
) -> None:
    """One bad sector: the rest of its file is held, each part with its digest, never as done."""
    outcome = await site.dock(card(50))

    found = await incomplete(site)
    bad = await row(site)
    assert found.reason is IncompleteReason.UNREADABLE
    assert sectors(found) == set(range(100)) - {50}
    assert found.taken_bytes == SIZE_BYTES - SECTOR_BYTES
    for part in found.readable:
        assert part.sha256 == sha256_hex(CONTENT[part.offset_bytes : part.end_bytes])
    assert salvage.kept[bad.file_id][51 * SECTOR_BYTES :] == CONTENT[51 * SECTOR_BYTES :]
    assert (bad.state, bad.digests) == (FileState.COPYING, None)
    assert (outcome.kind, outcome.code) == (OutcomeKind.ATTENTION, "F-ING-001")
    assert list(claimed(await site.manifests()).values()) == [clip_path(LATER, 7)]


async def test_the_others_are_read_first(site: DockingSite) -> None:
    """Nothing of a bad file is tried again before every other file is staged."""
    volume = card(50)
    volume.pull_after_probes[BAD] = 0

    outcome = await site.dock(volume)

    assert outcome.kind is OutcomeKind.LEFT
    assert list(claimed(await site.manifests()).values()) == [clip_path(LATER, 7)]


async def test_the_finding_names_what_is_missing(site: DockingSite) -> None:
    """A person reads how much is held, and where the hole is."""
    outcome = await site.dock(card(50))

    [said] = [one for one in outcome.findings if one.code is FindingCode.UNREADABLE_FILE]
    assert said.path == BAD.decode()
    assert f"; not {SECTOR_BYTES} at {50 * SECTOR_BYTES}: " in said.detail


async def test_a_file_that_can_be_read_again_is_done(
    site: DockingSite, salvage: MemorySalvage
) -> None:
    """Read whole at a later docking, it is claimed like any other, and its parts are freed."""
    await site.dock(card(50))

    outcome = await site.dock(card())

    whole = await row(site)
    assert outcome.kind is OutcomeKind.SEALED
    assert whole.digests is not None
    assert whole.digests.sha256 == sha256_hex(CONTENT)
    assert (whole.state, whole.salvaged) == (FileState.CLAIMED, ())
    assert not salvage.kept


async def test_what_a_dying_card_gave_once_is_kept(
    site: DockingSite, salvage: MemorySalvage
) -> None:
    """At each docking other sectors are bad: what was read at any of them is held."""
    await site.dock(card(20, *range(60, 100)))

    await site.dock(card(20, *range(30, 80)))

    found = await incomplete(site)
    kept = salvage.kept[(await row(site)).file_id]
    assert sectors(found) == set(range(100)) - {20, *range(60, 80)}
    for part in found.readable[1:]:
        assert sha256_hex(kept[part.offset_bytes : part.end_bytes]) == part.sha256


async def test_it_never_becomes_releasable_while_it_is_there(site: DockingSite) -> None:
    """Given up as a clip, it still asks for a person at each docking."""
    for _ in range(3):
        outcome = await site.dock(card(50))
        assert (outcome.kind, outcome.code) == (OutcomeKind.ATTENTION, "F-ING-001")
        assert sectors(await incomplete(site)) == set(range(100)) - {50}


async def test_a_recorder_that_leaves_meanwhile_costs_nothing_that_was_read(
    site: DockingSite,
) -> None:
    """Pulled while a file is salvaged: what was read is held and told, the docking is over."""
    volume = card(50, 51)
    volume.pull_after_probes[BAD] = 5

    outcome = await site.dock(volume)

    found = await incomplete(site)
    assert outcome.kind is OutcomeKind.LEFT
    assert set(range(50)) < sectors(found) < set(range(100)) - {50, 51}
    for part in found.readable:
        assert part.sha256 == sha256_hex(CONTENT[part.offset_bytes : part.end_bytes])


async def test_a_card_that_takes_too_long_is_left_alone(site: DockingSite) -> None:
    """A card that answers after half a minute each time holds its bay for minutes, not for days."""
    volume = card(*range(8, 100))
    site.monotonic_s = lambda: volume.probes.total() * 30.0

    await site.dock(volume)

    assert volume.probes[BAD] <= BUDGET_S / 29 + 1


async def test_a_dead_file_is_tried_so_often_only(
    site: DockingSite, salvage: MemorySalvage
) -> None:
    """However large it is, a file of which nothing can be read is given up, and leaves nothing."""
    volume = card(*range(100_000), content=bytes(300 * SECTOR_BYTES))

    await site.dock(volume)

    assert volume.probes[BAD] <= MAX_FAILURES
    assert (await incomplete(site)).taken_bytes == 0
    assert not salvage.kept


async def test_other_bytes_leave_what_was_kept_alone(
    site: DockingSite, salvage: MemorySalvage
) -> None:
    """If the recorder has something else now where parts were kept, those are not touched."""
    await site.dock(card(50))
    kept = dict(salvage.kept)
    changed = CONTENT[: 51 * SECTOR_BYTES] + bytes(49 * SECTOR_BYTES)

    outcome = await site.dock(card(50, content=changed))

    assert salvage.kept == kept
    assert any("not what was kept" in one.detail for one in outcome.findings)
    assert sectors(await incomplete(site)) == set(range(100)) - {50}


async def test_a_disk_that_changes_parts_is_not_believed(
    site: DockingSite, salvage: MemorySalvage
) -> None:
    """Parts that read back differently from our own disk are not told as held."""
    salvage.changing = True

    outcome = await site.dock(card(50))

    assert (outcome.kind, outcome.code) == (OutcomeKind.ATTENTION, "E-STG-302")
    assert not (await incomplete(site)).readable


async def test_without_room_nothing_is_salvaged(site: DockingSite, salvage: MemorySalvage) -> None:
    """Parts take no room that the dock does not have; the file is told as before."""
    staging = MemoryStaging()

    def others_fill_the_disk() -> float:
        staging.room_bytes = 0
        return 0.0

    site.staging, site.monotonic_s = staging, others_fill_the_disk

    outcome = await site.dock(card(50, others=False))

    assert any("no room" in one.detail for one in outcome.findings)
    assert not salvage.kept
    assert (await incomplete(site)).taken_bytes == 50 * SECTOR_BYTES


@pytest.mark.parametrize("after", [False, True])
async def test_killed_while_parts_are_noted(
    site: DockingSite, salvage: MemorySalvage, *, after: bool
) -> None:
    """Parts are told if the journal has them; else nothing of them stays behind."""
    site.kill_at_call(1, after=after, only="salvaged")
    with pytest.raises(KilledError):
        await site.dock(card(50))
    site.live_again()
    site.live.clear()

    await site.start()

    assert bool((await incomplete(site)).readable) is after
    assert bool(salvage.kept) is after


async def test_parts_of_a_lost_file_wait_for_a_person(
    site: DockingSite, salvage: MemorySalvage
) -> None:
    """Deleted from the recorder since, what was kept of it stays and is counted."""
    await site.dock(card(0))
    volume = card()
    del volume.files[BAD]

    await site.dock(volume)

    assert sectors(await incomplete(site)) == set(range(1, 100))
    assert salvage.kept
    assert await site.journal.held_count() == 1
