"""Staging in memory, which forgets what was not synced, and fails where it is told to."""

import errno
import io
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from edge_agent.errors import CopyDiffersError
from edge_agent.ingest.files import FileId
from edge_agent.staging.slot import ReadBack, SmallCopy, SmallOutcome
from protocol.digest import sha256_hex


@dataclass(slots=True, kw_only=True)
class MemoryStaging:
    """Keeps the contract of `Staging`.

    Attributes:
        room_bytes: Of the disk.
        room_files: Of the disk.
        unannounced_bytes: How much of that others will have taken when it is needed.
        evicts: Whether the kernel can prove that it let go.
        failing_syncs: How many of the next syncs fail.
        changing_seals: How many of the next sealed copies are changed by the disk.
        copies: How many slots were begun from nothing, by file.
        set_aside: What the disk has reserved for slots, by file.
    """

    room_bytes: int = 1 << 40
    room_files: int = 1 << 20
    unannounced_bytes: int = 0
    evicts: bool = True
    failing_syncs: int = 0
    changing_seals: int = 0
    partial: dict[FileId, bytes] = field(default_factory=dict)
    files: dict[FileId, bytes] = field(default_factory=dict)
    orphaned: dict[FileId, bytes] = field(default_factory=dict)
    copies: list[FileId] = field(default_factory=list)
    set_aside: dict[FileId, int] = field(default_factory=dict)

    def create(self, file_id: FileId, *, size_bytes: int) -> "MemorySlot":
        self.files.pop(file_id, None)
        self.partial.pop(file_id, None)
        self.reserve(size_bytes)
        self.copies.append(file_id)
        self.set_aside[file_id] = size_bytes
        self.partial[file_id] = b""
        return MemorySlot(self, file_id, size_bytes=size_bytes, content=b"")

    def reopen(self, file_id: FileId, *, size_bytes: int, stored_bytes: int) -> "MemorySlot":
        durable = self.partial.get(file_id, b"")
        if len(durable) < stored_bytes or file_id not in self.partial:
            raise FileNotFoundError(errno.ENOENT, "it holds less than it should", file_id)
        self.partial[file_id] = durable[:stored_bytes]
        return MemorySlot(self, file_id, size_bytes=size_bytes, content=durable[:stored_bytes])

    def stage_together(
        self, copies: Sequence[SmallCopy], *, read_back: bool
    ) -> tuple[SmallOutcome, ...]:
        return tuple(self._stage(copy, read_back=read_back) for copy in copies)

    def _stage(self, copy: SmallCopy, *, read_back: bool) -> SmallOutcome:
        try:
            slot = self.create(copy.file_id, size_bytes=len(copy.content))
            slot.append(copy.content)
            return slot.seal(sha256=copy.sha256, read_back=read_back)
        except (OSError, CopyDiffersError) as error:
            self.remove(copy.file_id)
            return error

    def open(self, file_id: FileId) -> BinaryIO:
        if file_id not in self.files:
            raise FileNotFoundError(errno.ENOENT, "no such file", file_id)
        return io.BytesIO(self.files[file_id])

    def remove(self, file_id: FileId) -> None:
        self.files.pop(file_id, None)
        self.partial.pop(file_id, None)

    def sweep(self, known_file_ids: Collection[FileId]) -> tuple[str, ...]:
        removed = []
        for name, folder in (("partial", self.partial), ("files", self.files)):
            for file_id in sorted(folder.keys() - set(known_file_ids)):
                content = folder.pop(file_id)
                if folder is self.files:
                    self.orphaned[file_id] = content
                removed.append(f"{name}/{file_id}")
        return tuple(removed)

    def free_bytes(self) -> int:
        # A slot takes all of its file from its begin on; one that is sealed just now counts once.
        partial, files = dict(self.partial), dict(self.files)
        used = sum(map(len, files.values()))
        for file_id in partial.keys() - files.keys():
            used += max(len(partial[file_id]), self.set_aside.get(file_id, 0))
        return max(0, self.room_bytes - used)

    def free_files(self) -> int:
        return max(0, self.room_files - len(self.partial) - len(self.files))

    def reserve(self, size_bytes: int) -> None:
        if size_bytes > self.free_bytes() - self.unannounced_bytes or not self.free_files():
            raise OSError(errno.ENOSPC, "no room")


class MemorySlot:
    """Keeps the contract of `StagingSlot`; what is in ``partial`` is what was synced."""

    def __init__(
        self, staging: MemoryStaging, file_id: FileId, *, size_bytes: int, content: bytes
    ) -> None:
        self._staging = staging
        self._file_id = file_id
        self._size_bytes = size_bytes
        self._content = bytearray(content)
        self._usable = True

    @property
    def stored_bytes(self) -> int:
        return len(self._content)

    def stored(self, *, offset_bytes: int) -> Iterator[bytes]:
        self._check_usable()
        rest = bytes(self._content[offset_bytes:])
        half = len(rest) // 2
        yield from (piece for piece in (rest[:half], rest[half:]) if piece)

    def append(self, chunk: bytes | memoryview) -> None:
        self._check_usable()
        self._content += chunk

    def sync(self) -> None:
        self._check_usable()
        if self._staging.failing_syncs:
            self._staging.failing_syncs -= 1
            self._usable = False
            raise OSError(errno.EIO, "sync failed")
        self._staging.partial[self._file_id] = bytes(self._content)

    def sync_behind(self, then: Callable[[], None]) -> None:
        self.sync()
        then()

    def restart(self) -> None:
        self.discard()
        self._staging.create(self._file_id, size_bytes=self._size_bytes)
        self._content.clear()
        self._usable = True

    def seal(self, *, sha256: str, read_back: bool) -> ReadBack:
        self.sync()
        written = self._staging.partial[self._file_id]
        if self._staging.changing_seals:
            self._staging.changing_seals -= 1
            written = written[:-1] + bytes([written[-1] ^ 1])
        found = sha256_hex(written)
        self._usable = False
        if read_back and found != sha256:
            raise CopyDiffersError(self._file_id, written_sha256=sha256, found_sha256=found)
        if self._file_id in self._staging.files:
            raise FileExistsError(errno.EEXIST, "sealed before", self._file_id)
        self._staging.files[self._file_id] = written
        del self._staging.partial[self._file_id]
        return ReadBack(compared=read_back, evicted=read_back and self._staging.evicts)

    def close(self) -> None:
        self._usable = False

    def discard(self) -> None:
        self._usable = False
        self._staging.partial.pop(self._file_id, None)

    def _check_usable(self) -> None:
        if not self._usable:
            raise OSError(errno.EIO, "poisoned or closed")
