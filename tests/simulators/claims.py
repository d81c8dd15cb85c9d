"""What a dock claims: manifests in a chain, signed for real, with the bytes that they promise."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final

from msgspec.structs import replace

from protocol import strict_json
from protocol.chain import GENESIS, ChainHead
from protocol.digest import StreamDigest, sha256_hex
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

DOCKED_AT: Final = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
RECORDED_ON: Final = date(2026, 11, 22)
RECORDER: Final = RecorderFacts(
    recorder_id=RecorderId("R-0001"),
    make="示例",
    model="DSJ-A8",
    serial="0000001",
    profile="dsj",
)
OFFICER: Final = OfficerId("012345")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A signed manifest and the bytes that it promises, by digest."""

    manifest: Manifest
    envelope: bytes
    payload_sha256: str
    contents: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def head(self) -> ChainHead:
        """The chain that ends here."""
        return ChainHead(sequence=self.manifest.sequence, payload_sha256=self.payload_sha256)


class Claimant:
    """A dock as far as it signs: each claim follows the one before."""

    def __init__(self, dock: DockId, key: SigningKey, *, label: str = "") -> None:
        """Claim as *dock*; another *label* gives other identifiers."""
        self.dock = dock
        self.key = key
        self.head: ChainHead = GENESIS
        self._label = f"{dock} {label}"
        self._minted = 0

    def claim(
        self,
        *,
        recordings: Sequence[Sequence[bytes]] = ((b"clip",),),
        others: Sequence[bytes] = (),
        recorder: RecorderFacts = RECORDER,
        with_sm3: bool = False,
        **changed: Any,
    ) -> Claim:
        """Sign the next manifest; each recording is given as its clips' contents.

        Args:
            recordings: What was recorded.
            others: Other files.
            recorder: Whose.
            with_sm3: Whether the dock computed SM3.
            changed: Other values for fields of the manifest.
        """
        contents = {sha256_hex(one): one for clips in (*recordings, others) for one in clips}
        manifest = replace(
            self._manifest(recordings, others, recorder, with_sm3=with_sm3), **changed
        )
        claim = self.sign(manifest, contents)
        self.head = claim.head
        return claim

    def sign(self, manifest: Manifest, contents: Mapping[str, bytes] | None = None) -> Claim:
        """Sign any manifest; the chain does not go on with it."""
        payload = strict_json.encode(manifest)
        return Claim(
            manifest=manifest,
            envelope=seal(payload, Statement.MANIFEST, self.key),
            payload_sha256=sha256_hex(payload),
            contents=contents or {},
        )

    def mint(self) -> str:
        """Return a new id."""
        self._minted += 1
        entropy = hashlib.sha256(f"{self._label} {self._minted}".encode()).digest()[:10]
        return mint_uuid7(unix_ms=int(DOCKED_AT.timestamp()) * 1_000, entropy=entropy)

    def _manifest(
        self,
        recordings: Sequence[Sequence[bytes]],
        others: Sequence[bytes],
        recorder: RecorderFacts,
        *,
        with_sm3: bool,
    ) -> Manifest:
        return Manifest(
            manifest_id=ManifestId(self.mint()),
            dock=self.dock,
            sequence=self.head.sequence + 1,
            previous_sha256=self.head.payload_sha256,
            sealed_at=DOCKED_AT,
            docking_id=DockingId(self.mint()),
            part=1,
            last_part=True,
            docked_at=DOCKED_AT,
            ended_at=DOCKED_AT,
            bay=BayNumber(1),
            recorder=recorder,
            officer=OFFICER,
            clock=ClockFacts(dock_time=DOCKED_AT, timezone="Asia/Shanghai"),
            isolation=Isolation.HOLDING,
            evidence_level=EvidenceLevel.L2,
            agent="Bayward test",
            recordings=tuple(
                self._recording(number, clips, with_sm3=with_sm3)
                for number, clips in enumerate(recordings, start=1)
            ),
            other_files=tuple(
                staged(f"LOG/{number}.LOG", content, with_sm3=with_sm3)
                for number, content in enumerate(others, start=1)
            ),
        )

    def _recording(self, number: int, clips: Sequence[bytes], *, with_sm3: bool) -> Recording:
        return Recording(
            recording_id=RecordingId(self.mint()),
            clips=tuple(
                Clip(
                    file=staged(f"DCIM/{number}/{index:04d}.MP4", clip, with_sm3=with_sm3),
                    kind=ClipKind.VIDEO,
                    sequence=index,
                )
                for index, clip in enumerate(clips, start=1)
            ),
            recorded_on=RECORDED_ON,
            date_basis=DateBasis.RECORDER_CLOCK,
            officer=OFFICER,
        )


def staged(path: str, content: bytes, *, with_sm3: bool = False) -> StagedFile:
    """Return a file as a dock claims it."""
    digest = StreamDigest(with_sm3=with_sm3)
    digest.update(content)
    return StagedFile(
        name=name_of(path.encode()),
        size_bytes=len(content),
        mtime_ns=1_795_000_000_000_000_000,
        digests=digest.digests(),
        evidence=EvidenceLevel.L2,
    )
