"""Manifests as a dock signs them, for content that nobody staged."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from bench.sources import recorder
from demo.site import Site
from protocol.chain import GENESIS, ChainHead
from protocol.digest import Digests, sha256_hex
from protocol.envelope import seal
from protocol.identifiers import (
    BayNumber,
    DockId,
    DockingId,
    ManifestId,
    OfficerId,
    RecorderId,
    RecordingId,
    mint_uuid7,
)
from protocol.manifest import (
    Clip,
    ClipKind,
    ClockFacts,
    DateBasis,
    EvidenceLevel,
    FileName,
    Isolation,
    Manifest,
    RecorderFacts,
    Recording,
    StagedFile,
)
from protocol.strict_json import encode
from protocol.versions import Statement
from runtime.keys import load_signing_key

RECORDER: Final = recorder(1)

_LENGTH: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a clip is, as far as a manifest says."""

    sha256: str
    size_bytes: int


def signed_chain(site: Site, dock: str, manifests: Sequence[Sequence[Content]]) -> list[bytes]:
    """Return a dock's first manifests, each with recordings of one clip each."""
    key = load_signing_key(site.pki / dock / "signing.key")
    head = GENESIS
    envelopes = []
    for clips in manifests:
        payload = encode(_manifest(DockId(dock), head, clips))
        head = ChainHead(sequence=head.sequence + 1, payload_sha256=sha256_hex(payload))
        envelopes.append(seal(payload, Statement.MANIFEST, key))
    return envelopes


def _manifest(dock: DockId, head: ChainHead, clips: Sequence[Content]) -> Manifest:
    now = datetime.now(UTC)
    return Manifest(
        manifest_id=ManifestId(_mint()),
        dock=dock,
        sequence=head.sequence + 1,
        previous_sha256=head.payload_sha256,
        sealed_at=now,
        docking_id=DockingId(_mint()),
        part=1,
        last_part=True,
        docked_at=now - _LENGTH,
        ended_at=now,
        bay=BayNumber(1),
        recorder=RecorderFacts(
            recorder_id=RecorderId(RECORDER.recorder_id),
            make=RECORDER.make,
            model=RECORDER.model,
            serial=RECORDER.serial,
            profile="generic",
        ),
        officer=OfficerId(RECORDER.officer),
        clock=ClockFacts(dock_time=now - _LENGTH, timezone="Asia/Shanghai", synchronised=True),
        isolation=Isolation.HOLDING,
        evidence_level=EvidenceLevel.L2,
        agent="bench",
        recordings=tuple(
            _recording(now - number * _LENGTH, number, clip) for number, clip in enumerate(clips)
        ),
    )


def _recording(started: datetime, number: int, content: Content) -> Recording:
    name = f"{RECORDER.officer}_{RECORDER.serial}_{started:%Y%m%d%H%M%S}_{number:04d}.MP4"
    file = StagedFile(
        name=FileName(path=f"DCIM/100MEDIA/{name}"),
        size_bytes=content.size_bytes,
        mtime_ns=time.time_ns(),
        digests=Digests(sha256=content.sha256),
        evidence=EvidenceLevel.L2,
    )
    local = started.replace(tzinfo=None, microsecond=0)
    clip = Clip(file=file, kind=ClipKind.VIDEO, sequence=number, started=local)
    return Recording(
        recording_id=RecordingId(_mint()),
        clips=(clip,),
        recorded_on=local.date(),
        date_basis=DateBasis.RECORDER_CLOCK,
        started=local,
    )


def _mint() -> str:
    return mint_uuid7(unix_ms=time.time_ns() // 1_000_000, entropy=os.urandom(10))
