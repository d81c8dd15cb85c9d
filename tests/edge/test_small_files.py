"""Many small files at once, and every one of them as if it had been alone."""

import errno
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from edge_agent.adapters.journal import Journal
from edge_agent.ingest.recognising import fingerprint, fingerprint_of
from edge_agent.ports import OutcomeKind
from edge_agent.small_files import batches
from edge_agent.staging.slot import SmallCopy, SmallOutcome
from protocol.findings import FindingCode
from protocol.manifest import EvidenceLevel
from tests.simulators.docking_site import MORNING, DockingSite, recording
from tests.simulators.memory_staging import MemoryStaging
from tests.simulators.memory_volume import MemoryVolume, Stored

FILES = {
    path: one
    for number in range(100)
    for path, one in recording(MORNING + timedelta(minutes=number), first=number).items()
}


class CountingStaging(MemoryStaging):
    """Counts batches, and fails at some, whole, or at their first files."""

    batches: int = 0
    failing_batches: int = 0
    failing_files: int = 0
    failing_syncs_then: int = 0

    def stage_together(
        self, copies: Sequence[SmallCopy], *, read_back: bool
    ) -> tuple[SmallOutcome, ...]:
        self.batches += 1
        if self.failing_batches:
            self.failing_batches -= 1
            return tuple(OSError(errno.EIO, "injected") for _ in copies)
        bad, self.failing_files = self.failing_files, 0
        if bad:
            failed = (OSError(errno.EIO, "injected") for _ in copies[:bad])
            staged = super().stage_together(copies[bad:], read_back=read_back)
            self.failing_syncs = self.failing_syncs_then
            return (*failed, *staged)
        return super().stage_together(copies, read_back=read_back)


@pytest.fixture
def staging() -> CountingStaging:
    return CountingStaging()


@pytest.fixture
async def site(tmp_path: Path, staging: CountingStaging) -> AsyncIterator[DockingSite]:
    async with Journal.open(tmp_path / "journal.sqlite") as journal:
        yield DockingSite(journal=journal, staging=staging, small_bytes=10_000)


async def claimed(site: DockingSite) -> set[bytes]:
    """Return the names that the manifests promise."""
    return {
        name.path.encode()
        for manifest in await site.manifests()
        for file in manifest.staged_files()
        for name in (file.name, *file.also_named)
    }


async def test_small_files_are_staged_in_batches(
    site: DockingSite, staging: CountingStaging
) -> None:
    """A hundred small files take two batches; each is claimed at the level that was asked for."""
    outcome = await site.dock(MemoryVolume(files=FILES))

    assert (outcome.kind, staging.batches) == (OutcomeKind.SEALED, 2)
    assert await claimed(site) == set(FILES)
    assert sorted(staging.files.values()) == sorted(one.content for one in FILES.values())
    levels = {file.evidence for one in await site.manifests() for file in one.staged_files()}
    assert levels == {EvidenceLevel.L2}


async def test_equal_contents_are_staged_once(site: DockingSite, staging: CountingStaging) -> None:
    """In a batch, and beside what was there before, a content has one copy and all its names."""
    first, second = list(FILES.items())[:2]
    twice = {b"A.MP4": first[1], first[0]: first[1], second[0]: second[1]}
    await site.dock(MemoryVolume(files=dict([first])))

    outcome = await site.dock(MemoryVolume(files=twice))

    assert (outcome.kind, outcome.incomplete_files) == (OutcomeKind.SEALED, 0)
    assert sorted(staging.files.values()) == sorted([first[1].content, second[1].content])


async def test_a_file_that_cannot_be_read_costs_the_others_nothing(site: DockingSite) -> None:
    """What is bad is named by itself; the rest of its batch is staged."""
    bad, *good = FILES
    files = FILES | {bad: Stored(content=FILES[bad].content, bad_sectors=frozenset({0}))}

    outcome = await site.dock(MemoryVolume(files=files))

    assert outcome.kind is OutcomeKind.ATTENTION
    assert await claimed(site) == set(good)


