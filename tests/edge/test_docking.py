"""A whole docking, on a real journal, with the volume and the staging in memory."""

import dataclasses
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from edge_agent.ingest.files import Device, FileState
from edge_agent.ports import OutcomeKind
from protocol.findings import FindingCode
from protocol.manifest import EvidenceLevel, IncompleteReason
from protocol.messages import BayMessage, BayState
from protocol.registry import Registry
from protocol.strict_json import encode, parse
from tests.simulators.docking_site import (
    BAY,
    DOCKED_AT,
    MORNING,
    DockingSite,
    claimed,
    clip_path,
    mtime_ns,
    noise,
    open_site,
    recording,
)
from tests.simulators.memory_staging import MemoryStaging
from tests.simulators.memory_volume import MemoryVolume, Stored
from tests.simulators.sealed_manifests import DOCK

R1 = Device(model="DSJ-A8", serial="0000017")
LATER = MORNING + timedelta(hours=2)


@pytest.fixture
def staging() -> MemoryStaging:
    return MemoryStaging()


@pytest.fixture
async def site(tmp_path: Path, staging: MemoryStaging) -> AsyncIterator[DockingSite]:
    async with open_site(tmp_path / "journal.sqlite", staging) as opened:
        yield opened


async def test_contiguous_clips_are_one_recording(site: DockingSite) -> None:
    """Three clips, each starting where the last ended, are claimed as one recording."""
    volume = MemoryVolume(files=recording(clips=3))

    outcome = await site.dock(volume)

    [manifest] = await site.manifests()
    [found] = manifest.recordings
    assert outcome.kind is OutcomeKind.SEALED
    assert outcome.manifest_ids == (manifest.manifest_id,)
    assert [clip.file.name.path.encode() for clip in found.clips] == list(volume.files)
    assert (found.complete, found.officer, found.started) == (True, "012345", MORNING)


async def test_staged_bytes_are_the_recorders(site: DockingSite, staging: MemoryStaging) -> None:
    """Under each claimed file's id, staging holds exactly what the recorder has."""
    volume = MemoryVolume(files=recording(clips=3))

    await site.dock(volume)

    rows = await site.journal.known_files(R1)
    assert {row.key.path: staging.files[row.file_id] for row in rows} == {
        path: stored.content for path, stored in volume.files.items()
    }
    assert {row.state for row in rows} == {FileState.CLAIMED}


async def test_nothing_new_is_read_twice(site: DockingSite) -> None:
    """The second docking reads nothing, lists everything as known, and still seals a manifest."""
    volume = MemoryVolume(files=recording(clips=2))
    first = await site.dock(volume)
    volume.read_bytes.clear()

    second = await site.dock(volume)

    _, manifest = await site.manifests()
    assert not volume.read_bytes
    assert not list(manifest.staged_files())
    assert {known.manifest_id for known in manifest.known} == set(first.manifest_ids)
    assert second.known_manifest_ids == set(first.manifest_ids)
    assert second.kind is OutcomeKind.SEALED


async def test_an_unregistered_recorder_is_not_read(site: DockingSite) -> None:
    """A recorder that the registry does not know is refused before a byte of a clip is read."""
    site.registry = Registry(version=2, issued_at=DOCKED_AT)
    volume = MemoryVolume(files=recording())

    outcome = await site.dock(volume)

    assert (outcome.kind, outcome.code) == (OutcomeKind.REFUSED, "E-ING-206")
    assert not volume.read_bytes
    assert not await site.manifests()
    assert not site.reported


async def test_a_volume_of_no_model_is_refused(site: DockingSite) -> None:
    """A volume that fits no profile is refused."""
    outcome = await site.dock(MemoryVolume(files={b"holiday.jpg": Stored(content=b"x")}))

    assert (outcome.kind, outcome.code) == (OutcomeKind.REFUSED, "E-ING-205")


async def test_names_of_two_recorders_are_refused(site: DockingSite) -> None:
    """Clips that name two serial numbers are not put down to either."""
    volume = MemoryVolume(files=recording() | recording(LATER, serial="0000018"))

    outcome = await site.dock(volume)

    assert (outcome.kind, outcome.code) == (OutcomeKind.REFUSED, "E-ING-205")
    assert not volume.read_bytes


