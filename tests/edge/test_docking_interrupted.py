"""Dockings that do not go as they should: cut short, cancelled, twice at once, changed between."""

import asyncio
import contextlib
import dataclasses
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from edge_agent.adapters.staging_disk import StagingDisk
from edge_agent.errors import SourceUnreadableError
from edge_agent.ingest.files import Device
from edge_agent.ingest.volume import MAX_DEPTH, EntryKind, RawEntry
from edge_agent.interrupted import close_interrupted_dockings
from edge_agent.ports import DockingOutcome, OutcomeKind
from protocol.manifest import EvidenceLevel, IncompleteReason
from tests.simulators.docking_site import (
    MORNING,
    DockingSite,
    claimed,
    open_site,
    recording,
)
from tests.simulators.killing_journal import KilledError
from tests.simulators.memory_staging import MemoryStaging
from tests.simulators.memory_volume import MemoryFile, MemoryVolume, Stored
from tests.simulators.open_files import open_below

R1 = Device(model="DSJ-A8", serial="0000017")
LATER = MORNING + timedelta(hours=2)


@pytest.fixture
def staging() -> MemoryStaging:
    return MemoryStaging()


@pytest.fixture
async def site(tmp_path: Path, staging: MemoryStaging) -> AsyncIterator[DockingSite]:
    async with open_site(tmp_path / "journal.sqlite", staging) as opened:
        yield opened


async def test_a_recorder_in_two_bays_is_not_read_twice(site: DockingSite) -> None:
    """A recorder whose identity is being read in another bay asks for a person."""
    gate = threading.Event()
    first = asyncio.create_task(site.dock(MemoryVolume(files=recording(), gate=gate)))
    await asyncio.wait_for(site.has_reported.wait(), timeout=60)

    second = await site.dock(MemoryVolume(files=recording()), bay=2)

    gate.set()
    assert (await first).kind is OutcomeKind.SEALED
    assert (second.kind, second.code) == (OutcomeKind.ATTENTION, "E-ING-207")
    assert len(await site.manifests()) == 1


async def test_two_recorders_at_once(site: DockingSite) -> None:
    """Two bays read two recorders at once; their manifests make one chain."""
    volumes = [
        MemoryVolume(files=recording(clips=3)),
        MemoryVolume(files=recording(clips=3, serial="0000018")),
    ]

    outcomes = await asyncio.gather(
        *(site.dock(volume, bay) for bay, volume in enumerate(volumes, start=1))
    )

    assert {outcome.kind for outcome in outcomes} == {OutcomeKind.SEALED}
    assert len(claimed(await site.manifests())) == 6


async def test_a_file_that_grows_is_not_claimed(site: DockingSite) -> None:
    """A file that is longer than its entry says is read again at the next docking."""
    files = recording()
    [path] = files

    class Growing(MemoryVolume):
        def entries(self) -> Iterator[RawEntry]:
            yield from super().entries()
            self.files = {path: dataclasses.replace(files[path], content=b"longer" * 1_000)}

    volume = Growing(files=files)
    outcome = await site.dock(volume)
    again = await site.dock(MemoryVolume(files=volume.files))

    assert (outcome.kind, outcome.code) == (OutcomeKind.ATTENTION, "F-ING-002")
    assert again.kind is OutcomeKind.SEALED
    assert list(claimed(await site.manifests()).values()) == [path]


async def test_a_changed_file_is_kept_in_both_forms(site: DockingSite) -> None:
    """A file that was held and then changed is claimed twice, never twice in one manifest."""
    files = recording(clips=2)
    first, second = files
    volume = MemoryVolume(files=files | {first: dataclasses.replace(files[first], bad_from=600)})
    await site.dock(volume)
    volume.files = files | {second: dataclasses.replace(files[second], content=b"other")}

    await site.dock(volume)

    paths = list(claimed(await site.manifests()).values())
    assert paths.count(second) == 2
    assert paths.count(first) == 1


