"""What the dock knows about a recorder's files from earlier dockings."""

from dataclasses import dataclass
from enum import Enum, unique
from typing import NewType

from protocol.digest import Digests
from protocol.identifiers import DockingId, ManifestId
from protocol.manifest import ByteRange, EvidenceLevel

FileId = NewType("FileId", str)


@unique
class FileState(Enum):
    """How far a file came; the values are written to the journal, which says what they mean."""

    COPYING = "copying"
    STAGED = "staged"
    CLAIMED = "claimed"
    ARCHIVED = "archived"
    FREED = "freed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One recorder as it names itself; its number at the site is a label that may change."""

    model: str
    serial: str


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class FileKey:
    """What tells one file of a recorder from another one.

    Attributes:
        generation: Above 0 where an earlier file had the same path, size and time, and other
            bytes: a recorder whose clock begins anew writes the same names again.
    """

    path: bytes
    size_bytes: int
    mtime_ns: int
    generation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRow:
    """One file that was ever begun, as the journal has it.

    Attributes:
        docking_id: In which docking it was begun.
        verified_bytes: While copying: this many bytes are durable and hash to *prefix_sha256*.
        digests: From STAGED on.
        same_as: The file whose staged bytes are this file's content too.
        manifest_id: Which manifest claims it; there from CLAIMED on.
        fingerprint: Of what the recorder gave; from STAGED on. See edge_agent.ingest.recognising.
        lost: While copying: it left the recorder before it was whole, and a manifest said so.
        salvaged: While copying: what is held of it beyond what could not be read, by offset.
    """

    file_id: FileId
    key: FileKey
    docking_id: DockingId
    state: FileState
    verified_bytes: int = 0
    prefix_sha256: str | None = None
    digests: Digests | None = None
    evidence: EvidenceLevel | None = None
    marked: bool = False
    same_as: FileId | None = None
    manifest_id: ManifestId | None = None
    fingerprint: str | None = None
    lost: bool = False
    salvaged: tuple[ByteRange, ...] = ()

    @property
    def content_id(self) -> FileId:
        """The file that stands for this content: itself, or the one it is the same as."""
        return self.same_as or self.file_id

    @property
    def held_ranges(self) -> tuple[ByteRange, ...]:
        """While copying: all that is durable of it, by offset; the parts may overlap."""
        if not self.verified_bytes or self.prefix_sha256 is None:
            return self.salvaged
        beginning = ByteRange(
            offset_bytes=0, size_bytes=self.verified_bytes, sha256=self.prefix_sha256
        )
        first = max((beginning, *self.salvaged[:1]), key=_beginning_bytes)
        return (first, *(one for one in self.salvaged if one.offset_bytes))


def _beginning_bytes(part: ByteRange) -> int:
    return 0 if part.offset_bytes else part.size_bytes