async def test_a_recorder_pulled_in_a_batch_keeps_what_was_read(site: DockingSite) -> None:
    """What came before the pull is staged, the rest at the next docking."""
    pulled = await site.dock(MemoryVolume(files=FILES, pull_after_chunks=70))
    assert pulled.kind is OutcomeKind.LEFT
    assert 0 < len(await claimed(site)) < len(FILES)

    await site.dock(MemoryVolume(files=FILES))

    assert await claimed(site) == set(FILES)


async def test_a_disk_that_fails_at_a_batch_gets_each_file_once_more(
    site: DockingSite, staging: CountingStaging
) -> None:
    """A batch that failed is copied file by file, and the fault is told."""
    staging.failing_batches = 1

    outcome = await site.dock(MemoryVolume(files=FILES))

    assert outcome.kind is OutcomeKind.SEALED
    assert len(outcome.disk_faults) == 64
    assert await claimed(site) == set(FILES)


async def test_a_disk_that_fails_at_one_file_keeps_the_rest_of_the_batch(
    site: DockingSite, staging: CountingStaging
) -> None:
    """Each file of a batch has its own verdict: only the one that failed is copied once more."""
    staging.failing_files = 1

    outcome = await site.dock(MemoryVolume(files=FILES))

    assert outcome.kind is OutcomeKind.SEALED
    assert len(outcome.disk_faults) == 1
    assert len(staging.copies) == len(set(staging.copies)) == len(FILES)
    assert await claimed(site) == set(FILES)


async def test_what_a_batch_staged_behind_a_failing_file_is_counted(
    site: DockingSite, staging: CountingStaging
) -> None:
    """The second failure ends the docking; what stands in staging is claimed and counted."""
    staging.failing_files, staging.failing_syncs_then = 1, 1

    outcome = await site.dock(MemoryVolume(files=FILES))

    assert (outcome.kind, outcome.code) == (OutcomeKind.ATTENTION, "E-STG-303")
    assert len(await claimed(site)) == 63
    assert site.reported[-1].files_done == 63


async def test_a_disk_that_fails_again_after_a_batch_is_given_no_more(
    site: DockingSite, staging: CountingStaging
) -> None:
    """A batch counts as the first try of each of its files."""
    staging.failing_batches, staging.failing_syncs = 1, 1

    outcome = await site.dock(MemoryVolume(files=FILES))

    assert (outcome.kind, outcome.code) == (OutcomeKind.ATTENTION, "E-STG-303")


async def test_a_copy_that_differs_in_a_batch_is_told(
    site: DockingSite, staging: CountingStaging
) -> None:
    """F-EVD-002 names the file; copied by itself it is claimed all the same."""
    staging.changing_seals = 1

    outcome = await site.dock(MemoryVolume(files=FILES))

    found = [one.path for one in outcome.findings if one.code is FindingCode.COPY_DIFFERED]
    assert found == [min(FILES).decode()]
    assert await claimed(site) == set(FILES)


async def test_what_is_read_twice_is_read_by_itself(
    site: DockingSite, staging: CountingStaging
) -> None:
    """At L3 nothing is staged together."""
    site.evidence_level = EvidenceLevel.L3

    await site.dock(MemoryVolume(files=FILES))

    assert staging.batches == 0
    assert await claimed(site) == set(FILES)


def test_a_fingerprint_is_the_same_from_memory() -> None:
    """Of content in memory and of the same content on a recorder."""
    for size_bytes in (0, 1, 65_536, 200_000):
        content = bytes(range(251)) * (size_bytes // 251 + 1)
        content = content[:size_bytes]
        volume = MemoryVolume(files={b"x": Stored(content=content)})
        with volume.open(b"x") as source:
            assert fingerprint(source, size_bytes) == fingerprint_of(content)


def test_no_small_files_no_batches(site: DockingSite) -> None:
    """Without a plan there is nothing to yield."""
    assert list(batches((), site.settings)) == []