async def test_a_docking_that_failed_is_closed_by_the_next(site: DockingSite) -> None:
    """A docking that ended in an error is closed when its recorder comes into the bay again."""
    volume = MemoryVolume(files=recording() | recording(LATER, first=2))
    site.kill_at_call(1, after=True, only="staged")
    with pytest.raises(KilledError):
        await site.dock(volume)
    site.live_again()

    outcome = await site.dock(volume)

    first, second = await site.manifests()
    assert outcome.kind is OutcomeKind.SEALED
    assert (len(first.recordings), len(second.recordings)) == (1, 1)
    assert {one.reason for one in first.incomplete} == {IncompleteReason.AGENT_STOPPED}


async def test_an_interrupted_docking_is_closed_at_the_start(site: DockingSite) -> None:
    """At the agent's start, what is whole is sealed and the rest is held, without a recorder."""
    files = recording(clips=2) | recording(LATER, first=3)
    site.kill_at_call(1, after=True, only="staged")
    with pytest.raises(KilledError):
        await site.dock(MemoryVolume(files=files))
    site.live_again()

    [outcome] = await site.start()

    [manifest] = await site.manifests()
    reasons = [one.reason for one in manifest.incomplete]
    assert outcome.manifest_ids == (manifest.manifest_id,)
    assert not manifest.recordings
    assert reasons.count(IncompleteReason.HELD) == 1
    assert reasons.count(IncompleteReason.AGENT_STOPPED) == 2
    assert not await site.journal.open_dockings()


async def test_a_cancelled_docking_seals_nothing(site: DockingSite) -> None:
    """Cancelled, a docking lets go of the recorder where it is; what was read is not read again."""
    gate = threading.Event()
    files = recording(size_bytes=4_000)
    [path] = files
    volume = MemoryVolume(files=files, chunk_bytes=1_000, gate=gate)
    docking = asyncio.create_task(site.dock(volume))
    await asyncio.wait_for(site.has_reported.wait(), timeout=60)

    docking.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await docking

    assert not await site.manifests()
    assert len(await site.journal.open_dockings()) == 1
    [row] = await site.journal.known_files(R1)
    assert row.verified_bytes == volume.read_bytes[path] < 4_000


@dataclasses.dataclass(slots=True, kw_only=True)
class CancellingVolume(MemoryVolume):
    """Cancels *docking* when small parts of a file are read: its bytes have all been read then."""

    loop: asyncio.AbstractEventLoop
    docking: "asyncio.Task[DockingOutcome] | None" = None

    def count_probe(self, path: bytes) -> None:
        if self.docking is not None:
            self.loop.call_soon_threadsafe(self.docking.cancel)
        # Not the base class's: super() knows no class that slots made anew.
        self.probes[path] += 1


async def test_cancelled_at_the_end_of_a_file_nothing_stays_open(
    site: DockingSite, tmp_path: Path
) -> None:
    """Whatever was opened for a copy is closed, although nobody waits for the copy any more."""
    site.staging = StagingDisk(tmp_path / "staging", reserve_bytes=0)
    before = set(threading.enumerate())
    files = recording(size_bytes=3 << 20)
    volume = CancellingVolume(files=files, loop=asyncio.get_running_loop())
    volume.docking = asyncio.create_task(site.dock(volume))

    with pytest.raises(asyncio.CancelledError):
        await volume.docking

    assert volume.read_bytes.total() == 3 << 20
    assert not {one for one in set(threading.enumerate()) - before if "staging" in one.name}
    assert not open_below(tmp_path / "staging")


async def test_without_its_profile_everything_is_held(site: DockingSite) -> None:
    """A docking of a model that is not configured any more is closed, claims nothing, says so."""
    files = recording(clips=2)
    site.kill_at_call(1, after=True, only="staged")
    with pytest.raises(KilledError):
        await site.dock(MemoryVolume(files=files))
    site.live_again()
    settings = dataclasses.replace(site.settings, profiles=())

    [outcome] = await close_interrupted_dockings(site.ports, settings)
    again = await site.dock(MemoryVolume(files=files), bay=2)

    first, second = await site.manifests()
    assert (outcome.kind, outcome.code) == (OutcomeKind.ATTENTION, "E-ING-204")
    assert {one.reason for one in first.incomplete} == {
        IncompleteReason.HELD,
        IncompleteReason.AGENT_STOPPED,
    }
    assert again.kind is OutcomeKind.SEALED
    assert [len(one.clips) for one in second.recordings] == [2]


