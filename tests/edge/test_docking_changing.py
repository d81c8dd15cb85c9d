"""Recorders that change: while they are read, between two dockings, or by being renumbered."""

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from edge_agent.ingest.files import Device
from edge_agent.ingest.volume import EntryKind, RawEntry
from edge_agent.ports import OutcomeKind
from protocol.digest import sha256_hex
from protocol.identifiers import RecorderId
from protocol.registry import RecorderEntry, Registry
from tests.simulators.docking_site import (
    DOCKED_AT,
    MORNING,
    DockingSite,
    claimed,
    mtime_ns,
    open_site,
    recording,
)
from tests.simulators.memory_staging import MemoryStaging
from tests.simulators.memory_volume import MemoryFile, MemoryVolume, Stored

R1 = Device(model="DSJ-A8", serial="0000017")
LATER = MORNING + timedelta(hours=2)


@pytest.fixture
def staging() -> MemoryStaging:
    return MemoryStaging()


@pytest.fixture
async def site(tmp_path: Path, staging: MemoryStaging) -> AsyncIterator[DockingSite]:
    async with open_site(tmp_path / "journal.sqlite", staging) as opened:
        yield opened


class Written(MemoryVolume):
    """Writes to a file once its first part has been read."""

    def at_first_part(self) -> None:
        raise NotImplementedError

    @contextlib.contextmanager
    def open(self, path: bytes) -> Iterator[MemoryFile]:
        with super().open(path) as file:
            yield file
            self.at_first_part()


async def test_files_that_appear_while_it_is_read_are_read_too(site: DockingSite) -> None:
    """A recorder that goes on filming is listed again until nothing more has come."""
    late = recording(LATER, first=9)

    class Filming(Written):
        def at_first_part(self) -> None:
            self.files.update(late)

    outcome = await site.dock(Filming(files=recording()))

    assert outcome.kind is OutcomeKind.SEALED
    assert list(claimed(await site.manifests()).values()) == [*recording(), *late]


async def test_a_recorder_that_is_never_still_asks_for_a_person(site: DockingSite) -> None:
    """What is written to without end is not waited for, and not released."""

    class Filming(Written):
        def at_first_part(self) -> None:
            number = len(self.files) + 1
            self.files.update(recording(MORNING + timedelta(hours=number), first=number))

    outcome = await site.dock(Filming(files=recording()))

    assert (outcome.kind, outcome.code) == (OutcomeKind.ATTENTION, "F-INV-007")
    assert len(claimed(await site.manifests())) == 3


async def test_a_file_written_while_it_is_read_is_not_claimed(site: DockingSite) -> None:
    """Bytes of two states of a file are no file; as it is then, it is read again and claimed."""
    files = recording(clips=1, size_bytes=4_000)
    [path] = files
    rewritten = Stored(content=b"B" * 4_000, mtime_ns=files[path].mtime_ns + 1)

    class Torn(MemoryVolume):
        @contextlib.contextmanager
        def open(self, path: bytes) -> Iterator[MemoryFile]:
            with super().open(path) as file:
                self.files[path] = rewritten
                yield file

    outcome = await site.dock(Torn(files=dict(files)))

    assert (outcome.kind, outcome.code) == (OutcomeKind.ATTENTION, "F-ING-002")
    assert list(claimed(await site.manifests())) == [sha256_hex(rewritten.content)]


async def test_clips_that_vanished_are_missed_once(
    site: DockingSite, staging: MemoryStaging
) -> None:
    """Clips gone before they were whole make their recording incomplete; a person is asked once."""
    files = recording(clips=3, size_bytes=4_000)
    first, *gone = files
    await site.dock(MemoryVolume(files=files, chunk_bytes=1_000, pull_after_chunks=6))
    left = MemoryVolume(files={first: files[first]})

    outcome = await site.dock(left)
    again = await site.dock(left)

    _, manifest, quiet = await site.manifests()
    [found] = manifest.recordings
    assert (len(found.clips), found.complete) == (1, False)
    assert {one.name.path.encode(): one.taken_bytes for one in manifest.incomplete} == dict(
        zip(gone, (2_000, 0), strict=True)
    )
    assert (outcome.kind, outcome.code) == (OutcomeKind.ATTENTION, "F-ING-001")
    assert (again.kind, quiet.incomplete, quiet.findings) == (OutcomeKind.SEALED, (), ())
    assert [len(content) for content in staging.partial.values()] == [2_000]
    assert await site.journal.held_count() == 1


