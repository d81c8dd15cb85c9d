"""From docking to sealed manifests, in a process of its own that measures itself; prints JSON.

The real docking code on the real staging disk and journal: `python -m bench.ingest --help`.
Measured is from the first look at the volumes until the last manifest is sealed, by when every
copy is synced, read back as its evidence level demands, and journalled.
"""

import argparse
import asyncio
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.figures import GIB, MIB, cpu_s, peak_memory_bytes
from bench.sources import Load, recorder, write_volumes
from demo.site import DOCK, PROFILES
from edge_agent.adapters.directory_volume import DirectoryVolume
from edge_agent.adapters.journal import Journal
from edge_agent.adapters.salvage_disk import SalvageDisk
from edge_agent.adapters.staging_disk import StagingDisk
from edge_agent.adapters.staging_way import choose_way
from edge_agent.adapters.vitals import AGENT
from edge_agent.config import load_profiles
from edge_agent.docking import run_docking
from edge_agent.ports import DockingOutcome, DockingPorts, DockingSettings, OutcomeKind
from protocol.identifiers import BayNumber, DockId, OfficerId, RecorderId, mint_uuid7
from protocol.keys import SigningKey
from protocol.manifest import EvidenceLevel
from protocol.registry import RecorderEntry, Registry
from runtime.logs import configure

_JOURNAL: Final = "journal.sqlite"
_EXAMPLES: Final = """\
examples:
  python -m bench.ingest --bays 8 --size-mib 256 --source /dev/shm/recorders --staging staging
  python -m bench.ingest --small 10000 --size-mib 0 --source /dev/shm/photos --staging staging

Recorders that stand below --source already are used as they are. --staging must be empty or not
there; it is emptied at the end unless --keep is given.
"""


class Ingested(msgspec.Struct, frozen=True, kw_only=True):
    """One measured ingest.

    Attributes:
        seconds: From docking to the last sealed manifest.
        cpu_s: Of this process meanwhile, user and system; the kernel's own threads are not in it.
        peak_bytes: The most memory this process ever held (VmHWM).
        evidence: How many files reached which evidence level.
    """

    bays: int
    level: str
    files: int
    total_bytes: int
    seconds: float
    cpu_s: float
    peak_bytes: int
    evidence: dict[str, int]

    @property
    def proved(self) -> bool:
        """Whether every file reached the level that was asked for."""
        return self.evidence == {self.level: self.files}


