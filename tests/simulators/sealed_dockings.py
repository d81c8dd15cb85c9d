"""Dockings as they stand in a dock's journal once they are sealed, with their staged copies."""

from collections.abc import Sequence
from pathlib import Path

from edge_agent.adapters.journal import Journal
from edge_agent.ingest.files import Device, FileId, FileKey
from edge_agent.manifest import sealing
from edge_agent.ports import NewCopy, OpenDocking
from protocol.chain import ChainHead
from protocol.digest import Digests
from protocol.identifiers import BayNumber
from protocol.manifest import EvidenceLevel, StagedFile, exact_path
from tests.simulators.sealed_manifests import (
    RECORDER,
    SealedManifest,
    docking_id,
    seal_manifest,
    uuid7,
)

DEVICE = Device(model=RECORDER.model, serial=RECORDER.serial)
Recordings = Sequence[Sequence[bytes]]


class DockingMaker:
    """Seals dockings one after the other into one journal, as the real thing does.

    Attributes:
        sealed: Every manifest so far, by number.
    """

    def __init__(self, journal: Journal, staging: Path) -> None:
        self.sealed: dict[int, SealedManifest] = {}
        self._journal = journal
        self._files = staging / "files"
        self._dockings = 0
        self._file_count = 0

    def reopened(self, journal: Journal) -> None:
        """Go on with the same journal, as another process has opened it."""
        self._journal = journal

    async def seal(self, *parts: Recordings) -> list[SealedManifest]:
        """Seal one docking with a manifest for each part, each given as recordings' contents."""
        self._dockings += 1
        number = self._dockings
        await self._journal.open_docking(
            OpenDocking(
                docking_id=docking_id(number),
                bay=BayNumber(1),
                recorder=RECORDER,
                officer=None,
                docked_at_ms=0,
            )
        )
        made: list[SealedManifest] = []

        def build(head: ChainHead, _part: int) -> list[sealing.SealedManifest]:
            for part, recordings in enumerate(parts, start=1):
                last = made[-1].head if made else head
                made.append(
                    seal_manifest(
                        after=last,
                        recordings=recordings,
                        docking=number,
                        part=part,
                        last_part=part == len(parts),
                    )
                )
            return [
                sealing.SealedManifest(
                    manifest=one.manifest,
                    payload_sha256=one.payload_sha256,
                    envelope=one.envelope,
                    claims=tuple(ids[part][file.digests.sha256] for file in one.files),
                )
                for part, one in enumerate(made)
            ]

        plan = [seal_manifest(recordings=recordings, docking=number) for recordings in parts]
        ids = [await self._stage(number, one) for one in plan]
        await self._journal.seal(docking_id(number), build, ended_at_ms=0)
        self.sealed |= {one.manifest.sequence: one for one in made}
        return made

    async def _stage(self, number: int, plan: SealedManifest) -> dict[str, FileId]:
        ids: dict[str, FileId] = {}
        for file in plan.files:
            self._file_count += 1
            file_id = FileId(uuid7(5, self._file_count))
            (self._files / file_id).write_bytes(plan.contents[file.digests.sha256])
            copy = NewCopy(file_id=file_id, key=_key(file, self._file_count), marked=False)
            await self._journal.begin_copies(docking_id(number), DEVICE, [copy])
            await self._journal.staged(
                file_id,
                digests=Digests(sha256=file.digests.sha256),
                evidence=EvidenceLevel.L2,
                fingerprint=file.digests.sha256,
            )
            ids[file.digests.sha256] = file_id
        return ids


def _key(file: StagedFile, unlike: int) -> FileKey:
    return FileKey(path=exact_path(file.name), size_bytes=file.size_bytes, mtime_ns=unlike)
