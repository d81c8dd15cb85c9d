"""A recorder with more files than a docking keeps in mind is gone through in pieces."""

import dataclasses
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from edge_agent.ports import OutcomeKind
from protocol.findings import FindingCode
from protocol.manifest import IncompleteReason, Manifest, exact_path
from tests.simulators.docking_site import (
    MORNING,
    DockingSite,
    claimed,
    clip_path,
    mtime_ns,
    open_site,
    recording,
)
from tests.simulators.killing_journal import KilledError
from tests.simulators.memory_staging import MemoryStaging
from tests.simulators.memory_volume import MemoryVolume, Stored

HOURS = [MORNING + timedelta(hours=hour) for hour in range(6)]
# Six recordings of one clip each, oldest first.
CLIPS = [
    (path, stored)
    for number, start in enumerate(HOURS, start=1)
    for path, stored in recording(start, first=number).items()
]
PATHS = [path for path, _ in CLIPS]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[DockingSite]:
    async with open_site(tmp_path / "journal.sqlite", MemoryStaging()) as opened:
        opened.piece_files = 2
        yield opened


def told(manifests: list[Manifest]) -> dict[bytes, IncompleteReason]:
    return {
        exact_path(one.name): one.reason for manifest in manifests for one in manifest.incomplete
    }


def codes(manifests: list[Manifest]) -> list[FindingCode]:
    return [finding.code for manifest in manifests for finding in manifest.findings]


async def test_each_piece_is_a_part_of_one_docking(site: DockingSite) -> None:
    """The parts are numbered on, one is the last, and everything is claimed once."""
    outcome = await site.dock(MemoryVolume(files=dict(CLIPS)))

    manifests = await site.manifests()
    assert outcome.kind is OutcomeKind.SEALED
    assert outcome.manifest_ids == tuple(one.manifest_id for one in manifests)
    assert [(one.part, one.last_part) for one in manifests] == [(1, False), (2, False), (3, True)]
    assert len({one.docking_id for one in manifests}) == 1
    assert sorted(claimed(manifests).values()) == PATHS
    assert not await site.journal.open_dockings()


async def test_a_piece_is_on_its_way_while_the_next_is_read(site: DockingSite) -> None:
    """Nobody has to wait for the end of a docking to send what was sealed before."""
    volume = MemoryVolume(files=dict(CLIPS))
    read_by_then: list[set[bytes]] = []
    ports = dataclasses.replace(
        site.ports, on_sealed=lambda: read_by_then.append(set(volume.read_bytes))
    )

    await site.dock_with(ports, volume)

    assert read_by_then == [set(PATHS[:2]), set(PATHS[:4])]


async def test_marked_clips_are_in_the_first_piece(site: DockingSite) -> None:
    """What officers marked is taken first on the whole recorder, not in each piece."""
    marked = recording(HOURS[5], first=9)
    [(path, stored)] = marked.items()
    files = dict(CLIPS[:5]) | {path.replace(b".MP4", b"IMP.MP4"): stored}

    await site.dock(MemoryVolume(files=files))

    first, *_ = await site.manifests()
    assert [one.clips[0].marked for one in first.recordings] == [False, True]


async def test_progress_counts_all_pieces(site: DockingSite) -> None:
    """From the first file on, all that is going to be read is in the total."""
    await site.dock(MemoryVolume(files=dict(CLIPS)))

    assert {one.files_total for one in site.reported if one.current_file} == {6}
    assert (site.reported[-1].files_done, site.reported[-1].bytes_done) == (6, 6_000)


async def test_a_recorder_that_leaves_leaves_nothing_untold(site: DockingSite) -> None:
    """What stands in pieces that were not even begun is listed as left behind."""
    volume = MemoryVolume(files=dict(CLIPS), chunk_bytes=1_000, pull_after_chunks=2)

    outcome = await site.dock(volume)

    manifests = await site.manifests()
    assert outcome.kind is OutcomeKind.LEFT
    assert list(claimed(manifests).values()) == PATHS[:1]
    assert told(manifests) == dict.fromkeys(PATHS[1:], IncompleteReason.RECORDER_LEFT)
    assert codes(manifests).count(FindingCode.RECORDER_LEFT) == 1
    assert manifests[-1].last_part


async def test_a_docking_that_was_cut_short_goes_on_in_parts(site: DockingSite) -> None:
    """After a kill in the second piece the rest is told in the docking's next parts."""
    site.kill_at_call(4, after=True, only="staged")
    with pytest.raises(KilledError):
        await site.dock(MemoryVolume(files=dict(CLIPS)))
    site.live_again()
    site.live.clear()

    [outcome] = await site.start()

    manifests = await site.manifests()
    assert outcome.kind is OutcomeKind.LEFT
    assert [(one.part, one.last_part) for one in manifests] == [(1, False), (2, False), (3, True)]
    assert len({one.docking_id for one in manifests}) == 1
    assert sorted(claimed(manifests).values()) == PATHS[:4]
    assert told(manifests) == dict.fromkeys(PATHS[4:], IncompleteReason.AGENT_STOPPED)


async def test_the_next_docking_goes_on_where_the_last_one_was(site: DockingSite) -> None:
    """What an earlier docking sealed in pieces is known, and the rest is read."""
    volume = MemoryVolume(files=dict(CLIPS), chunk_bytes=1_000, pull_after_chunks=3)
    await site.dock(volume)
    volume.docked, volume.pull_after_chunks = True, None
    volume.read_bytes.clear()

    outcome = await site.dock(volume)

    manifests = await site.manifests()
    assert outcome.kind is OutcomeKind.SEALED
    assert not set(volume.read_bytes) & set(PATHS[:2])
    assert sorted(claimed(manifests).values()) == PATHS


