"""Bring one recorder's files into staging, one at a time, each to a row in the journal."""

import contextlib
import errno
import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from typing import Final

from edge_agent.errors import (
    CopyDiffersError,
    SizeMismatchError,
    SourceChangedError,
    SourceUnsteadyError,
)
from edge_agent.ingest.copying import CopiedFile, CopyWatch, Resume, copy_file, hash_again
from edge_agent.ingest.files import Device, FileId, FileRow
from edge_agent.ingest.plan import CopyStep
from edge_agent.ingest.recognising import fingerprint
from edge_agent.ingest.volume import SourceFile, Stamp, Volume
from edge_agent.one_thread import OneThread
from edge_agent.ports import DockingPorts, DockingSettings
from edge_agent.staging.evidence import achieved_level, lowered_findings, second_read_finding
from edge_agent.staging.slot import StagingSlot
from protocol.findings import MAX_DETAIL_CHARACTERS, Finding, FindingCode
from protocol.manifest import EvidenceLevel, name_of

NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
# A copy that our disk lost or changed is made once more, in another file.
_ATTEMPTS: Final = 2
# What was copied is not what the recorder has, or not what our disk has.
_MAKES_WORTHLESS: Final = (
    OSError,
    CopyDiffersError,
    SizeMismatchError,
    SourceChangedError,
    SourceUnsteadyError,
)
# People see no more steps than these; each costs the event loop a turn.
_TELL_EVERY_S: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """A file that was read to its end, in a slot that is not sealed."""

    slot: StagingSlot
    copied: CopiedFile
    fingerprint: str
    second_sha256: str | None


