"""Keep what can be read of a file beyond the place where its recorder could not go on."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

from edge_agent.errors import (
    CopyDiffersError,
    IngestError,
    SourceChangedError,
    SourceUnreadableError,
    SourceUnsteadyError,
)
from edge_agent.ingest.files import FileRow
from edge_agent.ingest.salvage import SECTOR_BYTES, Extent, Search, holes, joined
from edge_agent.ingest.volume import SourceFile, Volume
from edge_agent.one_thread import OneThread
from edge_agent.ports import DockingPorts
from edge_agent.staging.salvaged import SalvageSlot
from protocol.digest import StreamDigest
from protocol.manifest import ByteRange, covered_bytes

# Of one docking: how long reading may take beyond what a slow recorder takes, and how often it
# may fail. A dying card answers each time after half a minute, and must not hold its bay for long.
BUDGET_S: Final = 300.0
BUDGET_FAILURES: Final = 512
_SLOW_BYTES_S: Final = 1_000_000
# Of each file so many holes are named to people.
_NAMED_HOLES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """Bytes read one after the other, and what they hash to as the recorder gave them."""

    extent: Extent
    sha256: str


class FileSalvager:
    """Salvages files of one recorder, within one budget for all of them."""

    def __init__(self, volume: Volume, thread: OneThread, ports: DockingPorts) -> None:
        """Prepare; *volume* is used in *thread* only."""
        self._volume = volume
        self._thread = thread
        self._journal = ports.journal
        self._staging = ports.staging
        self._salvaging = ports.salvaging
        self._monotonic_s = ports.monotonic_s
        self._seconds_left = BUDGET_S
        self._failures_left = BUDGET_FAILURES

    async def salvage(self, row: FileRow) -> str:
        """Read around what cannot be read of a file, and keep it durably.

        Args:
            row: Of an unfinished file, as the journal has it now.

        Returns:
            What is held and what is not, in English.

        Raises:
            SourceChangedError: The file was written meanwhile; nothing new was kept.
            SourceUnsteadyError: It has other bytes where some were kept; those were left alone.
            SourceUnreadableError: It cannot even be opened.
            IngestError: The recorder left, or the docking is to stop; what was read is kept.
            CopyDiffersError: Our disk gave back something else; nothing new was kept.
            OSError: Our disk failed, or is full.
        """
        return await self._thread.run(partial(self._salvage, row))

    def _salvage(self, row: FileRow) -> str:
        key, held = row.key, row.held_ranges
        missing = tuple(holes(key.size_bytes, held))
        if sum(hole.size_bytes for hole in missing) > self._staging.free_bytes():
            return f"{_told(key.size_bytes, held)}; there is no room for more"
        with self._volume.open(key.path) as source:
            before = source.stamp()
            if (before.size_bytes, before.mtime_ns) != (key.size_bytes, key.mtime_ns):
                raise SourceChangedError(f"{key.path!r}: written since it was listed")
            slot = self._salvaging.open(row.file_id)
            try:
                self._check_kept(source, slot, row)
                runs, ended = self._read(source, slot, missing)
                if ended is None and source.stamp() != before:
                    raise SourceChangedError(f"{key.path!r}: written while it was read")
                ranges = _kept(slot, row, runs)
            finally:
                slot.close()
        self._thread.wait_for(self._journal.salvaged(row.file_id, ranges))
        if not ranges:
            self._salvaging.remove(row.file_id)
        if ended is not None:
            raise ended
        now_held = sorted((*held, *ranges), key=lambda one: one.offset_bytes)
        return _told(key.size_bytes, now_held)

    def _check_kept(self, source: SourceFile, slot: SalvageSlot, row: FileRow) -> None:
        """Compare both ends of what was kept before; what cannot be read now says nothing."""
        for part in row.salvaged:
            size_bytes = min(SECTOR_BYTES, part.size_bytes)
            for offset_bytes in (part.offset_bytes, part.end_bytes - size_bytes):
                kept = b"".join(slot.stored(offset_bytes, size_bytes))
                found = self._try(source, Extent(offset_bytes=offset_bytes, size_bytes=size_bytes))
                if found is not None and found != kept:
                    raise SourceUnsteadyError(
                        f"{row.key.path!r}: at {offset_bytes} it is not what was kept of it before"
                    )

    def _read(
        self, source: SourceFile, slot: SalvageSlot, missing: Iterable[Extent]
    ) -> tuple[list[_Run], IngestError | None]:
        """Return what was read into the slot, and what ended it before there was no more to try."""
        search = Search(missing)
        reading = _Reading()
        try:
            while not search.is_over and self._seconds_left > 0 and self._failures_left > 0:
                self._thread.stop_if_asked()
                part = search.next_part
                found = self._try(source, part)
                # A part that ends too early is a file that was cut; its stamp will say so.
                is_whole = found is not None and len(found) == part.size_bytes
                if found is not None and is_whole:
                    slot.write_at(part.offset_bytes, found)
                    reading.add(part.offset_bytes, found)
                search.note(was_readable=is_whole)
        except IngestError as error:
            return reading.end(), error
        return reading.end(), None

    def _try(self, source: SourceFile, part: Extent) -> bytes | None:
        """Return a part of the file, or None if it cannot be read, and count what that cost."""
        begun_s = self._monotonic_s()
        try:
            return source.read_at(part.offset_bytes, part.size_bytes)
        except SourceUnreadableError:
            self._failures_left -= 1
            return None
        finally:
            usual_s = part.size_bytes / _SLOW_BYTES_S
            self._seconds_left -= max(0.0, self._monotonic_s() - begun_s - usual_s)


class _Reading:
    """Parts that were read, those that follow one another hashed as one."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []
        self._begin_bytes = 0
        self._digest = StreamDigest()

    def add(self, offset_bytes: int, part: bytes) -> None:
        if offset_bytes != self._begin_bytes + self._digest.size_bytes:
            self.end()
            self._begin_bytes = offset_bytes
        self._digest.update(part)

    def end(self) -> list[_Run]:
        if self._digest.size_bytes:
            extent = Extent(offset_bytes=self._begin_bytes, size_bytes=self._digest.size_bytes)
            self._runs.append(_Run(extent=extent, sha256=self._digest.digests().sha256))
            self._begin_bytes = extent.end_bytes
            self._digest = StreamDigest()
        return self._runs


