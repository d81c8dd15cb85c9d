"""The files that the archive asked for, on their way: a few at once, oldest manifest first.

A file that cannot be sent holds up no other: it goes to the back, or waits for the next admission.
Only what would hit every file, no connection or a full archive, is waited out in place.
"""

import asyncio
import contextlib
import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import BinaryIO, Final, NamedTuple, Protocol

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type
from tenacity.wait import wait_random_exponential

from edge_agent.adapters.notice_store import Notice, NoticeStore
from edge_agent.adapters.outbox_store import Upload
from edge_agent.adapters.tus_client import FileToSend, TusClient
from edge_agent.adapters.vitals import Counters
from edge_agent.errors import (
    ArchiveBusyError,
    ArchiveFullError,
    ArchiveUnreachableError,
    StagedCopyDamagedError,
    UploadError,
    UploadRefusedError,
)
from edge_agent.ingest.files import FileId
from protocol.identifiers import DockingId, ManifestId

# The dock's own disk did not give back a staged copy.
COPY_UNREADABLE: Final = "E-OUT-108"

# The same trouble is told again after this time.
_QUIET_S: Final = 3600.0

_log = structlog.get_logger(__name__)


class StagedCopies(Protocol):
    """Where the staged copies are."""

    def open(self, file_id: FileId) -> BinaryIO:
        """Open a sealed copy for reading; raises OSError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """How much is on its way.

    Attributes:
        at_once: Files that are sent at the same time.
        most_files: Beyond this, whole manifests are turned away: the archive tells again what it
            needs when it sees the manifest again, and this memory stays bounded.
        longest_wait_s: The most between two attempts while the archive cannot be reached.
        patience_s: Trouble that lasts longer than this is a person's business.
    """

    at_once: int = 2
    most_files: int = 20_000
    longest_wait_s: float = 60.0
    patience_s: float = 600.0


class _Row(NamedTuple):
    """A waiting file, in the order of the queue: what was put back least often, oldest manifest.

    Attributes:
        since_s: When the archive first failed at it.
    """

    rounds: int
    sequence: int
    order: int
    upload: Upload
    since_s: float | None = None


class UploadQueue:
    """Sends staged files until the archive has them; `run` is its only task."""

    def __init__(
        self,
        client: TusClient,
        copies: StagedCopies,
        notices: NoticeStore,
        *,
        on_progress: Callable[[DockingId, int], None],
        counters: Counters,
        limits: QueueLimits | None = None,
    ) -> None:
        self.problem: str | None = None
        self._client = client
        self._copies = copies
        self._notices = notices
        self._on_progress = on_progress
        self._counters = counters
        self._limits = limits or QueueLimits()
        self._waiting: list[_Row] = []
        self._order = itertools.count()
        self._known: set[tuple[ManifestId, str]] = set()
        self._per_manifest: Counter[ManifestId] = Counter()
        self._alerted_s: dict[tuple[str, str], float] = {}
        self._filled = asyncio.Event()

    def offer(self, uploads: Iterable[Upload]) -> bool:
        """Queue what is not queued yet; return False if there is no room for all of it."""
        fresh = [one for one in uploads if (one.manifest_id, one.sha256) not in self._known]
        if self._known and len(self._known) + len(fresh) > self._limits.most_files:
            return False
        for upload in fresh:
            self._known.add((upload.manifest_id, upload.sha256))
            self._per_manifest[upload.manifest_id] += 1
            row = _Row(rounds=0, sequence=upload.sequence, order=next(self._order), upload=upload)
            heapq.heappush(self._waiting, row)
        self._filled.set()
        return True

    def is_busy(self, manifest_id: ManifestId) -> bool:
        """Return whether files of a manifest wait or are on their way."""
        return self._per_manifest[manifest_id] > 0

    @property
    def waiting_files(self) -> int:
        """How many files wait or are on their way."""
        return len(self._known)

    async def run(self) -> None:
        """Send what is offered, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._limits.at_once):
                group.create_task(self._work(), name=f"upload {number + 1}")

    async def _work(self) -> None:
        while True:
            row = await self._next()
            try:
                await self._send(row.upload)
            except ArchiveBusyError as error:
                await self._put_back(row, error)
            except (UploadError, OSError) as error:
                self._forget(row.upload)
                await self._give_up(row.upload, error)
            except BaseException:
                self._forget(row.upload)
                raise
            else:
                self._forget(row.upload)

    async def _next(self) -> _Row:
        while not self._waiting:
            self._filled.clear()
            await self._filled.wait()
        return heapq.heappop(self._waiting)

    async def _put_back(self, row: _Row, error: ArchiveBusyError) -> None:
        """Let all others go first: what the archive fails at may be this file alone."""
        now_s = asyncio.get_running_loop().time()
        since_s = now_s if row.since_s is None else row.since_s
        behind = row._replace(rounds=row.rounds + 1, order=next(self._order), since_s=since_s)
        try:
            self.problem = f"{error.code}: {error}"
            _log.warning("upload put back", code=error.code, detail=str(error))
            if now_s - since_s >= self._limits.patience_s:
                await self._alert_hourly(error.code, "", f"the archive takes no bytes: {error}")
            if not self._waiting or self._waiting[0].rounds >= behind.rounds:
                await self._pause(behind.rounds)
        finally:
            heapq.heappush(self._waiting, behind)

    async def _pause(self, rounds: int) -> None:
        """Only what was put back is left: wait, longer each time, or until a fresh file comes."""
        self._filled.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(self._limits.longest_wait_s, 2 ** min(rounds, 16))):
                await self._filled.wait()

    async def _send(self, upload: Upload) -> None:
        file = FileToSend(
            manifest_id=upload.manifest_id, sha256=upload.sha256, size_bytes=upload.size_bytes
        )
        confirmed_bytes = 0

        def progress(offset_bytes: int) -> None:
            nonlocal confirmed_bytes
            self._on_progress(upload.docking_id, offset_bytes - confirmed_bytes)
            self._counters.uploaded_bytes += max(0, offset_bytes - confirmed_bytes)
            confirmed_bytes = offset_bytes

        with await asyncio.to_thread(self._copies.open, upload.file_id) as copy:
            async for attempt in self._attempts():
                with attempt:
                    await self._client.send(file, copy.fileno(), progress=progress)
        self._counters.uploaded_files += 1
        self.problem = None
        self._alerted_s.pop((ArchiveFullError.code, ""), None)

    def _attempts(self) -> AsyncRetrying:
        """For ever: what hits one file hits all of them, and their order stays."""
        return AsyncRetrying(
            retry=retry_if_exception_type((ArchiveUnreachableError, ArchiveFullError)),
            wait=wait_random_exponential(multiplier=1, max=self._limits.longest_wait_s),
            before_sleep=self._note_trouble,
        )

    async def _note_trouble(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if not isinstance(error, UploadError):
            return
        self.problem = f"{error.code}: {error}"
        _log.warning("upload waits", code=error.code, detail=str(error))
        if isinstance(error, ArchiveFullError):
            await self._alert_hourly(error.code, "", "the archive is full")
        elif (state.seconds_since_start or 0) >= self._limits.patience_s:
            await self._alert_hourly(error.code, "", f"no bytes reach the archive: {error}")

    async def _give_up(self, upload: Upload, error: UploadError | OSError) -> None:
        """Tell why; the file comes back when the archive sees its manifest again."""
        code = error.code if isinstance(error, UploadError) else COPY_UNREADABLE
        self.problem = f"{code}: {error}"
        _log.error("upload given up", code=code, detail=str(error), sha256=upload.sha256)
        if isinstance(error, UploadRefusedError):
            return  # the archive changed its mind, and will say so when it is asked again
        if isinstance(error, OSError):
            text = f"a staged copy cannot be read: {error}"
        elif isinstance(error, StagedCopyDamagedError):
            text = f"a staged copy is damaged: {error}"
        else:
            text = f"an upload was given up: {error}"
        await self._alert_hourly(code, upload.sha256, text)

    async def _alert_hourly(self, code: str, sha256: str, text: str) -> None:
        now_s = asyncio.get_running_loop().time()
        self._alerted_s = {
            key: at_s for key, at_s in self._alerted_s.items() if now_s - at_s < _QUIET_S
        }
        if (code, sha256) in self._alerted_s:
            return
        self._alerted_s[code, sha256] = now_s
        facts = {"sha256": sha256} if sha256 else {}
        await self._notices.raise_alert(Notice(code=code, text=text, facts=facts))

    def _forget(self, upload: Upload) -> None:
        self._known.discard((upload.manifest_id, upload.sha256))
        self._per_manifest[upload.manifest_id] -= 1
        if self._per_manifest[upload.manifest_id] <= 0:
            del self._per_manifest[upload.manifest_id]
