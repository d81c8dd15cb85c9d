"""A dock on a disk that loses power, what its journal acknowledged, and whether that is there.

`losses` and `strays` look at the disk with SQLite and hashlib alone: none of the product's code is
asked whether the product has kept its word.
"""

import contextlib
import functools
import hashlib
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from edge_agent.adapters.freeing import Freeing
from edge_agent.adapters.journal import Journal
from edge_agent.adapters.notice_store import NoticeStore
from edge_agent.adapters.outbox_store import OutboxStore
from edge_agent.adapters.pulse import Pulse
from edge_agent.adapters.salvage_disk import SalvageDisk
from edge_agent.adapters.staging_disk import StagingDisk
from edge_agent.adapters.staging_way import Way
from edge_agent.adapters.storage_check import clear_staging, pair_storage
from edge_agent.ingest.division import PIECE_FILES
from edge_agent.ports import DockingJournal, DockingOutcome
from protocol.envelope import keyring
from protocol.manifest import EvidenceLevel
from protocol.topics import Channel, of_dock
from tests.simulators.docking_site import DOCKED_AT, DockingSite
from tests.simulators.faultfs.mount import FaultDisk
from tests.simulators.memory_volume import MemoryVolume
from tests.simulators.sealed_manifests import ARCHIVE_KEY, DOCK

# A docking of a few tens of KiB goes through several checkpoints.
CHUNK_BYTES: Final = 16 * 1024
# What a program hears from a disk without power.
POWER_FAILURES: Final = (OSError, sqlite3.Error)
_FOLDERS: Final = frozenset({"partial", "files", "salvaged", "orphaned"})
_NEEDED: Final = ("staged", "claimed")


@dataclass(slots=True, kw_only=True)
class Acknowledged:
    """What the journal's callers were told is durable, and rely on from then on.

    Attributes:
        verified: Of unfinished copies, by file id: how many bytes.
        salvaged: Likewise: parts beyond what could not be read, as offset and size.
        staged: Of sealed copies, by file id: the SHA-256.
        manifests: Envelopes, by their number in the chain.
    """

    verified: dict[str, int] = field(default_factory=dict)
    salvaged: dict[str, set[tuple[int, int]]] = field(default_factory=dict)
    staged: dict[str, str] = field(default_factory=dict)
    manifests: dict[int, bytes] = field(default_factory=dict)


class ListeningJournal:
    """Passes calls on to *journal*, and notes what those that came back have acknowledged."""

    def __init__(self, journal: Journal, told: Acknowledged) -> None:
        self._journal = journal
        self._told = told
        # The last call about a file: of calls under way at once, it alone says what is noted.
        self._last: dict[object, object] = {}

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        call = getattr(self._journal, name)

        @functools.wraps(call)
        async def passed_on(*values: Any, **named: Any) -> Any:
            self._doubt(name, *values)
            about = next(iter(values), None) if name == "checkpoint" else None
            this = self._last[about] = object()
            answer = await call(*values, **named)
            if name != "checkpoint" or self._last[about] is this:
                self._note(name, *values, **named)
            if name == "seal":
                await self._note_manifests()
            return answer

        return passed_on

    def _doubt(self, name: str, *values: Any) -> None:
        """Until a change is acknowledged, neither what was nor what comes is sure."""
        if name in {"checkpoint", "staged", "duplicate"}:
            self._told.verified.pop(values[0], None)
        if name in {"salvaged", "staged", "duplicate"}:
            self._told.salvaged.pop(values[0], None)

    async def _note_manifests(self) -> None:
        async with self._journal.transaction() as connection:
            rows = await connection.execute_fetchall("SELECT sequence, envelope FROM manifest")
        self._told.manifests |= {int(sequence): bytes(envelope) for sequence, envelope in rows}

    def _note(self, name: str, *values: Any, **named: Any) -> None:
        told = self._told
        match name:
            case "checkpoint":
                told.verified[values[0]] = named["verified_bytes"]
            case "salvaged":
                told.salvaged[values[0]] = {
                    (part.offset_bytes, part.size_bytes) for part in values[1]
                }
            case "staged":
                told.staged[values[0]] = named["digests"].sha256
            case "staged_together":
                told.staged |= {one.file_id: one.digests.sha256 for one in values[0]}


