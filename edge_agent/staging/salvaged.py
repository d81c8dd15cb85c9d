"""Parts of files that their recorders cannot read whole: what the place that keeps them promises.

They stand beside the staged copies and are never taken for one.
"""

from collections.abc import Collection, Iterator
from typing import Protocol

from edge_agent.ingest.files import FileId


class SalvageSlot(Protocol):
    """A file with holes; every call may block. After an OSError nothing more is taken."""

    def write_at(self, offset_bytes: int, part: bytes) -> None:
        """Put *part* where it stands in the file; durable after the next sync only."""

    def sync(self) -> None:
        """Make all that was written, and the file's name, durable."""

    def stored(self, offset_bytes: int, size_bytes: int) -> Iterator[bytes | memoryview]:
        """Read a part back, from the disk as far as the kernel lets go of its memory."""

    def close(self) -> None:
        """Keep what was synced."""


class SalvageStaging(Protocol):
    """Where such files are; every call may block."""

    def open(self, file_id: FileId) -> SalvageSlot:
        """Return a file's slot, with what was kept of it before, or empty."""

    def remove(self, file_id: FileId) -> None:
        """Throw away what is kept of a file, durably; harmless if there is nothing."""

    def sweep(
        self, with_parts: Collection[FileId], known: Collection[FileId]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Clear away what the journal has no parts of, before anything is copied.

        Returns:
            What was removed, of files that the journal knows; and what was put aside, where
            nothing deletes it: footage that another journal knew.
        """