async def test_a_clip_that_comes_back_is_read_on(site: DockingSite) -> None:
    """What was given up as lost is taken like any other file when the recorder has it again."""
    files = recording(clips=2, size_bytes=4_000)
    first, second = files
    await site.dock(MemoryVolume(files=files, chunk_bytes=1_000, pull_after_chunks=6))
    await site.dock(MemoryVolume(files={first: files[first]}))

    outcome = await site.dock(MemoryVolume(files=files))

    assert outcome.kind is OutcomeKind.SEALED
    assert set(claimed(await site.manifests()).values()) == {first, second}
    assert await site.journal.held_count() == 0


async def test_what_an_unlistable_folder_hides_is_not_lost(site: DockingSite) -> None:
    """As long as a folder cannot be listed, nobody knows that what is in it is gone."""
    files = recording(clips=2, size_bytes=4_000)
    first, _ = files
    await site.dock(MemoryVolume(files=files, chunk_bytes=1_000, pull_after_chunks=6))
    odd = [RawEntry(path=b"DCIM/101MEDIA", kind=EntryKind.UNREADABLE_DIRECTORY)]

    await site.dock(MemoryVolume(files={first: files[first]}, odd=odd))

    assert not any(row.lost for row in await site.journal.known_files(R1))


@pytest.mark.parametrize("content", [b"B" * 300_000, b"A" * 299_999 + b"B"])
async def test_another_content_under_a_known_name_is_taken(
    site: DockingSite, content: bytes
) -> None:
    """Same path, size and time, other bytes: a new file, beside the one that was archived."""
    [path] = recording()
    before = Stored(content=b"A" * 300_000, mtime_ns=mtime_ns(LATER))
    await site.dock(MemoryVolume(files={path: before}))
    after = MemoryVolume(files={path: dataclasses.replace(before, content=content)})

    await site.dock(after)
    after.read_bytes.clear()
    await site.dock(after)

    _, second, third = await site.manifests()
    assert [one.digests.sha256 for one in second.staged_files()] == [sha256_hex(content)]
    assert [one.sha256 for one in third.known] == [sha256_hex(content)]
    assert not after.read_bytes


async def test_with_a_time_that_cannot_be_right_all_bytes_are_compared(site: DockingSite) -> None:
    """A clock that began anew makes the same names again: samples are not enough there."""
    [path] = recording()
    before = Stored(content=b"A" * 300_000, mtime_ns=0)
    await site.dock(MemoryVolume(files={path: before}))
    content = b"A" * 90_000 + b"B" + b"A" * 209_999

    await site.dock(MemoryVolume(files={path: dataclasses.replace(before, content=content)}))

    assert set(claimed(await site.manifests())) == {
        sha256_hex(before.content),
        sha256_hex(content),
    }


async def test_a_number_given_to_another_device_mixes_nothing(site: DockingSite) -> None:
    """A registry's number is a label: what is held of the device that had it stays that one's."""
    files = recording(clips=3)
    await site.dock(MemoryVolume(files=files, pull_after_chunks=2))
    entry = RecorderEntry(
        recorder=RecorderId("R-0001"), make="DSJ", model="DSJ-A8", serial="0000099"
    )
    old = msgspec.structs.replace(entry, recorder=RecorderId("R-0009"), serial="0000017")
    site.registry = Registry(version=2, issued_at=DOCKED_AT, recorders=(entry, old))

    await site.dock(MemoryVolume(files=recording(LATER, serial="0000099")))
    await site.dock(MemoryVolume(files=files))

    _, other, same = await site.manifests()
    assert (other.recorder.recorder_id, other.incomplete) == ("R-0001", ())
    assert [len(one.clips) for one in other.recordings] == [1]
    assert same.recorder.recorder_id == "R-0009"
    assert [len(one.clips) for one in same.recordings] == [3]
