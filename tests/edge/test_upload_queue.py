import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from edge_agent.adapters.journal import Journal
from edge_agent.adapters.notice_store import NoticeStore
from edge_agent.adapters.outbox_store import Upload
from edge_agent.adapters.staging_disk import StagingDisk
from edge_agent.adapters.tus_client import UploadLimits, open_tus_client
from edge_agent.adapters.upload_queue import COPY_UNREADABLE, QueueLimits, UploadQueue
from edge_agent.adapters.vitals import Counters
from edge_agent.ingest.files import FileId
from protocol.identifiers import DockingId, ManifestId
from tests.simulators.sealed_manifests import DOCK, NOW, docking_id, uuid7
from tests.simulators.tus_archive import TusArchive, serve_tus

LIMITS: Final = UploadLimits(slice_bytes=1_000, attempts=2, first_wait_s=0.001, longest_wait_s=0.01)


@dataclass(slots=True)
class Site:
    queue: UploadQueue
    counters: Counters
    archive: TusArchive
    notices: NoticeStore
    staging: Path
    progress: dict[DockingId, int]
    made: int = 0

    def stage(self, content: bytes, *, sequence: int = 1) -> Upload:
        """Put a copy into staging that the archive wants under a manifest."""
        self.made += 1
        manifest_id = ManifestId(uuid7(1, sequence))
        file_id = FileId(uuid7(5, self.made))
        (self.staging / "files" / file_id).write_bytes(content)
        return Upload(
            manifest_id=manifest_id,
            sequence=sequence,
            docking_id=docking_id(sequence),
            sha256=self.archive.want(manifest_id, content),
            size_bytes=len(content),
            file_id=file_id,
        )

    async def until_idle(self) -> None:
        """Return when nothing waits any more."""
        while self.queue.waiting_files:  # noqa: ASYNC110 -- the queue tells nobody that it is empty
            await asyncio.sleep(0.002)


@asynccontextmanager
async def queue_of(
    tmp_path: Path, archive: TusArchive, limits: QueueLimits | None = None
) -> AsyncIterator[Site]:
    progress: dict[DockingId, int] = {}
    counters = Counters()

    def count(docking: DockingId, size_bytes: int) -> None:
        progress[docking] = progress.get(docking, 0) + size_bytes

    async with (
        Journal.open(tmp_path / "journal.sqlite") as journal,
        serve_tus(archive),
        open_tus_client(archive.url, None, limits=LIMITS) as client,
    ):
        notices = NoticeStore(journal, dock=DOCK, clock=lambda: NOW)
        queue = UploadQueue(
            client,
            StagingDisk(tmp_path / "staging"),
            notices,
            on_progress=count,
            counters=counters,
            limits=limits or QueueLimits(longest_wait_s=0.01),
        )
        running = asyncio.create_task(queue.run())
        try:
            yield Site(queue, counters, archive, notices, tmp_path / "staging", progress)
        finally:
            running.cancel()
            await asyncio.wait({running})


async def test_everything_offered_arrives(tmp_path: Path) -> None:
    """Each file is sent once, its bytes are counted for its docking, and nothing waits after."""
    archive = TusArchive()
    async with queue_of(tmp_path, archive) as site:
        uploads = [site.stage(b"x" * size, sequence=1 + size % 2) for size in (1, 2_500, 0, 30)]
        assert site.queue.offer(uploads)
        await site.until_idle()

        assert {len(content) for content in archive.files.values()} == {1, 2_500, 0, 30}
        assert site.progress == {docking_id(2): 1, docking_id(1): 2_530}
        assert site.counters.uploaded_files == 4
        assert not site.queue.is_busy(uploads[0].manifest_id)


async def test_older_manifests_go_first(tmp_path: Path) -> None:
    """Whatever the order of the offers, the file of the lowest number is sent first."""
    archive = TusArchive()
    async with queue_of(tmp_path, archive, QueueLimits(at_once=1)) as site:
        arrived: list[str] = []
        archive.on_file = lambda manifest_id, _sha256: arrived.append(manifest_id)
        for sequence in (3, 1, 2):
            site.queue.offer([site.stage(b"%d" % sequence, sequence=sequence)])
        await site.until_idle()

        assert arrived == [uuid7(1, 1), uuid7(1, 2), uuid7(1, 3)]


async def test_no_more_than_a_few_at_once(tmp_path: Path) -> None:
    """At most as many files are on their way as the limit says, and that many are."""
    archive = TusArchive()
    archive.faults.gate = asyncio.Event()
    async with queue_of(tmp_path, archive, QueueLimits(at_once=2)) as site:
        site.queue.offer([site.stage(b"%d" % number) for number in range(6)])
        await archive.until_patching(2)
        archive.faults.gate.set()
        await site.until_idle()

        assert archive.most_patching == 2
        assert len(archive.files) == 6


async def test_the_same_offer_again_sends_nothing_twice(tmp_path: Path) -> None:
    """A file that waits already is not queued again."""
    archive = TusArchive()
    async with queue_of(tmp_path, archive) as site:
        upload = site.stage(b"once")
        site.queue.offer([upload])
        site.queue.offer([upload])
        await site.until_idle()

        assert archive.patched_bytes == len(b"once")


async def test_a_full_queue_turns_manifests_away(tmp_path: Path) -> None:
    """Beyond the limit a manifest is turned away whole; one that is alone always fits."""
    archive = TusArchive()
    archive.faults.gate = asyncio.Event()
    async with queue_of(tmp_path, archive, QueueLimits(most_files=2)) as site:
        first = [site.stage(b"%d" % number) for number in range(3)]
        second = [site.stage(b"another", sequence=2)]

        assert site.queue.offer(first)
        assert not site.queue.offer(second)
        assert not site.queue.is_busy(second[0].manifest_id)
        archive.faults.gate.set()