def _kept(slot: SalvageSlot, row: FileRow, runs: Iterable[_Run]) -> tuple[ByteRange, ...]:
    """Sync the slot, read back what was written, and return all that it holds."""
    slot.sync()
    earlier = [
        _Run(
            extent=Extent(offset_bytes=one.offset_bytes, size_bytes=one.size_bytes),
            sha256=one.sha256,
        )
        for one in row.salvaged
    ]
    every = sorted((*earlier, *runs), key=lambda run: run.extent)
    ranges = []
    for whole in joined(run.extent for run in every):
        digest = StreamDigest()
        inside = (run for run in every if whole.offset_bytes <= run.extent.offset_bytes)
        for run in inside:
            if run.extent.offset_bytes >= whole.end_bytes:
                break
            found = _hash(slot, run.extent, also=digest.update)
            if found != run.sha256:
                raise CopyDiffersError(row.file_id, written_sha256=run.sha256, found_sha256=found)
        ranges.append(
            ByteRange(
                offset_bytes=whole.offset_bytes,
                size_bytes=whole.size_bytes,
                sha256=digest.digests().sha256,
            )
        )
    return tuple(ranges)


def _hash(slot: SalvageSlot, extent: Extent, *, also: Callable[[bytes | memoryview], None]) -> str:
    digest = StreamDigest()
    for part in slot.stored(extent.offset_bytes, extent.size_bytes):
        digest.update(part)
        also(part)
    return digest.digests().sha256


def _told(size_bytes: int, held: Iterable[ByteRange]) -> str:
    held = tuple(held)
    missing = tuple(holes(size_bytes, held))
    named = ", ".join(f"{one.size_bytes} at {one.offset_bytes}" for one in missing[:_NAMED_HOLES])
    more = f" and {len(missing) - _NAMED_HOLES} more" if len(missing) > _NAMED_HOLES else ""
    rest = f"; not {named}{more}" if missing else ""
    return f"{covered_bytes(held)} of {size_bytes} bytes are held{rest}"