async def test_what_cannot_be_read_waits_for_all_else(site: DockingSite) -> None:
    """A bad file of the first piece is salvaged after the last one, and told once more."""
    bad = dataclasses.replace(CLIPS[0][1], content=bytes(100 * 4_096), bad_sectors=frozenset({50}))
    volume = MemoryVolume(files=dict(CLIPS) | {PATHS[0]: bad})

    outcome = await site.dock(volume)

    manifests = await site.manifests()
    assert outcome.kind is OutcomeKind.ATTENTION
    assert sorted(claimed(manifests).values()) == PATHS[1:]
    [first], [last] = manifests[0].incomplete, manifests[-1].incomplete
    assert first.name == last.name
    assert not first.readable
    assert last.readable


async def test_what_comes_meanwhile_is_a_part_of_its_own(site: DockingSite) -> None:
    """A clip that is written while pieces are sealed is taken; nothing else is told again."""
    volume = MemoryVolume(files=dict(CLIPS))
    late = recording(HOURS[5] + timedelta(hours=1), first=20)
    ports = dataclasses.replace(site.ports, on_sealed=lambda: volume.files.update(late))

    outcome = await site.dock_with(ports, volume)

    manifests = await site.manifests()
    assert outcome.kind is OutcomeKind.SEALED
    assert sorted(claimed(manifests).values()) == sorted([*PATHS, *late])
    assert not any(manifest.known for manifest in manifests)
    assert [one.last_part for one in manifests].count(True) == 1


async def test_gaps_are_looked_for_across_pieces(site: DockingSite) -> None:
    """One missing number is one gap, and the end of a piece is none."""
    files = dict(CLIPS[:2] + CLIPS[3:])

    await site.dock(MemoryVolume(files=files))

    found = [
        finding
        for manifest in await site.manifests()
        for finding in manifest.findings
        if finding.code is FindingCode.SEQUENCE_GAP
    ]
    assert [finding.path for finding in found] == [PATHS[3].decode()]


async def test_one_content_in_two_pieces_is_claimed_once(site: DockingSite) -> None:
    """Its second name is listed as known by the manifest that claims it."""
    files = dict(CLIPS) | {PATHS[5]: dataclasses.replace(CLIPS[5][1], content=CLIPS[0][1].content)}

    await site.dock(MemoryVolume(files=files))

    manifests = await site.manifests()
    assert sorted(claimed(manifests).values()) == PATHS[:5]
    [known] = [known for manifest in manifests for known in manifest.known]
    assert exact_path(known.name) == PATHS[5]
    assert known.manifest_id == manifests[0].manifest_id


async def test_what_is_held_elsewhere_is_claimed_with_its_twin(site: DockingSite) -> None:
    """A content that is held for a later piece's recording is claimed where it comes first."""
    both = recording(HOURS[4], clips=2, first=30)
    (held, stored), (missing, _) = both.items()
    bad = dataclasses.replace(both[missing], bad_from=0)
    site.piece_files = 2_000
    await site.dock(MemoryVolume(files={held: stored, missing: bad}))
    twin = clip_path(HOURS[0], 1)
    files = both | {twin: Stored(content=stored.content, mtime_ns=mtime_ns(HOURS[0]))}
    site.piece_files = 2

    await site.dock(MemoryVolume(files=files))

    manifests = await site.manifests()
    assert sorted(claimed(manifests).values()) == sorted([twin, missing])
    assert any(file.also_named for one in manifests for file in one.staged_files())


async def test_a_full_disk_is_said_once_for_all_pieces(tmp_path: Path) -> None:
    """What has no room in any piece is counted together, and nothing after it is lost."""
    async with open_site(tmp_path / "j.sqlite", MemoryStaging(room_bytes=3_500)) as site:
        site.piece_files = 2
        outcome = await site.dock(MemoryVolume(files=dict(CLIPS)))
        manifests = await site.manifests()

    assert outcome.kind is OutcomeKind.ATTENTION
    assert outcome.lacking_bytes == 3_000
    assert "3 files wait for room: 3000 bytes" in outcome.text
    assert told(manifests) == dict.fromkeys(PATHS[3:], IncompleteReason.NO_SPACE)


async def test_an_outcome_holds_the_first_findings(site: DockingSite) -> None:
    """A recorder full of strange files does not fill the dock's memory; the manifests have all."""
    files = dict(CLIPS) | {b"odd/%04d" % number: Stored(content=b"x") for number in range(1_500)}
    site.piece_files = 400

    outcome = await site.dock(MemoryVolume(files=files))

    told = [finding for one in await site.manifests() for finding in one.findings]
    assert len(outcome.findings) == 1_000
    assert outcome.findings_total == len(told)
    assert [one.code for one in told].count(FindingCode.UNKNOWN_FILE) == 1_500


async def test_a_bad_file_that_becomes_another_one_is_not_salvaged(site: DockingSite) -> None:
    """Written anew while the rest was read, it is read as what it is now."""
    bad = dataclasses.replace(CLIPS[0][1], bad_from=0)
    volume = MemoryVolume(files=dict(CLIPS) | {PATHS[0]: bad})
    whole = Stored(content=b"as it is now", mtime_ns=mtime_ns(HOURS[5]))
    ports = dataclasses.replace(
        site.ports, on_sealed=lambda: volume.files.update({PATHS[0]: whole})
    )

    outcome = await site.dock_with(ports, volume)

    assert outcome.kind is OutcomeKind.ATTENTION
    assert PATHS[0] in claimed(await site.manifests()).values()