class FileCopier:
    """Copies files of one recorder; collects what is to be said about it."""

    def __init__(
        self,
        volume: Volume,
        thread: OneThread,
        device: Device,
        *,
        ports: DockingPorts,
        settings: DockingSettings,
        on_bytes: Callable[[int], None],
        on_reserved: Callable[[CopyStep], None],
    ) -> None:
        """Prepare to copy.

        Args:
            volume: Used in *thread* only.
            thread: The docking's.
            device: Whose rows these are.
            ports: Journal and staging are used.
            settings: Of the docking.
            on_bytes: Called in the event loop with how much of the current file we hold.
            on_reserved: Called in the event loop when the disk has set room aside for a file.
        """
        self._volume = volume
        self._thread = thread
        self._device = device
        self._journal = ports.journal
        self._staging = ports.staging
        self._settings = settings
        self._on_bytes = on_bytes
        self._on_reserved = on_reserved
        self._monotonic_s = ports.monotonic_s
        self._tell_at_s = -math.inf
        self._posted: deque[Future[None]] = deque()
        self._levels: dict[bytes, EvidenceLevel] = {}
        self._findings: list[Finding] = []
        # Of these, a first copy has failed already.
        self._failed: set[FileId] = set()
        self.disk_faults: list[str] = []

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings about the copies so far."""
        return (*self._findings, *lowered_findings(self._settings.evidence_level, self._levels))

    def note_differing(self, step: CopyStep, file_id: FileId, error: CopyDiffersError) -> None:
        """Count a copy that was made elsewhere, and read back as something else."""
        self._findings.append(_differed(step, error))
        self._failed.add(file_id)

    def note_fault(self, file_id: FileId, error: OSError) -> None:
        """Count a fault of our disk while this file and others were copied elsewhere."""
        self.disk_faults.append(f"{file_id}: {error}")
        self._failed.add(file_id)

    def note_level(self, path: bytes, level: EvidenceLevel) -> None:
        """Collect what a copy that was made elsewhere was proved to."""
        self._levels[path] = level

    async def copy(self, step: CopyStep, file_id: FileId) -> None:
        """Bring one file into staging, or note that its content is there already.

        Raises:
            IngestError: The recorder did not give it whole; what it gave is kept for later, unless
                it changed meanwhile.
            CopyDiffersError: Our disk gave back something else, twice.
            OSError: Our disk failed twice, or is full.
        """
        resume = _resume(step.row)
        for attempt in range(2 if file_id in self._failed else 1, _ATTEMPTS + 1):
            try:
                await self._copy_once(step, file_id, resume)
            except (CopyDiffersError, SourceUnsteadyError) as error:
                self._findings.append(_differed(step, error))
                if attempt == _ATTEMPTS:
                    raise
            except OSError as error:
                if error.errno in NO_SPACE or attempt == _ATTEMPTS:
                    raise
                self.disk_faults.append(f"{file_id}: {error}")
            else:
                return
            resume = None
            await self._forget_checkpoint(file_id)

    async def _copy_once(self, step: CopyStep, file_id: FileId, resume: Resume | None) -> None:
        # Known here as soon as it is open: a docking may be cancelled at any moment after that.
        opened: list[StagingSlot] = []
        try:
            read = await self._thread.run(partial(self._read, step, file_id, resume, opened))
            await self._take(step, file_id, read)
        except BaseException as error:
            for slot in opened:
                await self._thread.run(partial(self._close, slot))
            if opened and isinstance(error, _MAKES_WORTHLESS):
                await self._start_over(file_id)
            raise

    async def _take(self, step: CopyStep, file_id: FileId, read: _Read) -> None:
        digests = read.copied.digests
        same = await self._journal.find_content(self._device, digests.sha256)
        if same is not None:
            await self._thread.run(partial(self._close, read.slot))
            await self._journal.duplicate(file_id, same_as=same.file_id)
            try:
                await self._thread.run(read.slot.discard)
            except OSError as error:
                # The content is staged; the next start clears this copy away.
                self.disk_faults.append(f"{file_id}: {error}")
            return
        requested = self._settings.evidence_level
        read_back = await self._thread.run(
            partial(
                read.slot.seal,
                sha256=digests.sha256,
                read_back=requested is not EvidenceLevel.L1,
            )
        )
        await self._thread.run(self._settle)
        equal = None if read.second_sha256 is None else read.second_sha256 == digests.sha256
        level = achieved_level(requested, read_back, second_read_equal=equal)
        await self._journal.staged(
            file_id, digests=digests, evidence=level, fingerprint=read.fingerprint
        )
        self.note_level(step.key.path, level)
        if read.second_sha256 is not None and not equal:
            self._findings.append(
                second_read_finding(
                    step.key.path, first_sha256=digests.sha256, second_sha256=read.second_sha256
                )
            )

    def _read(
        self, step: CopyStep, file_id: FileId, resume: Resume | None, opened: list[StagingSlot]
    ) -> _Read:
        """In the thread: read the file into a slot, which *opened* gets at once."""
        self._tell_at_s = -math.inf
        with self._volume.open(step.key.path) as source:
            slot = self._slot(step, file_id, resume)
            opened.append(slot)
            self._thread.tell(partial(self._on_reserved, step))
            watch = CopyWatch(
                progress=self._progress,
                checkpoint=partial(self._checkpoint, file_id),
                forget=partial(self._forget_now, file_id),
            )
            stamp = source.stamp()
            check_time(step, stamp)
            copied = copy_file(
                step.key.path,
                source,
                slot,
                expected_bytes=step.key.size_bytes,
                watch=watch,
                resume=resume,
                with_sm3=self._settings.with_sm3,
                checkpoint_bytes=self._settings.checkpoint_bytes,
            )
            second = None
            if self._settings.evidence_level is EvidenceLevel.L3:
                slot.sync()
                watch.checkpoint(copied.size_bytes, copied.digests.sha256)
                second = self._read_again(source, step, copied.digests.sha256)
            print_ = fingerprint(source, copied.size_bytes)
            check_stamp(step, stamp, source.stamp())
        return _Read(slot=slot, copied=copied, fingerprint=print_, second_sha256=second)

    async def _start_over(self, file_id: FileId) -> None:
        """Throw away what was copied; first in the journal, which promises what is there."""
        await self._forget_checkpoint(file_id)
        try:
            await self._thread.run(partial(self._staging.remove, file_id))
        except OSError as error:
            # A new copy takes its place, or the next start clears it away.
            self.disk_faults.append(f"{file_id}: {error}")

    def _close(self, slot: StagingSlot) -> None:
        """In the thread: what was synced stays, and the journal says so when this returns."""
        # Whatever closing says, it is about bytes that no checkpoint was told of.
        with contextlib.suppress(OSError):
            slot.close()
        self._settle()

    def _settle(self) -> None:
        """In the thread: wait until the journal has all checkpoints."""
        posted = tuple(self._posted)
        self._posted.clear()
        wait(posted)
        for one in posted:
            one.result()

    def _read_again(self, source: SourceFile, step: CopyStep, first_sha256: str) -> str:
        """Return what a second reading gave; if that differs, a third must be like the first."""
        second = hash_again(source, progress=self._thread.stop_if_asked)
        if second != first_sha256:
            third = hash_again(source, progress=self._thread.stop_if_asked)
            if third != first_sha256:
                raise SourceUnsteadyError(
                    f"{step.key.path!r}: read three times: {first_sha256}, {second}, {third}"
                )
        return second

    def _slot(self, step: CopyStep, file_id: FileId, resume: Resume | None) -> StagingSlot:
        size_bytes = step.key.size_bytes
        if resume is not None:
            with contextlib.suppress(FileNotFoundError):
                return self._staging.reopen(
                    file_id, size_bytes=size_bytes, stored_bytes=resume.offset_bytes
                )
            self._forget_now(file_id)
        return self._staging.create(file_id, size_bytes=size_bytes)

    def _progress(self, held_bytes: int) -> None:
        self._thread.stop_if_asked()
        now_s = self._monotonic_s()
        if now_s >= self._tell_at_s:
            self._tell_at_s = now_s + _TELL_EVERY_S
            self._thread.tell(partial(self._on_bytes, held_bytes))

    def _checkpoint(self, file_id: FileId, verified_bytes: int, prefix_sha256: str) -> None:
        """In any thread: the journal is told, in order; nobody waits for it here."""
        self._posted.append(
            self._thread.post(
                self._journal.checkpoint(
                    file_id, verified_bytes=verified_bytes, prefix_sha256=prefix_sha256
                )
            )
        )

    def _forget_now(self, file_id: FileId) -> None:
        """In the thread: the journal never promises what is about to be thrown away."""
        self._settle()
        self._thread.wait_for(self._forget_checkpoint(file_id))

    async def _forget_checkpoint(self, file_id: FileId) -> None:
        await self._journal.checkpoint(file_id, verified_bytes=0, prefix_sha256=None)


def check_time(step: CopyStep, stamp: Stamp) -> None:
    """Raise SourceChangedError if a file was written since it was listed."""
    # Another size is told with both numbers by copy_file.
    if stamp.size_bytes == step.key.size_bytes and stamp.mtime_ns != step.key.mtime_ns:
        raise SourceChangedError(f"{step.key.path!r}: written since it was listed")


def check_stamp(step: CopyStep, before: Stamp, after: Stamp) -> None:
    """Raise SourceChangedError if a file was written between two looks at it."""
    if after != before:
        raise SourceChangedError(f"{step.key.path!r}: written while it was read")


def _resume(row: FileRow | None) -> Resume | None:
    if row is None or not row.verified_bytes or row.prefix_sha256 is None:
        return None
    return Resume(offset_bytes=row.verified_bytes, prefix_sha256=row.prefix_sha256)


def _differed(step: CopyStep, error: CopyDiffersError | SourceUnsteadyError) -> Finding:
    ours = isinstance(error, CopyDiffersError)
    code = FindingCode.COPY_DIFFERED if ours else FindingCode.EVIDENCE_LOWERED
    return Finding(
        code=code, path=name_of(step.key.path).path, detail=str(error)[:MAX_DETAIL_CHARACTERS]
    )