@pytest.mark.parametrize("status", [503, 507])
async def test_trouble_at_the_archive_is_waited_out(tmp_path: Path, status: int) -> None:
    """While the archive is full or busy the file waits; then it arrives."""
    archive = TusArchive()
    archive.faults.answers = {"POST": [(status, {})] * 5}
    async with queue_of(tmp_path, archive) as site:
        site.queue.offer([site.stage(b"patience")])
        await site.until_idle()

        assert list(archive.files.values()) == [b"patience"]
        assert site.queue.problem is None
        codes = [alert.code for alert in await site.notices.undelivered_alerts()]
        assert codes == (["E-TUS-103"] if status == 507 else [])


async def test_refused_files_wait_no_more(tmp_path: Path) -> None:
    """After refusals none of the manifest's files waits: the archive is asked again instead."""
    archive = TusArchive()
    async with queue_of(tmp_path, archive, QueueLimits(at_once=1)) as site:
        uploads = [site.stage(b"%d" % number) for number in range(3)]
        archive.wanted.clear()
        site.queue.offer(uploads)
        await site.until_idle()

        assert archive.requests == ["POST /v1/uploads"] * 3
        assert not site.queue.is_busy(uploads[0].manifest_id)
        assert site.queue.problem is not None
        assert not await site.notices.undelivered_alerts()


async def test_a_lost_copy_is_reported_once(tmp_path: Path) -> None:
    """A copy that is not in staging raises one alert; other manifests go on."""
    archive = TusArchive()
    async with queue_of(tmp_path, archive) as site:
        lost, kept = site.stage(b"lost"), site.stage(b"kept", sequence=2)
        (site.staging / "files" / lost.file_id).unlink()
        for _ in range(2):
            site.queue.offer([lost, kept])
            await site.until_idle()

        assert list(archive.files.values()) == [b"kept"]
        codes = [alert.code for alert in await site.notices.undelivered_alerts()]
        assert codes == [COPY_UNREADABLE]


async def test_a_damaged_copy_is_reported(tmp_path: Path) -> None:
    """A copy that changed in staging is found out and never archived."""
    archive = TusArchive()
    async with queue_of(tmp_path, archive) as site:
        upload = site.stage(b"true")
        (site.staging / "files" / upload.file_id).write_bytes(b"fals")
        site.queue.offer([upload])
        await site.until_idle()

        assert not archive.files
        codes = [alert.code for alert in await site.notices.undelivered_alerts()]
        assert codes == ["E-TUS-107"]


async def test_a_bad_copy_starves_no_other(tmp_path: Path) -> None:
    """However often the archive asks for all of them, the other files of a manifest arrive."""
    archive = TusArchive()
    async with queue_of(tmp_path, archive, QueueLimits(at_once=1)) as site:
        lost, *others = (site.stage(b"%d" % number) for number in range(3))
        (site.staging / "files" / lost.file_id).unlink()
        site.queue.offer([lost, *others])
        await site.until_idle()

        assert archive.files.keys() == {one.sha256 for one in others}


async def test_what_the_archive_fails_at_goes_to_the_back(tmp_path: Path) -> None:
    """Files that are answered 5xx hold up no other, are told once, and arrive in the end."""
    archive = TusArchive()
    limits = QueueLimits(at_once=2, longest_wait_s=0.01, patience_s=0)
    async with queue_of(tmp_path, archive, limits) as site:
        failing = [site.stage(b"failing %d" % number) for number in range(3)]
        others = [site.stage(b"%d" % number, sequence=2) for number in range(3)]
        archive.faults.failing = {one.sha256: 500 for one in failing}
        arrived = asyncio.Event()

        def count(*_names: str) -> None:
            if len(archive.files) == len(others):
                arrived.set()

        archive.on_file = count
        site.queue.offer([*failing, *others])
        await asyncio.wait_for(arrived.wait(), timeout=60)
        assert site.queue.waiting_files >= len(failing)
        archive.faults.failing = {}
        await site.until_idle()

        assert len(archive.files) == 6
        codes = [alert.code for alert in await site.notices.undelivered_alerts()]
        assert codes == ["E-TUS-102"]


async def test_fresh_files_do_not_wait_for_failing_ones(tmp_path: Path) -> None:
    """While only failing files are left and the queue waits, a new file is sent at once."""
    archive = TusArchive()
    limits = QueueLimits(at_once=1, longest_wait_s=3600)
    async with queue_of(tmp_path, archive, limits) as site:
        failing = site.stage(b"failing")
        archive.faults.failing = {failing.sha256: 503}
        site.queue.offer([failing])
        while site.queue.problem is None:  # noqa: ASYNC110 -- the queue tells nobody
            await asyncio.sleep(0.002)
        archive.faults.failing = {failing.sha256: 403}
        site.queue.offer([site.stage(b"fresh", sequence=2)])
        await site.until_idle()

        assert list(archive.files.values()) == [b"fresh"]


async def test_an_archive_out_of_reach_is_told(tmp_path: Path) -> None:
    """When no bytes reach the archive for long, a person hears of it."""
    archive = TusArchive()
    limits = QueueLimits(longest_wait_s=0.01, patience_s=0)
    async with queue_of(tmp_path, archive, limits) as site:
        archive.faults.drop_after_bytes = [0] * 6
        site.queue.offer([site.stage(b"far away")])
        await site.until_idle()

        codes = [alert.code for alert in await site.notices.undelivered_alerts()]
        assert codes == ["E-TUS-101"]
