"""A folder's volume, one file of which has a part that cannot be read."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from edge_agent.adapters.directory_volume import DirectoryFile, DirectoryVolume
from edge_agent.errors import SourceUnreadableError
from edge_agent.ingest.volume import SourceFile, Stamp


@dataclass(slots=True)
class WornFile:
    """Keeps the contract of `SourceFile`: what is in *bad* cannot be read."""

    file: DirectoryFile
    path: bytes
    bad: range

    @property
    def size_bytes(self) -> int:
        return self.file.size_bytes

    @property
    def mtime_ns(self) -> int:
        return self.file.mtime_ns

    def stamp(self) -> Stamp:
        return self.file.stamp()

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        if offset_bytes < self.bad.stop and offset_bytes + size_bytes > self.bad.start:
            raise SourceUnreadableError(f"{self.path!r}: a bad sector")
        return self.file.read_at(offset_bytes, size_bytes)

    def chunks(self, *, offset_bytes: int) -> Iterator[memoryview]:
        for chunk in self.file.chunks(offset_bytes=offset_bytes):
            room = max(0, self.bad.start - offset_bytes)
            if offset_bytes < self.bad.stop and len(chunk) > room:
                if room:
                    yield chunk[:room]
                raise SourceUnreadableError(f"{self.path!r}: a bad sector")
            yield chunk
            offset_bytes += len(chunk)


@dataclass(slots=True)
class Wear:
    """Which file of all volumes is worn, and where; nothing is where *bad* is empty."""

    path: bytes
    bad: range

    @contextlib.contextmanager
    def open(self, volume: DirectoryVolume, path: bytes) -> Iterator[SourceFile]:
        """Open a file as `DirectoryVolume.open` does."""
        with _open(volume, path) as file:
            is_worn = path == self.path and self.bad
            yield WornFile(file, path, self.bad) if is_worn else file


_open = DirectoryVolume.open