async def test_a_marked_copy_is_an_alias(site: DockingSite) -> None:
    """A clip and its marked copy are one content: claimed once, marked, both names listed."""
    plain, marked = clip_path(MORNING, 1), clip_path(MORNING, 1, mark="IMP")
    stored = Stored(content=noise(plain, 500), mtime_ns=mtime_ns(MORNING))
    volume = MemoryVolume(
        files={plain: stored, marked: dataclasses.replace(stored, mtime_ns=mtime_ns(LATER))}
    )

    await site.dock(volume)

    [manifest] = await site.manifests()
    [found] = manifest.recordings
    [clip] = found.clips
    assert (clip.file.name.path.encode(), clip.marked) == (marked, True)
    assert [name.path.encode() for name in clip.file.also_named] == [plain]
    assert FindingCode.SAME_CONTENT in {finding.code for finding in manifest.findings}


async def test_a_marked_copy_with_other_content_is_a_recording(site: DockingSite) -> None:
    """A marked copy that is not the same content is kept as a recording of its own."""
    plain, marked = clip_path(MORNING, 1), clip_path(MORNING, 1, mark="IMP")
    volume = MemoryVolume(
        files={
            plain: Stored(content=b"as filmed", mtime_ns=mtime_ns(MORNING)),
            marked: Stored(content=b"cut", mtime_ns=mtime_ns(LATER)),
        }
    )

    await site.dock(volume)

    [manifest] = await site.manifests()
    assert [
        [clip.file.name.path.encode() for clip in one.clips] for one in manifest.recordings
    ] == [
        [plain],
        [marked],
    ]


async def test_a_copy_marked_after_archiving_is_known(
    site: DockingSite, staging: MemoryStaging
) -> None:
    """A clip marked since it was claimed is read, found known, and not staged a second time."""
    plain, marked = clip_path(MORNING, 1), clip_path(MORNING, 1, mark="IMP")
    stored = Stored(content=noise(plain, 500), mtime_ns=mtime_ns(MORNING))
    volume = MemoryVolume(files={plain: stored})
    first = await site.dock(volume)
    volume.files[marked] = dataclasses.replace(stored, mtime_ns=mtime_ns(LATER))

    await site.dock(volume)

    _, manifest = await site.manifests()
    assert not manifest.recordings
    assert {known.name.path.encode(): known.marked for known in manifest.known} == {
        plain: False,
        marked: True,
    }
    assert {known.manifest_id for known in manifest.known} == set(first.manifest_ids)
    assert len(staging.files) == 1
    assert not staging.partial


async def test_one_unreadable_clip_does_not_stop_the_others(site: DockingSite) -> None:
    """A bad sector costs its own recording only, which is held; the bay asks for a person."""
    bad = recording(clips=2)
    first, _ = bad
    bad[first] = dataclasses.replace(bad[first], bad_from=600)
    volume = MemoryVolume(files=bad | recording(LATER, first=3), chunk_bytes=100)

    outcome = await site.dock(volume)

    [manifest] = await site.manifests()
    assert [len(one.clips) for one in manifest.recordings] == [1]
    assert {(one.reason, one.taken_bytes) for one in manifest.incomplete} == {
        (IncompleteReason.UNREADABLE, 600),
        (IncompleteReason.HELD, 1_000),
    }
    assert (outcome.kind, outcome.code) == (OutcomeKind.ATTENTION, "F-ING-001")
    assert outcome.incomplete_files == 2
    assert await site.journal.held_count() == 1


async def test_a_held_recording_is_sealed_when_the_recorder_is_back(site: DockingSite) -> None:
    """Once the bad clip can be read, both are claimed; the held clip is not read again."""
    files = recording(clips=2)
    first, second = files
    volume = MemoryVolume(files=files | {first: dataclasses.replace(files[first], bad_from=600)})
    await site.dock(volume)
    volume.files = files
    volume.read_bytes.clear()

    outcome = await site.dock(volume)

    _, manifest = await site.manifests()
    assert [len(one.clips) for one in manifest.recordings] == [2]
    assert outcome.kind is OutcomeKind.SEALED
    assert not volume.read_bytes[second]
    assert await site.journal.held_count() == 0


