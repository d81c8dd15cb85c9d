"""The evidence level, from a real disk, and from memory that is none, to the signed manifest."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest

from edge_agent.adapters.staging_disk import StagingDisk
from edge_agent.ports import OutcomeKind
from protocol.digest import sha256_hex
from protocol.findings import Finding, FindingCode
from protocol.manifest import EvidenceLevel, IncompleteReason, Manifest
from runtime.eviction import Eviction, evict
from tests.simulators.docking_site import MORNING, DockingSite, clip_path, open_site, recording
from tests.simulators.memory_volume import MemoryVolume

L1, L2, L3 = EvidenceLevel
CLIP: Final = clip_path(MORNING, 1)
SIZE_BYTES: Final = 100_000
MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a tmpfs is what this is about


@pytest.fixture
def disk(tmp_path: Path) -> StagingDisk:
    """A staging folder on a disk, or the test is skipped; in CI there must be one."""
    probe = tmp_path / "probe"
    probe.write_bytes(b"x")
    with probe.open("rb") as opened:
        os.fsync(opened.fileno())
        proved = evict(opened.fileno(), size_bytes=1) is Eviction.PROVED
    if not proved:
        assert not os.environ.get("CI"), "CI needs temporary files on a disk"
        pytest.skip("temporary files are not on a disk here")
    return StagingDisk(tmp_path / "staging", reserve_bytes=0)


@pytest.fixture
def memory() -> Iterator[StagingDisk]:
    folder = Path(tempfile.mkdtemp(dir=MEMORY))
    yield StagingDisk(folder, reserve_bytes=0)
    shutil.rmtree(folder)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[DockingSite]:
    async with open_site(tmp_path / "journal.sqlite") as opened:
        yield opened


def volume() -> MemoryVolume:
    return MemoryVolume(files=recording(size_bytes=SIZE_BYTES))


async def only(site: DockingSite) -> Manifest:
    """Return the only manifest, verified."""
    [manifest] = await site.manifests()
    return manifest


def lowered(manifest: Manifest) -> list[Finding]:
    return [one for one in manifest.findings if one.code is FindingCode.EVIDENCE_LOWERED]


@pytest.mark.parametrize(("level", "readings"), [(L1, 1), (L2, 1), (L3, 2)])
async def test_a_real_disk_proves_every_level(
    site: DockingSite, disk: StagingDisk, level: EvidenceLevel, readings: int
) -> None:
    """On a disk each level is proved as asked, and the manifest says so without a finding."""
    site.staging, site.evidence_level = disk, level
    recorder = volume()

    outcome = await site.dock(recorder)

    manifest = await only(site)
    assert outcome.kind is OutcomeKind.SEALED
    assert manifest.evidence_level is level
    assert [file.evidence for file in manifest.staged_files()] == [level]
    assert not lowered(manifest)
    assert recorder.read_bytes[CLIP] == readings * SIZE_BYTES


@pytest.mark.parametrize("asked", [L2, L3])
async def test_memory_proves_the_first_level_alone(
    site: DockingSite, memory: StagingDisk, asked: EvidenceLevel
) -> None:
    """In a tmpfs no read-back is from a disk: the manifest says L1, and why."""
    site.staging, site.evidence_level = memory, asked

    await site.dock(volume())

    manifest = await only(site)
    assert manifest.evidence_level is L1
    assert [file.evidence for file in manifest.staged_files()] == [L1]
    [finding] = lowered(manifest)
    assert finding.detail == f"1 of 1 files, down to L1; {asked.value} was asked"


async def test_one_other_reading_lowers_the_level(site: DockingSite, disk: StagingDisk) -> None:
    """The third reading agrees with the first: that is kept at L2, and both digests are told."""
    site.staging, site.evidence_level = disk, L3
    recorder = volume()
    other = bytes(SIZE_BYTES)
    recorder.second_reads[CLIP] = other

    outcome = await site.dock(recorder)

    manifest = await only(site)
    [file] = manifest.staged_files()
    assert outcome.kind is OutcomeKind.SEALED
    assert (file.evidence, manifest.evidence_level) == (L2, L2)
    assert file.digests.sha256 == sha256_hex(recorder.files[CLIP].content)
    told = " ".join(finding.detail for finding in lowered(manifest))
    assert sha256_hex(other) in told
    assert file.digests.sha256 in told
    assert recorder.read_bytes[CLIP] == 3 * SIZE_BYTES


async def test_a_first_reading_that_was_wrong_is_not_kept(
    site: DockingSite, disk: StagingDisk
) -> None:
    """Of three readings the first is alone: what is staged is what the recorder gives since."""
    site.staging, site.evidence_level = disk, L3
    recorder = volume()
    recorder.first_reads[CLIP] = bytes(SIZE_BYTES)

    await site.dock(recorder)

    manifest = await only(site)
    [file] = manifest.staged_files()
    assert file.digests.sha256 == sha256_hex(recorder.files[CLIP].content)
    assert file.evidence is L3
    assert any("read three times" in finding.detail for finding in lowered(manifest))


async def test_a_source_that_never_agrees_is_never_staged(
    site: DockingSite, disk: StagingDisk
) -> None:
    """Bytes that are others each time are no evidence: nothing is claimed, a person must see it."""
    site.staging, site.evidence_level = disk, L3
    recorder = volume()
    recorder.unsteady = frozenset({CLIP})

    outcome = await site.dock(recorder)

    manifest = await only(site)
    assert (outcome.kind, outcome.code) == (OutcomeKind.ATTENTION, "F-ING-001")
    assert not list(manifest.staged_files())
    assert [one.reason for one in manifest.incomplete] == [IncompleteReason.UNREADABLE]
    assert disk.sealed_count() == 0


async def test_the_weakest_file_is_the_manifests_level(
    site: DockingSite, disk: StagingDisk
) -> None:
    """One file of three that was proved to less lowers what the whole manifest claims."""
    site.staging, site.evidence_level = disk, L3
    recorder = MemoryVolume(files=recording(clips=3, size_bytes=SIZE_BYTES))
    recorder.second_reads[CLIP] = bytes(SIZE_BYTES)

    await site.dock(recorder)

    manifest = await only(site)
    assert manifest.evidence_level is L2
    assert sorted(file.evidence.value for file in manifest.staged_files()) == ["L2", "L3", "L3"]