async def test_a_docking_that_failed_locks_no_other_bay(site: DockingSite) -> None:
    """A docking that ended in an error is over, whatever the journal says: any bay goes on."""
    site.kill_at_call(1, after=False, only="seal")
    with pytest.raises(KilledError):
        await site.dock(MemoryVolume(files=recording()))
    site.live_again()

    outcome = await site.dock(MemoryVolume(files=recording()), bay=2)

    assert outcome.kind is OutcomeKind.SEALED
    assert not await site.journal.open_dockings()


async def test_a_file_gone_before_it_was_whole_is_kept_and_told(
    site: DockingSite, staging: MemoryStaging
) -> None:
    """Half a file that the recorder has lost since stays on the dock, and each manifest says so."""
    files = recording(size_bytes=4_000)
    volume = MemoryVolume(files=files, chunk_bytes=1_000, pull_after_chunks=2)
    await site.dock(volume)

    outcome = await site.dock(MemoryVolume(files=recording(LATER, first=2)))

    assert (outcome.kind, outcome.code) == (OutcomeKind.ATTENTION, "F-ING-001")
    assert [len(content) for content in staging.partial.values()] == [2_000]
    assert any("gone from the recorder" in finding.detail for finding in outcome.findings)


async def test_an_outdated_copy_is_forgotten(site: DockingSite, staging: MemoryStaging) -> None:
    """Half a copy of a file that changed since is thrown away; the new form is read whole."""
    files = recording(size_bytes=4_000)
    [path] = files
    await site.dock(MemoryVolume(files=files, chunk_bytes=1_000, pull_after_chunks=2))

    await site.dock(MemoryVolume(files={path: Stored(content=b"new", mtime_ns=7)}))

    [row] = await site.journal.known_files(R1)
    assert not staging.partial
    assert staging.files == {row.file_id: b"new"}


async def test_a_listing_that_fails_asks_for_a_person(site: DockingSite) -> None:
    """A volume whose root cannot be listed is not taken for an empty one."""

    class Unlistable(MemoryVolume):
        def entries(self) -> Iterator[RawEntry]:
            raise SourceUnreadableError("root")

    outcome = await site.dock(Unlistable())

    assert (outcome.kind, outcome.code) == (OutcomeKind.ATTENTION, "E-ING-203")


async def test_a_folder_that_cannot_be_listed_asks_for_a_person(site: DockingSite) -> None:
    """What is in it is unknown: the recorder is sealed, but not to be released."""
    odd = [RawEntry(path=b"DCIM/101MEDIA", kind=EntryKind.UNREADABLE_DIRECTORY)]

    outcome = await site.dock(MemoryVolume(files=recording(), odd=odd))

    assert (outcome.kind, outcome.code) == (OutcomeKind.ATTENTION, "F-INV-007")
    assert len(claimed(await site.manifests())) == 1


async def test_pulled_before_it_was_listed(site: DockingSite) -> None:
    """A recorder that is gone at once leaves no docking."""
    outcome = await site.dock(MemoryVolume(files=recording(), docked=False))

    assert outcome.kind is OutcomeKind.LEFT
    assert not await site.journal.open_dockings()
    assert not await site.manifests()


async def test_a_copy_of_a_file_that_grew_leaves_no_checkpoint(
    site: DockingSite, staging: MemoryStaging
) -> None:
    """What was read of a file that changed under the hand is worth nothing, and is not resumed."""
    files = recording(size_bytes=4_000)
    [path] = files

    class Growing(MemoryVolume):
        def entries(self) -> Iterator[RawEntry]:
            yield from MemoryVolume(files=files).entries()

        @contextlib.contextmanager
        def open(self, path: bytes) -> Iterator[MemoryFile]:
            with super().open(path) as file:
                self.files[path] = Stored(content=b"longer" * 1_000)
                yield file

    site.checkpoint_bytes = 1_000

    await site.dock(Growing(files=dict(files), chunk_bytes=1_000))

    [row] = await site.journal.known_files(R1)
    assert (row.key.path, row.verified_bytes, row.prefix_sha256) == (path, 0, None)
    assert not staging.partial


