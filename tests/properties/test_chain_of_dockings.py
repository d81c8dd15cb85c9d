"""Whatever happens, the manifests of a dock make one chain that claims each content once."""

import asyncio
import contextlib
import dataclasses
import shutil
import tempfile
from collections import defaultdict
from datetime import timedelta
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge_agent.ingest.files import Device, FileRow, FileState
from edge_agent.ports import OutcomeKind
from protocol.digest import sha256_hex
from protocol.manifest import Manifest
from tests.simulators.docking_site import MORNING, clip_path, mtime_ns, noise, open_site
from tests.simulators.killing_journal import KilledError
from tests.simulators.memory_staging import MemoryStaging
from tests.simulators.memory_volume import MemoryVolume, Stored

SERIALS = ("0000017", "0000018")
RECORDERS = {serial: Device(model="DSJ-A8", serial=serial) for serial in SERIALS}
CHUNK = 64
serials = st.sampled_from(SERIALS)


class DockingsMachine(RuleBasedStateMachine):
    """Two recorders and one dock; the journal is opened anew for each docking, as after a kill."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.staging = MemoryStaging()
        self.volumes = {serial: MemoryVolume(chunk_bytes=CHUNK) for serial in SERIALS}
        self.ends = dict.fromkeys(SERIALS, MORNING)
        self.sequences = dict.fromkeys(SERIALS, 0)
        self.manifests: list[Manifest] = []
        self.piece_files = 2_000
        for serial in SERIALS:
            self.film(serial, pause=True, size_bytes=3 * CHUNK)

    @rule(serial=serials, pause=st.booleans(), size_bytes=st.integers(1, 6 * CHUNK))
    def film(self, serial: str, *, pause: bool, size_bytes: int) -> None:
        """The recorder writes a clip; without a pause it continues the recording."""
        start = self.ends[serial] + timedelta(minutes=5 if pause else 0)
        self.sequences[serial] += 1
        self.ends[serial] = start + timedelta(seconds=12)
        path = clip_path(start, self.sequences[serial], serial=serial)
        self.volumes[serial].files[path] = Stored(
            content=noise(path, size_bytes), mtime_ns=mtime_ns(self.ends[serial])
        )

    @rule(serial=serials, data=st.data())
    def mark(self, serial: str, data: st.DataObject) -> None:
        """The officer marks a clip, which copies it under another name."""
        files = self.volumes[serial].files
        path = data.draw(st.sampled_from(sorted(files)))
        if b"IMP" not in path:
            later = mtime_ns(self.ends[serial])
            files[path.replace(b".MP4", b"IMP.MP4")] = dataclasses.replace(
                files[path], mtime_ns=later
            )

    @rule(serial=serials, data=st.data())
    def delete(self, serial: str, data: st.DataObject) -> None:
        """The recorder writes over its oldest or any other clip, but never its last one."""
        files = self.volumes[serial].files
        if len(files) > 1:
            del files[data.draw(st.sampled_from(sorted(files)))]

    @rule(serial=serials, data=st.data(), bad=st.booleans())
    def wear_out(self, serial: str, *, data: st.DataObject, bad: bool) -> None:
        """A sector goes bad, or comes back."""
        files = self.volumes[serial].files
        path = data.draw(st.sampled_from(sorted(files)))
        bad_from = len(files[path].content) // 2 if bad else None
        files[path] = dataclasses.replace(files[path], bad_from=bad_from)

    @rule(serial=serials, start=st.booleans())
    def dock(self, serial: str, *, start: bool) -> None:
        """The recorder is docked, and stays; perhaps after a task that failed, without a start."""
        self._run(serial, start=start)

    @rule(serial=serials, chunks=st.integers(0, 12))
    def dock_and_pull(self, serial: str, chunks: int) -> None:
        """The recorder is pulled while it is read."""
        self.volumes[serial].pull_after_chunks = chunks
        self._run(serial)

    @rule(serial=serials, call=st.integers(1, 40), after=st.booleans(), start=st.booleans())
    def dock_and_kill(self, serial: str, *, call: int, after: bool, start: bool) -> None:
        """The agent is killed at a call to its journal; it may or may not be started properly."""
        self._run(serial, kill=(call, after), start=start)

    @precondition(lambda self: self.staging.failing_syncs == 0)
    @rule(failing=st.integers(1, 3))
    def break_disk(self, failing: int) -> None:
        """Some of the next syncs of our disk fail."""
        self.staging.failing_syncs = failing

    @rule(room_bytes=st.sampled_from([200, 1_000, 1 << 40]))
    def resize_disk(self, room_bytes: int) -> None:
        """Others fill the disk, or make room."""
        self.staging.room_bytes = room_bytes

    @rule(piece_files=st.sampled_from([1, 2, 3, 2_000]))
    def take_pieces(self, piece_files: int) -> None:
        """Recorders are gone through in pieces from here on, or as a whole."""
        self.piece_files = piece_files

    @invariant()
    def a_docking_has_its_parts_in_order(self) -> None:
        """The manifests of each docking are numbered without gaps; a last one is the last."""
        parts: dict[str, list[tuple[int, bool]]] = defaultdict(list)
        for manifest in self.manifests:
            parts[manifest.docking_id].append((manifest.part, manifest.last_part))
        for found in parts.values():
            assert [number for number, _ in found] == list(range(1, len(found) + 1))
            assert not any(is_last for _, is_last in found[:-1])

    @invariant()
    def each_content_is_claimed_once(self) -> None:
        """No recorder's content is claimed by two manifests; the chain was checked on reading."""
        contents: dict[str, set[str]] = defaultdict(set)
        for manifest in self.manifests:
            mine = contents[manifest.recorder.serial]
            for file in manifest.staged_files():
                assert file.digests.sha256 not in mine
                mine.add(file.digests.sha256)

    def teardown(self) -> None:
        """With everything healed, two more dockings each leave nothing unclaimed or lost."""
        try:
            self.staging.failing_syncs, self.staging.room_bytes = 0, 1 << 40
            for serial in SERIALS:
                volume = self.volumes[serial]
                volume.files = {
                    path: dataclasses.replace(stored, bad_from=None)
                    for path, stored in volume.files.items()
                }
                # Clips that were begun and have vanished ask for a person, once.
                assert OutcomeKind.SEALED in (self._run(serial), self._run(serial))
            self.each_content_is_claimed_once()
            self._check_all_is_claimed()
        finally:
            shutil.rmtree(self.folder)

    def _check_all_is_claimed(self) -> None:
        claimed = {
            (manifest.recorder.serial, file.digests.sha256)
            for manifest in self.manifests
            for file in manifest.staged_files()
        }
        for serial in SERIALS:
            for stored in self.volumes[serial].files.values():
                assert (serial, sha256_hex(stored.content)) in claimed
        rows = asyncio.run(self._rows())
        for row in rows:
            assert row.state in {FileState.CLAIMED, FileState.COPYING}
            if row.state is FileState.CLAIMED and row.same_as is None:
                assert row.digests is not None
                assert sha256_hex(self.staging.files[row.file_id]) == row.digests.sha256

    async def _rows(self) -> list[FileRow]:
        async with open_site(self.folder / "journal.sqlite", self.staging) as site:
            return [
                row
                for recorder in RECORDERS.values()
                for row in await site.journal.known_files(recorder)
            ]

    def _run(
        self, serial: str, *, kill: tuple[int, bool] | None = None, start: bool = True
    ) -> OutcomeKind | None:
        return asyncio.run(self._dock(serial, kill, start=start))

    async def _dock(
        self, serial: str, kill: tuple[int, bool] | None, *, start: bool
    ) -> OutcomeKind | None:
        kind = None
        async with open_site(self.folder / "journal.sqlite", self.staging) as site:
            site.checkpoint_bytes = 2 * CHUNK
            site.piece_files = self.piece_files
            if kill is not None:
                site.kill_at_call(kill[0], after=kill[1])
            with contextlib.suppress(KilledError):
                if start:
                    await site.start()
                kind = (await site.dock(self.volumes[serial])).kind
            self.manifests = await site.manifests()
        volume = self.volumes[serial]
        volume.docked, volume.pull_after_chunks = True, None
        return kind


TestChainOfDockings = DockingsMachine.TestCase
TestChainOfDockings.settings = settings(max_examples=40, stateful_step_count=20)
