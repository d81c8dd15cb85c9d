"""A recorder that is pulled, or whose dock loses power, at any moment, and comes back."""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.docking import DirectoryDock
from edge_agent.adapters.directory_volume import DirectoryVolume
from edge_agent.adapters.staging_disk import StagingDisk
from edge_agent.ingest.copying import OVERLAP_BYTES
from edge_agent.ingest.files import Device
from edge_agent.ports import OutcomeKind
from protocol.digest import sha256_hex
from protocol.manifest import IncompleteReason
from tests.simulators.docking_site import DockingSite, claimed, open_site, recording
from tests.simulators.killing_journal import KilledError
from tests.simulators.memory_staging import MemoryStaging
from tests.simulators.memory_volume import MemoryVolume, Stored

R1 = Device(model="DSJ-A8", serial="0000017")
CHUNK = 256 * 1024
CLIP_BYTES = 3 * CHUNK * 4 + 17
CHUNKS = 2 * (CLIP_BYTES // CHUNK + 1)
TWO_CLIPS = recording(clips=2, size_bytes=CLIP_BYTES)


async def check_everything_is_claimed_once(site: DockingSite, files: dict[bytes, Stored]) -> None:
    found = claimed(await site.manifests())
    assert found == {sha256_hex(stored.content): path for path, stored in files.items()}
    for row in await site.journal.known_files(R1):
        with site.staging.open(row.file_id) as staged:
            assert staged.read() == files[row.key.path].content


@settings(max_examples=25)
@given(pulls=st.lists(st.integers(0, CHUNKS), max_size=3))
def test_pulled_anywhere_and_resumed(pulls: list[int]) -> None:
    """However often and wherever it is pulled, in the end every byte is there once.

    Each return reads at most the overlap again, never the whole.
    """

    async def scenario(folder: Path) -> None:
        async with open_site(folder / "journal.sqlite") as site:
            volume = MemoryVolume(files=TWO_CLIPS, chunk_bytes=CHUNK)
            for chunks in pulls:
                volume.docked, volume.pull_after_chunks = True, chunks
                await site.dock(volume)
            volume.docked, volume.pull_after_chunks = True, None
            outcome = await site.dock(volume)

            assert outcome.kind is OutcomeKind.SEALED
            assert volume.read_bytes.total() <= 2 * CLIP_BYTES + len(pulls) * OVERLAP_BYTES
            await check_everything_is_claimed_once(site, TWO_CLIPS)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(scenario(Path(folder)))


@settings(max_examples=40)
@given(
    kill_at=st.integers(1, 24),
    after=st.booleans(),
    again_at=st.integers(1, 24),
    checkpoint_bytes=st.sampled_from([CHUNK, 4 * CHUNK]),
)
def test_killed_at_any_journal_call(
    *, kill_at: int, after: bool, again_at: int, checkpoint_bytes: int
) -> None:
    """Killed twice, at any two of its journal calls, the dock ends with every byte claimed once."""

    async def scenario(folder: Path) -> None:
        staging = MemoryStaging()
        volume = MemoryVolume(files=TWO_CLIPS, chunk_bytes=CHUNK)
        for killed_at in (kill_at, again_at):
            async with open_site(folder / "journal.sqlite", staging) as site:
                site.checkpoint_bytes = checkpoint_bytes
                site.kill_at_call(killed_at, after=after)
                with contextlib.suppress(KilledError):
                    await site.start()
                    await site.dock(volume)
        async with open_site(folder / "journal.sqlite", staging) as site:
            await site.start()
            outcome = await site.dock(volume)

            assert outcome.kind is OutcomeKind.SEALED
            await check_everything_is_claimed_once(site, TWO_CLIPS)
            assert not staging.partial

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(scenario(Path(folder)))


class _PullingVolume(DirectoryVolume):
    """A folder that is pulled out of its bay after some chunks."""

    bay_dir: Path
    chunks_left: int

    def read_on(self, fd: int, path: bytes) -> Iterator[memoryview]:
        for chunk in super().read_on(fd, path):
            if self.chunks_left == 0:
                DirectoryDock().pull(self.bay_dir)
            self.chunks_left -= 1
            yield chunk


@pytest.mark.parametrize("pull_after", range(5))
async def test_a_folder_is_pulled_and_resumed(tmp_path: Path, pull_after: int) -> None:
    """A folder that is renamed away at any chunk is noticed; back again, the copy goes on."""
    recorder, bay_dir = tmp_path / "recorder", tmp_path / "bay"
    files = recording(clips=2, size_bytes=2 * (1 << 20) + 5)
    for path, stored in files.items():
        target = recorder / path.decode()
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(stored.content)
        os.utime(target, ns=(stored.mtime_ns, stored.mtime_ns))
    staging = StagingDisk(tmp_path / "staging", reserve_bytes=0)
    dock = DirectoryDock()
    async with open_site(tmp_path / "journal.sqlite", staging) as site:
        dock.insert(recorder, bay_dir)
        with _PullingVolume.mount(bay_dir) as volume:
            assert isinstance(volume, _PullingVolume)
            volume.bay_dir, volume.chunks_left = bay_dir, pull_after
            pulled = await site.dock(volume)
        dock.insert(recorder, bay_dir)
        with DirectoryVolume.mount(bay_dir) as volume:
            outcome = await site.dock(volume)

        first, _ = await site.manifests()
        assert (pulled.kind, outcome.kind) == (OutcomeKind.LEFT, OutcomeKind.SEALED)
        assert not first.recordings
        assert {one.reason for one in first.incomplete} <= {
            IncompleteReason.RECORDER_LEFT,
            IncompleteReason.HELD,
        }
        await check_everything_is_claimed_once(site, files)