@dataclass(slots=True, kw_only=True)
class FaultyDock:
    """A dock whose journal and staging are on *disk*, and the recorder that is docked.

    Attributes:
        volume: The recorder.
        told: What was acknowledged, over all starts.
        outcomes: How the dockings ended that did not end with the power.
    """

    disk: FaultDisk
    volume: MemoryVolume
    evidence_level: EvidenceLevel = EvidenceLevel.L2
    checkpoint_bytes: int = CHUNK_BYTES
    small_bytes: int = 0
    piece_files: int = PIECE_FILES
    told: Acknowledged = field(default_factory=Acknowledged)
    outcomes: list[DockingOutcome] = field(default_factory=list)

    @property
    def staging(self) -> Path:
        return self.disk.root / "staging"

    @property
    def journal(self) -> Path:
        return self.disk.root / "journal.sqlite"

    async def run(self) -> bool:
        """Start as the agent does, and dock the recorder once; return False if the power went.

        Raises:
            OSError, sqlite3.Error: The disk has power, and stopped the dock all the same.
        """
        try:
            await self._start_and_dock()
        except POWER_FAILURES:
            if not self.disk.is_down:
                raise
            return False
        return not self.disk.is_down

    async def free(self, receipts: Iterable[bytes]) -> bool:
        """Start, take receipts, and free what may be freed; return False if the power went.

        Raises:
            OSError, sqlite3.Error: As `run`.
        """
        try:
            await self._take_and_free(receipts)
        except POWER_FAILURES:
            if not self.disk.is_down:
                raise
            return False
        return not self.disk.is_down

    async def _take_and_free(self, receipts: Iterable[bytes]) -> None:
        async with self._started() as (journal, staging, _):
            notices = NoticeStore(journal, dock=DOCK, clock=lambda: DOCKED_AT)
            store = OutboxStore(
                journal,
                notices,
                dock=DOCK,
                archive_keys=keyring(ARCHIVE_KEY.public),
                clock=lambda: DOCKED_AT,
            )
            for receipt in receipts:
                await store.take_answer(of_dock(DOCK, Channel.RECEIPTS), receipt)
            with contextlib.suppress(_NothingToFreeError):
                await Freeing(store, staging, _LastPulse()).run()

    @contextlib.asynccontextmanager
    async def _started(self) -> AsyncIterator[tuple[Journal, StagingDisk, SalvageDisk]]:
        """Open what an agent opens, and put it in order as it does."""
        # As the agent does it, with a way that needs no measuring.
        staging = StagingDisk(self.staging, reserve_bytes=0, way=Way(reads_back_early=True))
        async with Journal.open(self.journal) as journal:
            await pair_storage(journal, staging)
            salvaging = SalvageDisk(self.staging)
            notices = NoticeStore(journal, dock=DOCK, clock=lambda: DOCKED_AT)
            await clear_staging(journal, staging, salvaging, notices)
            yield journal, staging, salvaging

    async def _start_and_dock(self) -> None:
        async with self._started() as (journal, staging, salvaging):
            site = DockingSite(
                journal=journal,
                staging=staging,
                salvaging=salvaging,
                evidence_level=self.evidence_level,
                checkpoint_bytes=self.checkpoint_bytes,
                small_bytes=self.small_bytes,
                piece_files=self.piece_files,
            )
            listening = ListeningJournal(journal, self.told)
            site.use_journal(cast("DockingJournal", listening))
            await site.close_interrupted()
            self.outcomes.append(await site.dock(self.volume))

    def restart(self) -> None:
        """Give the power back."""
        self.disk.restart()

    def losses(self) -> list[str]:
        """Return what was acknowledged, or stands in the journal, and is not on the disk."""
        if not self.journal.exists():
            told = self.told
            return ["the journal"] if told.verified or told.staged or told.manifests else []
        with self._reading() as journal:
            return [
                *self._lost_rows(journal),
                *self._lost_bytes(journal),
                *self._lost_parts(journal),
                *_freed_too_early(journal),
            ]

    def strays(self) -> list[str]:
        """Return what is in staging and not what the journal says, and what is twice or missing.

        Only when nothing was cut short: then each content of the recorder that was not freed is
        staged once, and nothing else is there.
        """
        with self._reading() as journal:
            rows = journal.execute(
                "SELECT file_id, path, state FROM file WHERE same_as IS NULL"
            ).fetchall()
        kept = {f"files/{file_id}" for file_id, _, state in rows if state != "freed"}
        freed = {bytes(path) for _, path, state in rows if state == "freed"}
        expected = kept | {"journal-number"} | _FOLDERS
        found = {str(path.relative_to(self.staging)) for path in self.staging.rglob("*")}
        held = {_sha256(stored.content) for stored in self.volume.files.values()}
        held -= {_sha256(self.volume.files[path].content) for path in freed}
        stored = [_sha256(path.read_bytes()) for path in (self.staging / "files").iterdir()]
        missing = [] if sorted(held) == sorted(stored) else [f"stored: {stored}, held: {held}"]
        return [*sorted(found ^ expected), *missing]

    def _lost_rows(self, journal: sqlite3.Connection) -> Iterator[str]:
        verified = dict(
            journal.execute("SELECT file_id, verified_bytes FROM file WHERE state = 'copying'")
        )
        sealed = dict(journal.execute("SELECT file_id, sha256 FROM file WHERE state <> 'copying'"))
        manifests = dict(journal.execute("SELECT sequence, envelope FROM manifest"))
        for file_id, size_bytes in self.told.verified.items():
            if file_id not in sealed and verified.get(file_id) != size_bytes:
                yield f"{file_id}: {size_bytes} bytes were noted, now {verified.get(file_id)}"
        for file_id, sha256 in self.told.staged.items():
            if sealed.get(file_id) != sha256:
                yield f"{file_id}: was noted as staged, now {sealed.get(file_id)}"
        for sequence, envelope in self.told.manifests.items():
            if manifests.get(sequence) != envelope:
                yield f"manifest {sequence}: was handed out"

    def _lost_bytes(self, journal: sqlite3.Connection) -> Iterator[str]:
        rows = journal.execute(
            "SELECT file_id, path, state, verified_bytes, prefix_sha256, sha256 FROM file"
            " WHERE same_as IS NULL AND state IN ('copying', 'staged', 'claimed')"
        )
        for file_id, path, state, verified_bytes, prefix_sha256, sha256 in rows:
            original = self.volume.files[bytes(path)].content
            sealed = state in _NEEDED
            size_bytes = len(original) if sealed else verified_bytes
            # A copy that was sealed, and whose row did not survive, goes on from where it is.
            folders = ("files",) if sealed else ("partial", "files")
            paths = [self.staging / folder / file_id for folder in folders]
            stored = next((path.read_bytes() for path in paths if path.exists()), b"")[:size_bytes]
            if stored != original[:size_bytes]:
                yield f"{file_id}: {state}, {size_bytes} bytes in the journal, {len(stored)} here"
            if size_bytes and _sha256(stored) != (sha256 if sealed else prefix_sha256):
                yield f"{file_id}: {state}, another digest in the journal"

    def _lost_parts(self, journal: sqlite3.Connection) -> Iterator[str]:
        rows = journal.execute(
            "SELECT file_id, path, offset_bytes, part.size_bytes, part.sha256"
            " FROM salvaged_range AS part JOIN file USING (file_id)"
        ).fetchall()
        noted = {(file_id, offset, size) for file_id, _, offset, size, _ in rows}
        for file_id, parts in self.told.salvaged.items():
            for offset, size in parts - {part[1:] for part in noted if part[0] == file_id}:
                yield f"{file_id}: {size} bytes at {offset} were noted as salvaged"
        for file_id, path, offset, size, sha256 in rows:
            original = self.volume.files[bytes(path)].content[offset : offset + size]
            stored = b""
            if (self.staging / "salvaged" / file_id).exists():
                content = (self.staging / "salvaged" / file_id).read_bytes()
                stored = content[offset : offset + size]
            if stored != original or _sha256(stored) != sha256:
                yield f"{file_id}: salvaged, {size} bytes at {offset}"

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Read a copy of the journal: looking must not change what is looked at."""
        with tempfile.TemporaryDirectory() as folder:
            for path in self.disk.root.glob("journal.sqlite*"):
                if not path.name.endswith("-shm"):
                    shutil.copyfile(path, Path(folder) / path.name)
            with contextlib.closing(sqlite3.connect(Path(folder) / self.journal.name)) as journal:
                if not journal.execute(
                    "SELECT 1 FROM sqlite_schema WHERE name = 'file'"
                ).fetchall():
                    journal.executescript(
                        "CREATE TABLE file (file_id, path, state, verified_bytes, prefix_sha256,"
                        " sha256, same_as, manifest_id);"
                        "CREATE TABLE manifest (sequence, envelope, manifest_id, receipt);"
                        "CREATE TABLE salvaged_range (file_id, offset_bytes, size_bytes, sha256)"
                    )
                yield journal


def _freed_too_early(journal: sqlite3.Connection) -> Iterator[str]:
    """A copy that may be gone, or is, without a receipt on the disk."""
    rows = journal.execute(
        "SELECT file_id, file.state FROM file LEFT JOIN manifest USING (manifest_id)"
        " WHERE file.state IN ('archived', 'freed') AND receipt IS NULL"
    )
    for file_id, state in rows:
        yield f"{file_id}: {state}, and there is no receipt"


class _NothingToFreeError(Exception):
    """All that may be freed is."""


class _LastPulse(Pulse):
    """No receipt follows."""

    async def beyond(self, beats: int) -> int:
        raise _NothingToFreeError(beats)


def place_of(path: str) -> str:
    """Return what a path is for: the journal's files by name, staging by folder."""
    place = path.split("/")[1] if path.startswith("staging/") else path
    # A small file is written beside its name, under a name of chance.
    return "journal-number" if place.startswith(".journal-number.") else place


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