async def test_pulled_in_the_second_read(site: DockingSite) -> None:
    """At L3 a file that was read once is not read a third time because of a pull."""
    site.evidence_level = EvidenceLevel.L3
    files = recording(size_bytes=4_000)
    [path] = files
    volume = MemoryVolume(files=files, chunk_bytes=1_000, pull_after_chunks=5)

    outcome = await site.dock(volume)

    [row] = await site.journal.known_files(R1)
    assert outcome.kind is OutcomeKind.LEFT
    assert row.verified_bytes == 4_000
    volume.docked, volume.pull_after_chunks = True, None
    assert (await site.dock(volume)).kind is OutcomeKind.SEALED
    assert list(claimed(await site.manifests()).values()) == [path]


async def test_what_had_no_room_is_known_after_a_kill(
    site: DockingSite, staging: MemoryStaging
) -> None:
    """A killed docking still says which files it had no room for."""
    staging.room_bytes = 1_500
    site.kill_at_call(1, after=True, only="staged")
    with pytest.raises(KilledError):
        await site.dock(MemoryVolume(files=recording() | recording(LATER, first=2)))
    site.live_again()

    await site.start()

    [manifest] = await site.manifests()
    assert len(manifest.recordings) == 1
    assert [one.reason for one in manifest.incomplete] == [IncompleteReason.AGENT_STOPPED]


async def test_a_name_that_stands_twice_asks_for_a_person(site: DockingSite) -> None:
    """A folder that lists one name twice, whatever it says the second time, stops nothing."""
    files = recording()
    [path] = files
    odd = [
        RawEntry(path=path, kind=EntryKind.FILE, size_bytes=size_bytes, mtime_ns=7)
        for size_bytes in (1_000, 9)
    ]

    outcome = await site.dock(MemoryVolume(files=files, odd=odd))

    assert (outcome.kind, outcome.code) == (OutcomeKind.ATTENTION, "F-INV-007")
    assert list(claimed(await site.manifests()).values()) == [path]
    assert ["the two differ" in one.detail for one in outcome.findings] == [True]


@pytest.mark.parametrize(
    "path",
    [
        b"/".join([b"d"] * (MAX_DEPTH + 6)) + b"/evidence.mp4",
        b"/".join([b"x" * 200] * 25) + b"/evidence.mp4",
        b"DCIM/" + b"n" * 256,
    ],
    ids=["deep", "long", "long name"],
)
async def test_what_is_out_of_reach_asks_for_a_person(site: DockingSite, path: bytes) -> None:
    """A recorder with what is too deep or too long to be read is not released."""
    outcome = await site.dock(MemoryVolume(files=recording() | {path: Stored(content=b"x")}))

    assert (outcome.kind, outcome.code) == (OutcomeKind.ATTENTION, "F-INV-003")


async def test_the_longest_chinese_name_is_read(site: DockingSite) -> None:
    """A name of 255 characters is a name like any other, however many bytes it has."""
    path = ("证" * 251 + ".mp4").encode()

    outcome = await site.dock(MemoryVolume(files=recording() | {path: Stored(content=b"x")}))

    assert outcome.kind is OutcomeKind.SEALED
    assert path in claimed(await site.manifests()).values()


async def test_an_unregistered_recorder_is_named(site: DockingSite) -> None:
    """Who registers a recorder needs its model and its serial number."""
    outcome = await site.dock(MemoryVolume(files=recording(serial="9999999")))

    assert outcome.text == "DSJ-A8 serial '9999999' is not in the site's registry"


async def test_two_models_with_two_identities_are_refused(site: DockingSite) -> None:
    """A volume on which one model's file and another model's names disagree is nobody's."""
    device = {b"SYSTEM/DEVICE.TXT": Stored(content=b"serial=42\r\npolice=012345\r\n")}

    outcome = await site.dock(MemoryVolume(files=recording() | device))

    assert (outcome.kind, outcome.code) == (OutcomeKind.REFUSED, "E-ING-205")
    assert "2 recorders" in outcome.text
