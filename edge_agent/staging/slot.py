"""The dock's own durable copies: what a staging place promises.

A slot takes one file. Sealed, it is durable under its file's id and was read back from the disk.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from edge_agent.errors import CopyDiffersError
from edge_agent.ingest.files import FileId


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBack:
    """What is proved of a sealed copy.

    Attributes:
        compared: It was read back and had the digest that was written.
        evicted: The kernel proved that those bytes came from the disk and not from memory.
    """

    compared: bool
    evicted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallCopy:
    """A whole file in memory, on its way to our disk; *sha256* is of what the recorder gave."""

    file_id: FileId
    content: bytes
    sha256: str


# What is proved of a small copy, or why it is none.
SmallOutcome = ReadBack | CopyDiffersError | OSError


class StagingSlot(Protocol):
    """A file on its way to our disk; every call may block.

    After an OSError of sync or seal the content is lost and the slot takes nothing more: a second
    sync would succeed without having written anything. Discard it, and copy into a new one.
    """

    @property
    def stored_bytes(self) -> int:
        """How much it holds; the next chunk goes there."""

    def stored(self, *, offset_bytes: int) -> Iterator[bytes | memoryview]:
        """Read back what it holds, from *offset_bytes* on; a chunk holds until the next one."""

    def append(self, chunk: bytes | memoryview) -> None:
        """Write *chunk* at the end; durable after the next sync only."""

    def sync(self) -> None:
        """Make all that was appended durable."""

    def sync_behind(self, then: Callable[[], None]) -> None:
        """Make all that was appended so far durable while more is appended, then call *then*.

        It is called in any thread, once, before seal, sync or close returns; never if that failed,
        which the next call but close and discard tells.
        """

    def restart(self) -> None:
        """Throw away what it holds, and begin anew in another file."""

    def seal(self, *, sha256: str, read_back: bool) -> ReadBack:
        """Make the copy durable under its file's id, and read it back first if asked to.

        Args:
            sha256: Of what was appended, 64 hex digits.
            read_back: Whether to read it back, from the disk as far as that can be had.

        Raises:
            CopyDiffersError: Read back, it is something else. Discard it.
            OSError: Our disk failed.
        """

    def close(self) -> None:
        """Keep what was synced for a later docking; harmless after seal or discard."""

    def discard(self) -> None:
        """Throw away what it holds."""


class Staging(Protocol):
    """Where slots are, and the sealed copies; every call may block."""

    def create(self, file_id: FileId, *, size_bytes: int) -> StagingSlot:
        """Return an empty slot; what an unfinished copy of that id left behind is thrown away.

        Args:
            file_id: Of a file that is not staged.
            size_bytes: Room to reserve.

        Raises:
            OSError: Our disk failed; with ENOSPC there is no room.
        """

    def reopen(self, file_id: FileId, *, size_bytes: int, stored_bytes: int) -> StagingSlot:
        """Return the slot of an unfinished copy, holding its first *stored_bytes*.

        Raises:
            FileNotFoundError: There is none, or it does not hold as much.
            OSError: Our disk failed; with ENOSPC there is no room for *size_bytes*.
        """

    def stage_together(
        self, copies: Sequence[SmallCopy], *, read_back: bool
    ) -> tuple[SmallOutcome, ...]:
        """Make small copies durable under their ids, as `StagingSlot.seal` does each by itself.

        Returns:
            What became of each, in their order. After an error nothing is promised of that one, not
            even that it is gone: the next copy under its id clears it away.
        """

    def open(self, file_id: FileId) -> BinaryIO:
        """Open a sealed copy for reading.

        Raises:
            FileNotFoundError: There is none.
        """

    def remove(self, file_id: FileId) -> None:
        """Free a copy, sealed or not, durably; harmless if there is none."""

    def sweep(self, known_file_ids: Collection[FileId]) -> tuple[str, ...]:
        """Clear away what no journal row names, and return what that was; while nobody copies.

        Unfinished copies are removed. Sealed ones are footage that another journal knew: they are
        put aside, and nothing deletes them.
        """

    def free_bytes(self) -> int:
        """Return how much more may be staged."""

    def free_files(self) -> int:
        """Return how many more files there may be, whatever their size."""