async def test_a_clip_that_stays_unreadable_is_given_up(site: DockingSite) -> None:
    """At the second docking the readable clips go to the archive, the recording as not complete."""
    files = recording(clips=2)
    first, second = files
    volume = MemoryVolume(files=files | {first: dataclasses.replace(files[first], bad_from=600)})
    await site.dock(volume)

    await site.dock(volume)

    _, manifest = await site.manifests()
    [found] = manifest.recordings
    assert not found.complete
    assert [clip.file.name.path.encode() for clip in found.clips] == [second]
    assert [one.reason for one in manifest.incomplete] == [IncompleteReason.UNREADABLE]


async def test_a_held_clip_that_was_deleted_is_still_claimed(site: DockingSite) -> None:
    """What is staged goes to the archive, even if the recorder has lost it in the meantime."""
    files = recording(clips=2)
    first, second = files
    volume = MemoryVolume(files=files | {first: dataclasses.replace(files[first], bad_from=600)})
    await site.dock(volume)
    volume.files = recording(LATER, first=3)

    await site.dock(volume)

    manifests = await site.manifests()
    assert second in claimed(manifests).values()
    # What there is of the clip that could not be read stays here.
    assert await site.journal.held_count() == 1


async def test_a_full_disk_takes_what_fits(site: DockingSite, staging: MemoryStaging) -> None:
    """What fits is sealed, the rest is listed; with room again, the rest follows."""
    staging.room_bytes = 1_500
    volume = MemoryVolume(files=recording() | recording(LATER, first=2))

    full = await site.dock(volume)
    staging.room_bytes = 10_000
    again = await site.dock(volume)

    first, second = await site.manifests()
    assert (full.kind, full.code, full.lacking_bytes) == (OutcomeKind.ATTENTION, "E-STG-301", 1_000)
    assert [one.reason for one in first.incomplete] == [IncompleteReason.NO_SPACE]
    assert again.kind is OutcomeKind.SEALED
    assert len(claimed([first, second])) == 2


async def test_a_recording_that_does_not_fit_whole_is_not_begun(
    site: DockingSite, staging: MemoryStaging
) -> None:
    """Half a recording would only fill the disk: it waits as a whole."""
    staging.room_bytes = 1_500
    volume = MemoryVolume(files=recording(clips=2))

    outcome = await site.dock(volume)

    assert outcome.lacking_bytes == 2_000
    assert not volume.read_bytes
    assert not staging.files


async def test_a_disk_that_fills_up_unannounced(site: DockingSite, staging: MemoryStaging) -> None:
    """Running out of space in the middle seals what there is, and loses nothing."""
    staging.room_bytes, staging.unannounced_bytes = 10_000, 8_500
    volume = MemoryVolume(files=recording() | recording(LATER, first=2))

    outcome = await site.dock(volume)

    [manifest] = await site.manifests()
    assert (outcome.kind, outcome.code) == (OutcomeKind.ATTENTION, "E-STG-301")
    assert len(manifest.recordings) == 1
    assert [one.reason for one in manifest.incomplete] == [IncompleteReason.NO_SPACE]


async def test_a_failed_sync_copies_into_another_file(
    site: DockingSite, staging: MemoryStaging
) -> None:
    """A copy that our disk lost is made again from the recorder, and the fault is reported."""
    staging.failing_syncs = 1
    volume = MemoryVolume(files=recording())

    outcome = await site.dock(volume)

    [row] = await site.journal.known_files(R1)
    assert outcome.kind is OutcomeKind.SEALED
    assert len(outcome.disk_faults) == 1
    assert staging.copies == [row.file_id] * 2
    assert staging.files == {row.file_id: next(iter(volume.files.values())).content}


