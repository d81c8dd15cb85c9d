"""A dock's signed manifest and the files it promises, ready to become bags."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

from protocol.digest import Digests, StreamDigest
from protocol.envelope import sign_statement, take_apart
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
    Isolation,
    Manifest,
    RecorderFacts,
    Recording,
    StagedFile,
    name_of,
)
from protocol.versions import Statement
from runtime.keys import load_signing_key
from server_agent.adapters.bag_writer import BagWriter
from server_agent.archive.layout import DOCKING, bag_path, docking_bag_path
from server_agent.archive.names import safe_names
from server_agent.archive.request import BagFile, BagRequest
from server_agent.pki.folder import PkiFolder

DOCK: Final = DockId("dock-01")
SEALED_AT: Final = datetime(2026, 11, 23, 9, 31, tzinfo=UTC)
ISSUED_AT: Final = datetime(2026, 11, 1, tzinfo=UTC)
CLOSED_AT: Final = datetime(2026, 11, 23, 10, 15, tzinfo=UTC)
RECORDED_ON: Final = date(2026, 11, 21)

CLIPS: Final[Mapping[bytes, bytes]] = {
    b"DCIM/20261121/012345_0000017_20261121083012_0001.MP4": b"first clip " * 9_000,
    "DCIM/20261121/执法 现场_0002IMP.MP4".encode(): b"second clip " * 5_000,
    b"DCIM/20261121/\xb7\xa8_0003.MP4": b"a name in GBK",
}
OTHERS: Final[Mapping[bytes, bytes]] = {b"LOG/A.TXT": b"log\n", b"LOG/a.txt": b"other log\n"}


@dataclass(frozen=True, slots=True, kw_only=True)
class BagSite:
    """One site's authority, one dock, one manifest, and the bytes of its files by digest."""

    pki: PkiFolder
    manifest: Manifest
    envelope: bytes
    content: Mapping[str, bytes]
    closed_at: datetime

    @property
    def ca_pem(self) -> bytes:
        return self.pki.ca.read_bytes()

    def request(self, recording: Recording | None) -> BagRequest:
        """Return the request for the bag of *recording*, or of the docking's other files."""
        staged = (
            self.manifest.other_files
            if recording is None
            else tuple(clip.file for clip in recording.clips)
        )
        sealed = take_apart(self.envelope)
        return BagRequest(
            manifest_id=self.manifest.manifest_id,
            group=DOCKING if recording is None else recording.recording_id,
            target=(
                docking_bag_path(RECORDED_ON, self.manifest.docking_id, self.manifest.part)
                if recording is None
                else bag_path(recording.recorded_on, None, recording.recording_id)
            ),
            files=tuple(
                BagFile(safe_name=name, file=file)
                for name, file in zip(
                    safe_names([file.name for file in staged]), staged, strict=True
                )
            ),
            envelope=self.envelope,
            payload=sealed.payload,
            signature=sealed.signature,
            dock_certificate_pem=(self.pki.directory / DOCK / "signing.pem").read_bytes(),
            ca_pem=self.ca_pem,
            recording=recording,
            manifest=self.manifest,
        )

    def requests(self) -> Sequence[BagRequest]:
        """Return the requests for every bag of the manifest."""
        groups = [*self.manifest.recordings, *([None] if self.manifest.other_files else [])]
        return [self.request(group) for group in groups]

    def fill(self, writer: BagWriter, request: BagRequest) -> Path:
        """Put the payload where the uploads would have put it, and return the folder."""
        bag = writer.incoming_dir(request.manifest_id, request.group)
        for file in request.files:
            path = bag / "data" / file.safe_name
            path.write_bytes(self.content[file.file.digests.sha256])
        return bag

    def archive(self, root: Path) -> list[Path]:
        """Close every bag of the manifest below *root*, and return where they stand."""
        writer = BagWriter(root, clock=lambda: self.closed_at)
        bags: list[Path] = []
        for request in self.requests():
            self.fill(writer, request)
            bags.append(root / writer.close_bag(request).path)
        return bags


