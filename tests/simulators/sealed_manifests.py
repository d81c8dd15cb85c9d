"""Manifests as a dock seals them, signed for real, with the bytes that they promise."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol import strict_json
from protocol.chain import GENESIS, ChainHead
from protocol.digest import Digests, sha256_hex
from protocol.envelope import seal
from protocol.identifiers import BayNumber, DockId, DockingId, ManifestId, RecorderId, RecordingId
from protocol.keys import SigningKey
from protocol.manifest import (
    Clip,
    ClipKind,
    ClockFacts,
    DateBasis,
    EvidenceLevel,
    Isolation,
    Manifest,
    RecorderFacts,
    Recording,
    StagedFile,
    name_of,
)
from protocol.versions import Statement

DOCK: Final = DockId("dock-1")
NOW: Final = datetime(2026, 3, 5, 8, 0, tzinfo=UTC)
RECORDER: Final = RecorderFacts(
    recorder_id=RecorderId("R-0001"),
    make="DSJ",
    model="DSJ-A8",
    serial="0000001",
    profile="dsj-a8",
)


def signing_key(seed: int) -> SigningKey:
    """Return a key that is the same for the same *seed*."""
    from_seed = Ed25519PrivateKey.from_private_bytes(seed.to_bytes(32, "big"))
    return SigningKey(from_seed)


DOCK_KEY: Final = signing_key(1)
ARCHIVE_KEY: Final = signing_key(2)


def uuid7(kind: int, number: int) -> str:
    """Return an id that is the same for the same numbers."""
    return f"01900000-0000-7{kind:03x}-8000-{number:012x}"


def docking_id(number: int) -> DockingId:
    """Return the id of a docking by its number."""
    return DockingId(uuid7(2, number))


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedManifest:
    """A manifest with its envelope and the bytes it promises, by digest."""

    manifest: Manifest
    payload_sha256: str
    envelope: bytes
    contents: dict[str, bytes] = field(default_factory=dict)

    @property
    def files(self) -> tuple[StagedFile, ...]:
        """What it promises, in order."""
        return tuple(self.manifest.staged_files())

    @property
    def head(self) -> ChainHead:
        """The chain that ends with this manifest."""
        return ChainHead(sequence=self.manifest.sequence, payload_sha256=self.payload_sha256)


def seal_manifest(
    *,
    after: ChainHead = GENESIS,
    recordings: Sequence[Sequence[bytes]] = ((b"clip",),),
    others: Sequence[bytes] = (),
    docking: int | None = None,
    part: int = 1,
    last_part: bool = True,
    key: SigningKey = DOCK_KEY,
) -> SealedManifest:
    """Seal the manifest that follows *after*; each recording is given as its clips' contents."""
    sequence = after.sequence + 1
    contents = {
        sha256_hex(content): content for content in (*itertools.chain(*recordings), *others)
    }
    manifest = Manifest(
        manifest_id=ManifestId(uuid7(1, sequence)),
        dock=DOCK,
        sequence=sequence,
        previous_sha256=after.payload_sha256,
        sealed_at=NOW,
        docking_id=docking_id(docking or sequence),
        part=part,
        last_part=last_part,
        docked_at=NOW,
        ended_at=NOW,
        bay=BayNumber(1),
        recorder=RECORDER,
        officer=None,
        clock=ClockFacts(dock_time=NOW, timezone="Asia/Shanghai"),
        isolation=Isolation.NOT_ENFORCED,
        evidence_level=EvidenceLevel.L2,
        agent="edge-agent test",
        recordings=tuple(
            _recording(sequence * 1_000 + number, clips) for number, clips in enumerate(recordings)
        ),
        other_files=tuple(_staged(f"LOG/{index}.LOG", other) for index, other in enumerate(others)),
    )
    payload = strict_json.encode(manifest)
    return SealedManifest(
        manifest=manifest,
        payload_sha256=sha256_hex(payload),
        envelope=seal(payload, Statement.MANIFEST, key),
        contents=contents,
    )


def _recording(number: int, clips: Sequence[bytes]) -> Recording:
    return Recording(
        recording_id=RecordingId(uuid7(3, number)),
        clips=tuple(
            Clip(file=_staged(f"DCIM/{number}/{index}.MP4", clip), kind=ClipKind.VIDEO)
            for index, clip in enumerate(clips)
        ),
        recorded_on=date(2026, 3, 5),
        date_basis=DateBasis.FILE_TIME,
    )


def _staged(path: str, content: bytes) -> StagedFile:
    return StagedFile(
        name=name_of(path.encode()),
        size_bytes=len(content),
        mtime_ns=0,
        digests=Digests(sha256=sha256_hex(content)),
        evidence=EvidenceLevel.L2,
    )
