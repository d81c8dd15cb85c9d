"""What the dock asks of a recorder's volume. Everything that comes back is untrusted."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum, unique
from typing import Final, Protocol

# More than any path of PATH_MAX bytes that a recorder writes; each level costs one look per folder.
MAX_DEPTH: Final = 256
_INT64_MAX: Final = (1 << 63) - 1


@unique
class EntryKind(Enum):
    """What an entry is, without following or opening it; UNREADABLE if that cannot be told."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    SPECIAL = "special"
    UNREADABLE = "unreadable"
    UNREADABLE_DIRECTORY = "unreadable_directory"
    TOO_DEEP = "too_deep"


@dataclass(frozen=True, slots=True, kw_only=True)
class RawEntry:
    """One entry of the listing.

    Attributes:
        path: Relative to the volume, exact bytes, "/" between components.
        size_bytes: 0 for anything but a file.
        mtime_ns: Since 1970 UTC, as a signed 64-bit number: see clamp_mtime.
        node: What the name leads to, of a folder and of a file that has one name; None where that
            is not known. Two names with the same one are not two things: in a damaged FAT one may
            hide behind another.
    """

    path: bytes
    kind: EntryKind
    size_bytes: int = 0
    mtime_ns: int = 0
    node: tuple[int, int] | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What changes when a file is written; *changed_ns* only where the file system keeps it."""

    size_bytes: int
    mtime_ns: int
    changed_ns: int = 0


class SourceFile(Protocol):
    """A file on the recorder, open for reading."""

    @property
    def size_bytes(self) -> int:
        """Its size now, which may not be what the listing said."""

    @property
    def mtime_ns(self) -> int:
        """When it was last written, as in RawEntry."""

    def stamp(self) -> Stamp:
        """Return its size and times as they are at this moment.

        Raises:
            SourceVanishedError: The recorder left.
            SourceUnreadableError: They cannot be read.
        """

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Return a small part; less of it where the file ends before.

        Raises:
            SourceVanishedError: The recorder left.
            SourceUnreadableError: This part cannot be read.
        """

    def chunks(self, *, offset_bytes: int) -> Iterator[bytes | memoryview]:
        """Read from *offset_bytes* to the end, in file order, >= 1 byte each time.

        A chunk holds until the next one is asked for. May be called again: that reads the recorder
        again, as far as the machine allows.

        Raises:
            SourceVanishedError: The recorder left.
            SourceUnreadableError: This part cannot be read.
        """


class Volume(Protocol):
    """A recorder's volume. Every call may block, and raises SourceVanishedError once it left."""

    def entries(self) -> Iterator[RawEntry]:
        """List everything, folders before what is in them, in any order; nothing is followed.

        A folder deeper than MAX_DEPTH is TOO_DEEP and is not entered.
        """

    def read_small(self, path: bytes, *, max_bytes: int) -> bytes:
        """Return the whole of a small file.

        Raises:
            SourceUnreadableError: It is none, is longer, or cannot be read.
        """

    def open(self, path: bytes) -> AbstractContextManager[SourceFile]:
        """Open a file of the listing; links and special files are never opened.

        Raises:
            SourceUnreadableError: There is no regular file of that path any more.
        """


def clamp_mtime(mtime_ns: int) -> int:
    """Return the nearest time that the journal and a manifest can hold: 1677 to 2262."""
    return max(-_INT64_MAX, min(mtime_ns, _INT64_MAX))