def main() -> int:
    """Measure one ingest and print it; 1 if not every file reached the level."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.ingest",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EXAMPLES,
    )
    parser.add_argument("--bays", type=int, default=1, help="recorders docked at once")
    parser.add_argument("--level", default="L2", choices=[one.value for one in EvidenceLevel])
    parser.add_argument("--size-mib", type=int, default=512, help="the clip of each recorder")
    parser.add_argument("--small", type=int, default=0, help="16 KiB files of each recorder")
    parser.add_argument("--source", type=Path, required=True, help="where recorders stand or go")
    parser.add_argument("--staging", type=Path, required=True, help="where the dock's files go")
    parser.add_argument("--keep", action="store_true", help="leave the dock's files there")
    asked = parser.parse_args()
    configure(json=False, level="info")  # to standard error: standard output is for the figures
    load = Load(bays=asked.bays, clip_bytes=asked.size_mib * MIB, photos=asked.small)
    volumes = sorted(asked.source.glob("bay-*")) or write_volumes(asked.source, load)
    if len(volumes) != load.bays:
        parser.error(f"{len(volumes)} recorders stand below {asked.source}, not {load.bays}")
    level = EvidenceLevel(asked.level)
    with (
        _dock_folder(asked.staging, keep=asked.keep) as root,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        found = runner.run(_measure(volumes, root, level))
    print(msgspec.json.format(msgspec.json.encode(_told(found))).decode())
    return 0 if found.proved else 1


@contextmanager
def _dock_folder(root: Path, *, keep: bool) -> Iterator[Path]:
    """Give a folder that is empty, and empty it afterwards."""
    root.mkdir(parents=True, exist_ok=True)
    if any(root.iterdir()):
        sys.exit(f"python -m bench.ingest: {root} is not empty")
    try:
        yield root
    finally:
        if not keep:
            shutil.rmtree(root)


def _told(found: Ingested) -> dict[str, object]:
    rates = {
        "bytes_s": found.total_bytes / found.seconds,
        "files_s": found.files / found.seconds,
        "cpu_s_per_gib": found.cpu_s * GIB / found.total_bytes,
    }
    return msgspec.structs.asdict(found) | rates


async def _measure(volumes: Sequence[Path], root: Path, level: EvidenceLevel) -> Ingested:
    async with Journal.open(root / _JOURNAL) as journal:
        ports, settings = _ports(journal, root, len(volumes), level), _settings(level)
        with ExitStack() as stack:
            mounted = [stack.enter_context(DirectoryVolume.mount(one)) for one in volumes]
            cpu_before_s, began_s = cpu_s(), time.perf_counter()
            async with asyncio.TaskGroup() as group:
                dockings = [
                    group.create_task(
                        run_docking(
                            volume,
                            bay=BayNumber(bay),
                            ports=ports,
                            settings=settings,
                            report=lambda _: None,
                        )
                    )
                    for bay, volume in enumerate(mounted, start=1)
                ]
            seconds, used_s = time.perf_counter() - began_s, cpu_s() - cpu_before_s
    for docking in dockings:
        _check(docking.result())
    claimed = _claimed(root / _JOURNAL)
    return Ingested(
        bays=len(volumes),
        level=level.value,
        files=sum(count for _, count, _ in claimed),
        total_bytes=sum(size_bytes for _, _, size_bytes in claimed),
        seconds=seconds,
        cpu_s=used_s,
        peak_bytes=peak_memory_bytes(os.getpid()),
        evidence={level: count for level, count, _ in claimed},
    )


def _ports(journal: Journal, root: Path, bays: int, level: EvidenceLevel) -> DockingPorts:
    staging = root / "staging"
    way = choose_way(staging, reads_back=level is not EvidenceLevel.L1, bays=bays)
    registry = Registry(
        version=1, issued_at=datetime.now(UTC), recorders=tuple(map(_entry, range(1, bays + 1)))
    )
    return DockingPorts(
        journal=journal,
        staging=StagingDisk(staging, way=way),
        salvaging=SalvageDisk(staging),
        find_recorder=registry.find_recorder,
        clock=lambda: datetime.now(UTC),
        monotonic_s=time.monotonic,
        mint=lambda: mint_uuid7(unix_ms=time.time_ns() // 1_000_000, entropy=os.urandom(10)),
    )


def _settings(level: EvidenceLevel) -> DockingSettings:
    return DockingSettings(
        dock=DockId(DOCK),
        agent=AGENT,
        key=SigningKey(Ed25519PrivateKey.generate()),
        profiles=load_profiles(PROFILES),
        evidence_level=level,
    )


def _entry(bay: int) -> RecorderEntry:
    who = recorder(bay)
    return RecorderEntry(
        recorder=RecorderId(who.recorder_id),
        make=who.make,
        model=who.model,
        serial=who.serial,
        officer=OfficerId(who.officer),
    )


def _check(outcome: DockingOutcome) -> None:
    if outcome.kind is not OutcomeKind.SEALED or outcome.incomplete_files or outcome.disk_faults:
        sys.exit(f"python -m bench.ingest: this was no clean docking: {outcome}")


def _claimed(journal: Path) -> list[tuple[str, int, int]]:
    """Return evidence level, number and bytes of the files that the manifests claim."""
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as connection:
        return list(
            connection.execute(
                "SELECT evidence, count(*), sum(size_bytes) FROM file WHERE state = 'claimed'"
                " GROUP BY evidence"
            )
        )


if __name__ == "__main__":
    sys.exit(main())