def build_site(
    directory: Path,
    *,
    clips: Mapping[bytes, bytes] = CLIPS,
    others: Mapping[bytes, bytes] = OTHERS,
    with_sm3: bool = True,
    label: str = "1",
    sealed_at: datetime = SEALED_AT,
    issued_at: datetime = ISSUED_AT,
    closed_at: datetime = CLOSED_AT,
) -> BagSite:
    """Make an authority in *directory*, and a manifest of one recording and other files.

    Args:
        directory: Of the authority; one that is there is used.
        clips: The recording's files: path on the recorder, and content.
        others: The other files, likewise.
        with_sm3: Whether the dock computed SM3.
        label: Another label gives other identifiers.
        sealed_at: When the dock signed, by its own clock.
        issued_at: When the dock got its certificate.
        closed_at: When the archive closes its bags.
    """
    pki = PkiFolder(directory)
    pki.create_authority(issued_at)
    pki.issue_dock(DOCK, issued_at)
    manifest = _manifest(
        _recording(clips, with_sm3=with_sm3, label=label),
        tuple(_staged(path, content, with_sm3=with_sm3) for path, content in others.items()),
        label=label,
        sealed_at=sealed_at,
    )
    key = load_signing_key(directory / DOCK / "signing.key")
    return BagSite(
        pki=pki,
        manifest=manifest,
        envelope=sign_statement(manifest, Statement.MANIFEST, key),
        content={
            hashlib.sha256(content).hexdigest(): content
            for content in (*clips.values(), *others.values())
        },
        closed_at=closed_at,
    )


def _recording(clips: Mapping[bytes, bytes], *, with_sm3: bool, label: str) -> Recording:
    return Recording(
        recording_id=RecordingId(_uuid7(f"recording {label}")),
        clips=tuple(
            Clip(
                file=_staged(path, content, with_sm3=with_sm3),
                kind=ClipKind.VIDEO,
                sequence=number,
                marked=b"IMP" in path,
            )
            for number, (path, content) in enumerate(clips.items(), start=1)
        ),
        recorded_on=RECORDED_ON,
        date_basis=DateBasis.RECORDER_CLOCK,
        officer=OfficerId("012345"),
    )


def _manifest(
    recording: Recording, others: tuple[StagedFile, ...], *, label: str, sealed_at: datetime
) -> Manifest:
    return Manifest(
        manifest_id=ManifestId(_uuid7(f"manifest {label}")),
        dock=DOCK,
        sequence=1,
        previous_sha256="0" * 64,
        sealed_at=sealed_at,
        docking_id=DockingId(_uuid7(f"docking {label}")),
        part=1,
        last_part=True,
        docked_at=sealed_at,
        ended_at=sealed_at,
        bay=BayNumber(1),
        recorder=RecorderFacts(
            recorder_id=RecorderId("R-0001"),
            make="示例",
            model="DSJ-A8",
            serial="0000017",
            profile="dsj",
        ),
        officer=OfficerId("012345"),
        clock=ClockFacts(dock_time=sealed_at, timezone="Asia/Shanghai"),
        isolation=Isolation.HOLDING,
        evidence_level=EvidenceLevel.L2,
        agent="Bayward test",
        recordings=(recording,),
        other_files=others,
    )


def _staged(path: bytes, content: bytes, *, with_sm3: bool) -> StagedFile:
    return StagedFile(
        name=name_of(path),
        size_bytes=len(content),
        mtime_ns=1_795_000_000_000_000_000,
        digests=_digests(content, with_sm3=with_sm3),
        evidence=EvidenceLevel.L2,
    )


def _digests(content: bytes, *, with_sm3: bool) -> Digests:
    stream = StreamDigest(with_sm3=with_sm3)
    stream.update(content)
    return stream.digests()


def _uuid7(label: str) -> str:
    entropy = hashlib.sha256(label.encode()).digest()[:10]
    return mint_uuid7(unix_ms=int(SEALED_AT.timestamp()) * 1_000, entropy=entropy)
