"""Bring many small files into staging together, where nothing is out of the ordinary.

This is a short cut and nothing else: whatever it does not bring to an end, `FileCopier.copy` takes
up from the beginning, with all that it knows about faults.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from edge_agent.errors import (
    CopyDiffersError,
    CopyStoppedError,
    IngestError,
    SizeMismatchError,
    SourceVanishedError,
)
from edge_agent.file_copier import NO_SPACE, FileCopier, check_stamp, check_time
from edge_agent.ingest.files import Device, FileId, FileKey
from edge_agent.ingest.plan import CopyStep
from edge_agent.ingest.recognising import fingerprint_of
from edge_agent.ingest.volume import Volume
from edge_agent.one_thread import OneThread
from edge_agent.ports import DockingPorts, DockingSettings, StagedCopy
from edge_agent.staging.evidence import achieved_level
from edge_agent.staging.slot import ReadBack, SmallCopy
from protocol.digest import Digests, StreamDigest
from protocol.manifest import EvidenceLevel

# As many, and as much memory of each bay, as one batch takes.
_MOST_FILES: Final = 64
_MOST_BYTES: Final = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """A small file as its recorder gave it."""

    step: CopyStep
    copy: SmallCopy
    digests: Digests


class SmallFiles:
    """Copies small files of one recorder, a batch at a time."""

    def __init__(
        self,
        volume: Volume,
        thread: OneThread,
        device: Device,
        copier: FileCopier,
        *,
        ports: DockingPorts,
        settings: DockingSettings,
    ) -> None:
        """Prepare to copy.

        Args:
            volume: Used in *thread* only.
            thread: The docking's.
            device: Whose rows these are.
            copier: Is told what there is to say about the copies.
            ports: Journal and staging are used.
            settings: Of the docking.
        """
        self._volume = volume
        self._thread = thread
        self._device = device
        self._copier = copier
        self._journal = ports.journal
        self._staging = ports.staging
        self._settings = settings

    async def copy(
        self, steps: Sequence[CopyStep], file_ids: Mapping[FileKey, FileId]
    ) -> frozenset[FileKey]:
        """Return which of *steps* are staged now; the others are as they were before.

        Raises:
            CopyStoppedError: The agent is stopping.
        """
        read = await self._thread.run(partial(self._read_all, steps, file_ids))
        read = await self._new(read)
        if not read:
            return frozenset()
        outcomes = await self._thread.run(
            partial(
                self._staging.stage_together,
                [one.copy for one in read],
                read_back=self._settings.evidence_level is not EvidenceLevel.L1,
            )
        )
        staged: list[tuple[_Read, ReadBack]] = []
        for one, outcome in zip(read, outcomes, strict=True):
            if isinstance(outcome, ReadBack):
                staged.append((one, outcome))
            elif isinstance(outcome, CopyDiffersError):
                self._copier.note_differing(one.step, one.copy.file_id, outcome)
            elif outcome.errno not in NO_SPACE:
                self._copier.note_fault(one.copy.file_id, outcome)
        await self._note(staged)
        return frozenset(one.step.key for one, _ in staged)

    async def _note(self, staged: Sequence[tuple[_Read, ReadBack]]) -> None:
        copies = [
            StagedCopy(
                file_id=one.copy.file_id,
                digests=one.digests,
                evidence=achieved_level(
                    self._settings.evidence_level, proof, second_read_equal=None
                ),
                fingerprint=fingerprint_of(one.copy.content),
            )
            for one, proof in staged
        ]
        await self._journal.staged_together(copies)
        for (one, _), copy in zip(staged, copies, strict=True):
            self._copier.note_level(one.step.key.path, copy.evidence)

    async def _new(self, read: Sequence[_Read]) -> list[_Read]:
        """Return those whose content no file stands for yet, each content once."""
        if not read:
            return []
        contents: dict[str, _Read] = {}
        for one in read:
            contents.setdefault(one.copy.sha256, one)
        known = await self._journal.known_contents(self._device, contents.keys())
        return [one for sha256, one in contents.items() if sha256 not in known]

    def _read_all(
        self, steps: Sequence[CopyStep], file_ids: Mapping[FileKey, FileId]
    ) -> list[_Read]:
        """In the thread: read what can be read without ado."""
        read: list[_Read] = []
        for step in steps:
            self._thread.stop_if_asked()
            try:
                content = self._content(step)
            except CopyStoppedError:
                raise
            except SourceVanishedError:
                break
            except IngestError:
                continue  # whoever reads it by itself says why it cannot be read
            digest = StreamDigest(with_sm3=self._settings.with_sm3)
            digest.update(content)
            digests = digest.digests()
            copy = SmallCopy(file_id=file_ids[step.key], content=content, sha256=digests.sha256)
            read.append(_Read(step=step, copy=copy, digests=digests))
        return read

    def _content(self, step: CopyStep) -> bytes:
        with self._volume.open(step.key.path) as source:
            stamp = source.stamp()
            check_time(step, stamp)
            content = bytearray()
            for chunk in source.chunks(offset_bytes=0):
                content += chunk
                if len(content) > step.key.size_bytes:
                    break
            if len(content) != step.key.size_bytes:
                raise SizeMismatchError(
                    step.key.path, expected_bytes=step.key.size_bytes, read_bytes=len(content)
                )
            check_stamp(step, stamp, source.stamp())
        return bytes(content)


def batches(steps: Sequence[CopyStep], settings: DockingSettings) -> Iterator[tuple[CopyStep, ...]]:
    """Yield *steps* in order: small ones that follow each other together, others alone.

    What is to be read twice, L3, is read by itself.
    """
    may_be = settings.evidence_level is not EvidenceLevel.L3 and settings.small_bytes > 0
    batch: list[CopyStep] = []
    size_bytes = 0
    for step in steps:
        fits = may_be and step.key.size_bytes <= settings.small_bytes and not _is_begun(step)
        is_full = len(batch) >= _MOST_FILES or size_bytes + step.key.size_bytes > _MOST_BYTES
        if batch and (is_full or not fits):
            yield tuple(batch)
            batch, size_bytes = [], 0
        if fits:
            batch.append(step)
            size_bytes += step.key.size_bytes
        else:
            yield (step,)
    if batch:
        yield tuple(batch)


def _is_begun(step: CopyStep) -> bool:
    return step.row is not None and bool(step.row.verified_bytes or step.row.salvaged)
