"""What one docking needs from the world, and what it gives back."""

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, unique
from typing import Final, Protocol

from edge_agent.allotments import Allotments
from edge_agent.ingest.copying import CHECKPOINT_BYTES
from edge_agent.ingest.division import PIECE_FILES
from edge_agent.ingest.files import Device, FileId, FileKey, FileRow
from edge_agent.ingest.listing import Limits
from edge_agent.ingest.profile import Profile
from edge_agent.ingest.room import Need
from edge_agent.ingest.told import Told
from edge_agent.manifest.sealing import SealedManifest
from edge_agent.staging.salvaged import SalvageStaging
from edge_agent.staging.slot import Staging
from protocol.chain import ChainHead
from protocol.digest import Digests
from protocol.findings import Finding
from protocol.identifiers import (
    BayNumber,
    DockId,
    DockingId,
    ManifestId,
    OfficerId,
)
from protocol.keys import SigningKey
from protocol.manifest import ByteRange, EvidenceLevel, Isolation, RecorderFacts, WatchedLog
from protocol.registry import RecorderEntry

# Our own disk, as what keeps a bay from going on; the OSError itself is never wrapped.
NO_ROOM: Final = "E-STG-301"
DISK_FAULT: Final = "E-STG-303"

# Above, the bytes of a file cost more than its syncs.
SMALL_BYTES: Final = 256 * 1024
# What is left is kept for what officers marked: the rest waits.
WAITS_FOR_ROOM: Final = "E-STG-306"
# Nothing can be written at all.
DISK_REFUSES: Final = "E-STG-307"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenDocking:
    """A docking that was begun.

    Attributes:
        docked_at_ms: Unix time.
        told: By the recorder, before it became a disk; None without a talk.
    """

    docking_id: DockingId
    bay: BayNumber
    recorder: RecorderFacts
    officer: OfficerId | None
    docked_at_ms: int
    told: Told | None = None

    @property
    def device(self) -> Device:
        """Whose files these are, whatever the site calls it."""
        return Device(model=self.recorder.model, serial=self.recorder.serial)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCopy:
    """A file that is going to be read for the first time."""

    file_id: FileId
    key: FileKey
    marked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedCopy:
    """A copy that is sealed in staging."""

    file_id: FileId
    digests: Digests
    evidence: EvidenceLevel
    fingerprint: str


class DockingJournal(Protocol):
    """The journal as a docking sees it; see edge_agent.adapters.journal for each contract."""

    async def open_docking(self, docking: OpenDocking) -> None:
        """Note that a recorder is being read; RecorderBusyError if it is already."""

    async def open_dockings(self) -> tuple[OpenDocking, ...]:
        """Return the dockings that were begun and not sealed."""

    async def unclaimed_keys(self, device: Device) -> tuple[FileKey, ...]:
        """Return which files of a recorder were begun and are claimed by no manifest yet."""

    async def files_at(self, device: Device, paths: Collection[bytes]) -> tuple[FileRow, ...]:
        """Return what was ever begun of a recorder's files at some paths."""

    async def files_of(self, device: Device, sha256s: Collection[str]) -> tuple[FileRow, ...]:
        """Return the files of a recorder that have one of some contents."""

    async def find_content(self, device: Device, sha256: str) -> FileRow | None:
        """Return the file of a recorder that stands for a content."""

    async def known_contents(self, device: Device, sha256s: Collection[str]) -> frozenset[str]:
        """Return which contents of a recorder a file stands for already."""

    async def begin_copies(
        self, docking_id: DockingId, device: Device, copies: Sequence[NewCopy]
    ) -> None:
        """Note all files that a docking is going to read."""

    async def checkpoint(
        self, file_id: FileId, *, verified_bytes: int, prefix_sha256: str | None
    ) -> None:
        """Note how much of a copy is durable."""

    async def salvaged(self, file_id: FileId, ranges: Sequence[ByteRange]) -> None:
        """Note all that is durable of an unfinished file beyond what could not be read."""

    async def staged(
        self, file_id: FileId, *, digests: Digests, evidence: EvidenceLevel, fingerprint: str
    ) -> None:
        """Note that a copy is sealed in staging."""

    async def staged_together(self, copies: Sequence[StagedCopy]) -> None:
        """Note that copies are sealed in staging, all or none."""

    async def duplicate(self, file_id: FileId, *, same_as: FileId) -> None:
        """Note that a file's content is another file's."""

    async def drop_copies(self, file_ids: Iterable[FileId]) -> None:
        """Forget copies that will not be finished."""

    async def seal(
        self,
        docking_id: DockingId,
        build: Callable[[ChainHead, int], Iterable[SealedManifest]],
        *,
        ended_at_ms: int | None,
        lost: Sequence[FileId] = (),
    ) -> tuple[ManifestId, ...]:
        """Note manifests of a docking, and its end if there is one, all or nothing."""


