"""A dock's ingest side: real journal, real signatures, and a clock that one can set."""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, cast
from zoneinfo import ZoneInfo

from edge_agent.adapters.journal import Journal
from edge_agent.allotments import Allotments
from edge_agent.docking import run_docking
from edge_agent.ingest.division import PIECE_FILES
from edge_agent.ingest.profile import Profile, parse_profile
from edge_agent.ingest.progress import BayProgress
from edge_agent.ingest.told import Told
from edge_agent.ingest.volume import Volume
from edge_agent.interrupted import close_interrupted_dockings
from edge_agent.ports import DockingJournal, DockingOutcome, DockingPorts, DockingSettings
from edge_agent.staging.salvaged import SalvageStaging
from edge_agent.staging.slot import Staging
from protocol.chain import GENESIS, Link, judge
from protocol.digest import sha256_hex
from protocol.envelope import keyring, parse_statement, take_apart
from protocol.identifiers import BayNumber, DockingId, OfficerId, RecorderId, mint_uuid7
from protocol.manifest import EvidenceLevel, Manifest, contradictions
from protocol.registry import RecorderEntry, Registry
from protocol.versions import Statement
from tests.simulators.killing_journal import KillingJournal
from tests.simulators.memory_salvage import MemorySalvage
from tests.simulators.memory_staging import MemoryStaging
from tests.simulators.memory_volume import Stored
from tests.simulators.sealed_manifests import DOCK, DOCK_KEY

ZONE: Final = ZoneInfo("Asia/Shanghai")
DOCKED_AT: Final = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
BAY: Final = BayNumber(1)
_PROFILES: Final = Path(__file__).parents[2] / "profiles"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def recorder_time(
    year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0
) -> datetime:
    """Return a time as a recorder's clock shows it."""
    return datetime(year, month, day, hour, minute, second)  # noqa: DTZ001 - it has no zone


MORNING: Final = recorder_time(2026, 11, 21, 8, 30, 12)

REGISTRY: Final = Registry(
    version=1,
    issued_at=DOCKED_AT,
    recorders=(
        RecorderEntry(
            recorder=RecorderId("R-0001"),
            make="DSJ",
            model="DSJ-A8",
            serial="0000017",
            officer=OfficerId("012345"),
        ),
        RecorderEntry(recorder=RecorderId("R-0002"), make="DSJ", model="DSJ-A8", serial="0000018"),
    ),
)


def load_profile(name: str) -> Profile:
    return parse_profile((_PROFILES / f"{name}.toml").read_text("utf-8"), source=name)


PROFILES: Final = tuple(map(load_profile, ("dsj-a8", "dsj-v2", "generic")))


def mtime_ns(local: datetime) -> int:
    """Return a time of the recorder's zone as a file's time."""
    return (local.replace(tzinfo=ZONE) - _EPOCH) // timedelta(microseconds=1) * 1_000


def clip_path(
    started: datetime,
    sequence: int,
    *,
    serial: str = "0000017",
    officer: str = "012345",
    mark: str = "",
    extension: str = "MP4",
) -> bytes:
    """Return the path of a DSJ-A8's clip."""
    name = f"{officer}_{serial}_{started:%Y%m%d%H%M%S}_{sequence:04d}{mark}.{extension}"
    return f"DCIM/100MEDIA/{name}".encode()


def noise(path: bytes, size_bytes: int) -> bytes:
    """Return bytes that belong to this path alone."""
    return hashlib.shake_256(path).digest(size_bytes)


def recording(
    started: datetime = MORNING,
    *,
    clips: int = 1,
    first: int = 1,
    size_bytes: int = 1_000,
    serial: str = "0000017",
) -> dict[bytes, Stored]:
    """Return contiguous clips of 12 s each, as files of a MemoryVolume."""
    files = {}
    for number in range(first, first + clips):
        path = clip_path(started, number, serial=serial)
        started += timedelta(seconds=12)
        files[path] = Stored(content=noise(path, size_bytes), mtime_ns=mtime_ns(started))
    return files