async def test_a_disk_that_fails_twice_stops_the_bay(
    site: DockingSite, staging: MemoryStaging
) -> None:
    """What was sealed before is claimed; the bay asks for a person."""
    volume = MemoryVolume(files=recording() | recording(LATER, first=2))
    await site.dock(MemoryVolume(files=recording()))
    staging.failing_syncs = 2

    outcome = await site.dock(volume)

    assert (outcome.kind, outcome.code) == (OutcomeKind.ATTENTION, "E-STG-303")
    assert len(claimed(await site.manifests())) == 1


async def test_a_copy_that_differs_is_made_again(site: DockingSite, staging: MemoryStaging) -> None:
    """A copy that reads back differently is made again, and said."""
    staging.changing_seals = 1
    volume = MemoryVolume(files=recording())

    outcome = await site.dock(volume)

    assert outcome.kind is OutcomeKind.SEALED
    assert FindingCode.COPY_DIFFERED in {finding.code for finding in outcome.findings}
    [content] = staging.files.values()
    assert content == next(iter(volume.files.values())).content


async def test_a_copy_that_differs_twice_stops_the_bay(
    site: DockingSite, staging: MemoryStaging
) -> None:
    """A disk that changes what it is given is not given more."""
    staging.changing_seals = 2
    volume = MemoryVolume(files=recording() | recording(LATER, first=2))

    outcome = await site.dock(volume)

    assert (outcome.kind, outcome.code) == (OutcomeKind.ATTENTION, "E-STG-302")
    assert not claimed(await site.manifests())
    assert len(volume.read_bytes) == 1
    # Nothing of it stays, and the journal does not say so either.
    assert (staging.partial, staging.files) == ({}, {})
    assert {row.verified_bytes for row in await site.journal.known_files(R1)} == {0}


async def test_a_level_that_is_not_proved_is_lowered(
    site: DockingSite, staging: MemoryStaging
) -> None:
    """Without proof that the copy was read from the disk, the manifest says L1 and why."""
    staging.evicts = False

    await site.dock(MemoryVolume(files=recording(clips=3)))

    [manifest] = await site.manifests()
    assert manifest.evidence_level is EvidenceLevel.L1
    assert {file.evidence for file in manifest.staged_files()} == {EvidenceLevel.L1}
    lowered = [one for one in manifest.findings if one.code is FindingCode.EVIDENCE_LOWERED]
    assert len(lowered) == 1


async def test_the_third_level_reads_the_source_twice(site: DockingSite) -> None:
    """At L3 each file is read twice, and both times the same."""
    site.evidence_level = EvidenceLevel.L3
    volume = MemoryVolume(files=recording())

    await site.dock(volume)

    [manifest] = await site.manifests()
    assert manifest.evidence_level is EvidenceLevel.L3
    assert set(volume.read_bytes.values()) == {2_000}


async def test_a_source_that_changes_its_mind_is_not_third_level(site: DockingSite) -> None:
    """A file that reads differently the second time is kept at L2, and both digests are told."""
    site.evidence_level = EvidenceLevel.L3
    files = recording()
    volume = MemoryVolume(files=files, second_reads=dict.fromkeys(files, b"?" * 1_000))

    await site.dock(volume)

    [manifest] = await site.manifests()
    assert manifest.evidence_level is EvidenceLevel.L2
    told = [one.detail for one in manifest.findings if one.code is FindingCode.EVIDENCE_LOWERED]
    assert any("read twice" in detail for detail in told)


async def test_progress_ends_with_everything_done(site: DockingSite) -> None:
    """What is reported grows to the totals, and fits a bay's message."""
    volume = MemoryVolume(files=recording(clips=3), chunk_bytes=100)

    await site.dock(volume)

    last = site.reported[-1]
    done = [progress.bytes_done for progress in site.reported]
    assert done == sorted(done)
    assert (last.files_done, last.files_total) == (3, 3)
    assert (last.bytes_done, last.bytes_total) == (3_000, 3_000)
    for progress in site.reported:
        message = BayMessage(
            dock=DOCK,
            bay=BAY,
            state=BayState.INGESTING,
            changed_at=DOCKED_AT,
            rate_bytes_s=progress.rate_bytes_s,
            remaining_s=progress.remaining_s,
            current_file=progress.current_file,
        )
        assert parse(encode(message), BayMessage, max_bytes=1 << 16) == message
