"""``salvaged/`` beside the staged copies: files with holes, of what could not be read whole.

What stands at an offset here stood there on the recorder; ``partial/`` has the beginning.
Every call blocks. An OSError is the disk's own word and is passed on as it is.
"""

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from edge_agent.ingest.files import FileId
from runtime import durable
from runtime.eviction import evict
from runtime.reading import CHUNK_BYTES


class SalvageDisk:
    """The folder; keeps the contract of `SalvageStaging`."""

    def __init__(self, root: Path) -> None:
        """Use ``salvaged/`` in staging's *root*, and create it if it is not there.

        Raises:
            OSError: The disk failed.
        """
        self._folder = root / "salvaged"
        self._orphaned = root / "orphaned"
        for folder in (self._folder, self._orphaned):
            durable.make_directories(folder)

    def open(self, file_id: FileId) -> "SalvageFile":
        """Return a file's slot, with what was kept of it before, or empty."""
        return SalvageFile(self._folder / file_id)

    def remove(self, file_id: FileId) -> None:
        """Throw away what is kept of a file, durably."""
        with contextlib.suppress(FileNotFoundError):
            (self._folder / file_id).unlink()
            durable.sync_directory(self._folder)

    def sweep(
        self, with_parts: Collection[FileId], known: Collection[FileId]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Clear away what the journal has no parts of: removed, and put aside."""
        strange = sorted(path for path in self._folder.iterdir() if path.name not in with_parts)
        removed = [path for path in strange if path.name in known]
        aside = [path for path in strange if path.name not in known]
        for path in removed:
            path.unlink()
        for path in aside:
            durable.rename_no_replace(path, self._orphaned / f"{path.name}.parts")
        durable.sync_directory(self._folder)
        return _shown(removed), _shown(aside)


class SalvageFile:
    """An open file; keeps the contract of `SalvageSlot`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(path, flags, 0o600)

    def write_at(self, offset_bytes: int, part: bytes) -> None:
        """Put *part* where it stands in the file."""
        os.lseek(self._fd, offset_bytes, os.SEEK_SET)
        durable.write_all(self._fd, part)

    def sync(self) -> None:
        """Make all that was written, and the file's name, durable."""
        durable.sync_file(self._fd)
        durable.sync_directory(self._path.parent)

    def stored(self, offset_bytes: int, size_bytes: int) -> Iterator[bytes]:
        """Read a part back; less of it where the file ends before."""
        evict(self._fd, size_bytes=os.fstat(self._fd).st_size)
        end_bytes = offset_bytes + size_bytes
        while part := os.pread(self._fd, min(CHUNK_BYTES, end_bytes - offset_bytes), offset_bytes):
            offset_bytes += len(part)
            yield part

    def close(self) -> None:
        """Keep what was synced."""
        os.close(self._fd)


def _shown(paths: Iterable[Path]) -> tuple[str, ...]:
    return tuple(f"{path.parent.name}/{path.name}" for path in paths)