@dataclass(kw_only=True)
class DockingSite:
    """One dock between two starts of its agent."""

    journal: Journal
    staging: Staging = field(default_factory=MemoryStaging)
    salvaging: SalvageStaging = field(default_factory=MemorySalvage)
    evidence_level: EvidenceLevel = EvidenceLevel.L2
    checkpoint_bytes: int = 16 << 20
    registry: Registry = REGISTRY
    now: datetime = DOCKED_AT
    monotonic_s: Callable[[], float] = lambda: 0.0
    reported: list[BayProgress] = field(default_factory=list)
    has_reported: asyncio.Event = field(default_factory=asyncio.Event)
    live: set[DockingId] = field(default_factory=set)
    allotments: Allotments = field(default_factory=Allotments)
    only_marked: bool = False
    small_bytes: int = 0
    piece_files: int = PIECE_FILES
    read_turn: AbstractAsyncContextManager[object] = field(default_factory=nullcontext)

    def __post_init__(self) -> None:
        self._journal_port: DockingJournal = self.journal

    @property
    def ports(self) -> DockingPorts:
        return DockingPorts(
            journal=self._journal_port,
            staging=self.staging,
            salvaging=self.salvaging,
            find_recorder=self.registry.find_recorder,
            clock=lambda: self.now,
            monotonic_s=self.monotonic_s,
            mint=lambda: mint_uuid7(unix_ms=1, entropy=os.urandom(10)),
            live=self.live,
            read_turn=self.read_turn,
            allotments=self.allotments,
        )

    @property
    def settings(self) -> DockingSettings:
        return DockingSettings(
            dock=DOCK,
            agent="bayward-test",
            key=DOCK_KEY,
            profiles=PROFILES,
            evidence_level=self.evidence_level,
            checkpoint_bytes=self.checkpoint_bytes,
            only_marked=self.only_marked,
            small_bytes=self.small_bytes,
            piece_files=self.piece_files,
        )

    async def dock(
        self, volume: Volume, bay: int = BAY, *, told: Told | None = None
    ) -> DockingOutcome:
        return await self.dock_with(self.ports, volume, bay, told=told)

    async def dock_with(
        self, ports: DockingPorts, volume: Volume, bay: int = BAY, *, told: Told | None = None
    ) -> DockingOutcome:
        return await run_docking(
            volume,
            bay=BayNumber(bay),
            ports=ports,
            settings=self.settings,
            report=self._report,
            told=told,
        )

    async def start(self) -> tuple[DockingOutcome, ...]:
        """Do what an agent does when it starts."""
        known = await self.journal.staging_files()
        self.staging.sweep(known)
        self.salvaging.sweep(await self.journal.salvaged_files(), known)
        return await self.close_interrupted()

    async def close_interrupted(self) -> tuple[DockingOutcome, ...]:
        """Close what the last run left open."""
        return await close_interrupted_dockings(self.ports, self.settings)

    def use_journal(self, journal: DockingJournal) -> None:
        """Let dockings speak to something that stands before the journal."""
        self._journal_port = journal

    def kill_at_call(self, number: int, *, after: bool, only: str | None = None) -> None:
        """Let the program end at that call to its journal, before or after its effect."""
        killing = KillingJournal(self.journal, number, after=after, only=only)
        self.use_journal(cast("DockingJournal", killing))

    def live_again(self) -> None:
        """Take back kill_at_call."""
        self._journal_port = self.journal

    def _report(self, progress: BayProgress) -> None:
        self.reported.append(progress)
        self.has_reported.set()

    async def manifests(self) -> list[Manifest]:
        """Return all manifests, verified, in order, each checked against itself and the chain."""
        async with self.journal.transaction() as connection:
            rows = list(
                await connection.execute_fetchall(
                    "SELECT sequence, payload_sha256, envelope FROM manifest ORDER BY sequence"
                )
            )
        found: list[Manifest] = []
        head = GENESIS
        for sequence, payload_sha256, envelope in rows:
            sealed = take_apart(envelope)
            sealed.verify(keyring(DOCK_KEY.public))
            manifest = parse_statement(sealed, Statement.MANIFEST, Manifest)
            assert sha256_hex(sealed.payload) == payload_sha256
            assert manifest.sequence == sequence
            assert not contradictions(manifest)
            link = judge(
                head,
                sequence=sequence,
                previous_sha256=manifest.previous_sha256,
                payload_sha256=payload_sha256,
                recorded_sha256=None,
            )
            assert link is Link.NEXT
            head = type(head)(sequence=sequence, payload_sha256=payload_sha256)
            found.append(manifest)
        return found


@contextlib.asynccontextmanager
async def open_site(path: Path, staging: Staging | None = None) -> AsyncIterator[DockingSite]:
    """Open the dock whose journal is at *path*."""
    async with Journal.open(path) as journal:
        yield DockingSite(journal=journal, staging=staging or MemoryStaging())


def claimed(manifests: list[Manifest]) -> dict[str, bytes]:
    """Return what the manifests claim: each digest, which must stand once, with its path."""
    found: dict[str, bytes] = {}
    for manifest in manifests:
        for file in manifest.staged_files():
            assert file.digests.sha256 not in found
            found[file.digests.sha256] = file.name.path.encode()
    return found