def _nothing() -> None:
    """Tell nobody."""


def _nothing_seen() -> None:
    """Without an archive there is no log."""


def _not_enforced() -> Isolation:
    """Without a guard nobody knows."""
    return Isolation.NOT_ENFORCED


class FindRecorder(Protocol):
    """Looks a recorder up in the site's registry, as Registry.find_recorder does."""

    def __call__(self, *, model: str, serial: str) -> RecorderEntry | None:
        """Return the recorder that names itself so, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DockingPorts:
    """The world as every docking of a dock sees it.

    Attributes:
        salvaging: Where parts of files are kept that cannot be read whole.
        clock: The time, aware.
        monotonic_s: For rates, and how long a bad card takes; may be called in a thread.
        mint: A new UUIDv7 each time.
        read_turn: Held while one file, or one batch of small ones, is read: recorders behind one
            USB upstream share its rate, and more is whole at any time if they take turns.
        live: Dockings that this process is busy with; one that is open in the journal and not
            here was cut short.
        allotments: The room on our disk that they were given.
        on_sealed: Called when a docking that goes on has put manifests into the outbox.
        isolation: How the dock stands with the no-internet rule; one that was broken while a
            recorder was read says so when its manifest is sealed.
        watched_log: What the dock saw last of the archive's custody log.
    """

    journal: DockingJournal
    staging: Staging
    salvaging: SalvageStaging
    find_recorder: FindRecorder
    clock: Callable[[], datetime]
    monotonic_s: Callable[[], float]
    mint: Callable[[], str]
    read_turn: AbstractAsyncContextManager[object] = field(default_factory=nullcontext)
    live: set[DockingId] = field(default_factory=set)
    allotments: Allotments = field(default_factory=Allotments)
    on_sealed: Callable[[], None] = _nothing
    isolation: Callable[[], Isolation] = _not_enforced
    watched_log: Callable[[], WatchedLog | None] = _nothing_seen


@dataclass(frozen=True, slots=True, kw_only=True)
class DockingSettings:
    """What is the same for every docking of a dock.

    Attributes:
        agent: Name and version of this program.
        key: Signs the manifests.
        profiles: In the order in which they are tried.
        small_bytes: Files up to this size are staged many at a time; 0 for each by itself.
        piece_files: A recorder with more is gone through in pieces, each sealed by itself.
        only_marked: Others have waited longer for room: nothing else is taken.
    """

    dock: DockId
    agent: str
    key: SigningKey
    profiles: tuple[Profile, ...]
    evidence_level: EvidenceLevel = EvidenceLevel.L2
    with_sm3: bool = False
    checkpoint_bytes: int = CHECKPOINT_BYTES
    small_bytes: int = SMALL_BYTES
    limits: Limits = field(default_factory=Limits)
    piece_files: int = PIECE_FILES
    only_marked: bool = False


@unique
class OutcomeKind(Enum):
    """How a docking ended, as the bay is told."""

    SEALED = "sealed"
    REFUSED = "refused"
    ATTENTION = "attention"
    LEFT = "left"


@dataclass(frozen=True, slots=True, kw_only=True)
class DockingOutcome:
    """How a docking ended.

    Whatever the kind, what could be sealed was. SEALED: the recorder was read whole. LEFT: it was
    gone before that. ATTENTION: it was not read whole, and a person must see why. REFUSED: it was
    not read.

    Attributes:
        code: Of REFUSED and ATTENTION: an E-code or F-code.
        text: The same in English, with what the recorder says shown by repr.
        docking_id: None if the docking was not begun.
        manifest_ids: In the order of the chain.
        known_manifest_ids: Earlier manifests that claim files which are still on the recorder:
            their receipts are needed as well before it may be released.
        incomplete_files: How many files are not claimed and should be.
        findings: The first of this docking; all of them are in its manifests.
        findings_total: How many there are.
        disk_faults: What our disk said, where a second try succeeded.
        lacking_bytes: How much more room would have let everything in.
        waits_for: What is taken next when there is room for it.
    """

    kind: OutcomeKind
    code: str | None = None
    text: str = ""
    docking_id: DockingId | None = None
    recorder: RecorderFacts | None = None
    officer: OfficerId | None = None
    manifest_ids: tuple[ManifestId, ...] = ()
    known_manifest_ids: frozenset[ManifestId] = frozenset()
    incomplete_files: int = 0
    findings: tuple[Finding, ...] = ()
    findings_total: int = 0
    disk_faults: tuple[str, ...] = ()
    lacking_bytes: int = 0
    waits_for: Need | None = None
