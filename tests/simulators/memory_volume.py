"""A recorder's volume in memory, which can be pulled, have bad sectors, and counts what is read."""

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from edge_agent.errors import SourceUnreadableError, SourceVanishedError
from edge_agent.ingest.salvage import SECTOR_BYTES
from edge_agent.ingest.volume import MAX_DEPTH, EntryKind, RawEntry, Stamp, clamp_mtime


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One file; it cannot be read from *bad_from* on, nor at *bad_sectors*.

    A sector has 4,096 bytes; reading hands out what stands before a bad one, then fails.
    """

    content: bytes
    mtime_ns: int = 0
    bad_from: int | None = None
    bad_sectors: frozenset[int] = frozenset()

    def readable_end(self, offset_bytes: int, end_bytes: int) -> int:
        """Return up to where a part from *offset_bytes* to *end_bytes* can be read."""
        ends = [end_bytes] if self.bad_from is None else [end_bytes, self.bad_from]
        ends += [
            max(sector * SECTOR_BYTES, offset_bytes)
            for sector in self.bad_sectors
            if (sector + 1) * SECTOR_BYTES > offset_bytes
        ]
        return min(ends)


@dataclass(slots=True, kw_only=True)
class MemoryVolume:
    """Keeps the contract of `Volume`; ``docked`` False is a recorder that left.

    Attributes:
        odd: Entries that are no files.
        pull_after_chunks: Leave after that many chunks, of all files together.
        first_reads: What a file gives instead when it is read from its start for the first time.
        second_reads: Likewise, for the second time.
        unsteady: Files that give something else each time.
        pull_after_probes: Leave after that many small parts of a file were asked for, by path.
        gate: Nothing is read before it is set.
        read_bytes: By path; without small parts.
        probes: How many small parts were asked for, by path.
    """

    files: dict[bytes, Stored] = field(default_factory=dict)
    odd: list[RawEntry] = field(default_factory=list)
    chunk_bytes: int = 1 << 20
    pull_after_chunks: int | None = None
    pull_after_probes: dict[bytes, int] = field(default_factory=dict)
    first_reads: dict[bytes, bytes] = field(default_factory=dict)
    second_reads: dict[bytes, bytes] = field(default_factory=dict)
    unsteady: frozenset[bytes] = frozenset()
    docked: bool = True
    gate: threading.Event | None = None
    read_bytes: Counter[bytes] = field(default_factory=Counter)
    probes: Counter[bytes] = field(default_factory=Counter)
    starts: Counter[bytes] = field(default_factory=Counter)

    def entries(self) -> Iterator[RawEntry]:
        self.check_docked()
        seen: set[bytes] = set()
        for path, stored in self.files.items():
            folders = path.split(b"/")[:-1]
            for depth in range(1, len(folders) + 1):
                folder = b"/".join(folders[:depth])
                if folder not in seen:
                    seen.add(folder)
                    kind = EntryKind.TOO_DEEP if depth >= MAX_DEPTH else EntryKind.DIRECTORY
                    if depth <= MAX_DEPTH:
                        yield RawEntry(path=folder, kind=kind)
            if len(folders) < MAX_DEPTH:
                yield RawEntry(
                    path=path,
                    kind=EntryKind.FILE,
                    size_bytes=len(stored.content),
                    mtime_ns=clamp_mtime(stored.mtime_ns),
                )
        yield from self.odd
        self.check_docked()

    def read_small(self, path: bytes, *, max_bytes: int) -> bytes:
        with self.open(path) as file:
            if file.size_bytes > max_bytes:
                raise SourceUnreadableError(f"{path!r}: not small")
            return b"".join(file.chunks(offset_bytes=0))

    @contextlib.contextmanager
    def open(self, path: bytes) -> Iterator["MemoryFile"]:
        self.check_docked()
        if path not in self.files:
            raise SourceUnreadableError(f"{path!r}: no regular file")
        yield MemoryFile(self, path)

    def next_reading(self, path: bytes, content: bytes) -> bytes:
        """Return what a file that has *content* gives when it is read from its start now."""
        number = self.starts[path]
        self.starts[path] += 1
        if path in self.unsteady:
            return bytes(byte ^ (number + 1) & 0xFF for byte in content)
        instead = {0: self.first_reads, 1: self.second_reads}.get(number, {})
        return instead.get(path, content)

    def check_docked(self) -> None:
        if self.pull_after_chunks == 0:
            self.docked = False
        if not self.docked:
            raise SourceVanishedError("pulled")

    def count_probe(self, path: bytes) -> None:
        self.probes[path] += 1
        if path in self.pull_after_probes and self.probes[path] > self.pull_after_probes[path]:
            self.docked = False
            self.check_docked()


class MemoryFile:
    def __init__(self, volume: MemoryVolume, path: bytes) -> None:
        self._volume = volume
        self._path = path
        self._stored = stored = volume.files[path]
        self.size_bytes = len(stored.content)
        self.mtime_ns = clamp_mtime(stored.mtime_ns)

    def stamp(self) -> Stamp:
        self._volume.check_docked()
        stored = self._volume.files.get(self._path, self._stored)
        return Stamp(size_bytes=len(stored.content), mtime_ns=clamp_mtime(stored.mtime_ns))

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        self._volume.check_docked()
        stored = self._volume.files.get(self._path, self._stored)
        self._volume.count_probe(self._path)
        part = stored.content[offset_bytes : offset_bytes + size_bytes]
        readable_end = stored.readable_end(offset_bytes, offset_bytes + len(part))
        if offset_bytes + len(part) > readable_end:
            raise SourceUnreadableError(f"{self._path!r}: bad from {readable_end}")
        return part

    def chunks(self, *, offset_bytes: int) -> Iterator[bytes]:
        volume, path = self._volume, self._path
        stored = volume.files[path]
        content = stored.content
        if offset_bytes == 0:
            content = volume.next_reading(path, content)
        position = offset_bytes
        if volume.gate is not None and not volume.gate.wait(60):
            raise TimeoutError("nobody opened the gate")
        while True:
            volume.check_docked()
            end = min(position + volume.chunk_bytes, len(content))
            readable_end = stored.readable_end(position, end)
            if readable_end <= position < len(content):
                raise SourceUnreadableError(f"{path!r}: bad from {readable_end}")
            chunk = content[position:readable_end]
            if not chunk:
                return
            if volume.pull_after_chunks is not None:
                volume.pull_after_chunks -= 1
            volume.read_bytes[path] += len(chunk)
            yield chunk
            position += len(chunk)
