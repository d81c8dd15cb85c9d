"""Statements of an imaginary site, the same in every run: the values behind the test vectors."""

import hashlib
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.attestation import Attestation, Occasion
from protocol.attested import Attested
from protocol.chain import GENESIS, ChainHead
from protocol.commands import Command, CommandVerb
from protocol.digest import Digests, sha256_hex
from protocol.findings import Finding, FindingCode
from protocol.identifiers import (
    BayNumber,
    CommandId,
    DockId,
    DockingId,
    ManifestId,
    OfficerId,
    ReceiptId,
    RecorderId,
    RecordingId,
    mint_uuid7,
)
from protocol.keys import SigningKey
from protocol.manifest import (
    ByteRange,
    Clip,
    ClipKind,
    ClockFacts,
    DateBasis,
    EvidenceLevel,
    Incomplete,
    IncompleteReason,
    Isolation,
    KnownFile,
    Manifest,
    NotTaken,
    RecorderFacts,
    Recording,
    StagedFile,
    name_of,
)
from protocol.receipt import (
    ArchivedBag,
    Receipt,
)
from protocol.registry import DockEntry, OfficerEntry, RecorderEntry, Registry
from protocol.strict_json import encode

DOCK: Final = DockId("dock-01")
OTHER_DOCK: Final = DockId("dock-02")
TIME: Final = datetime(2026, 11, 23, 9, 30, 0, tzinfo=UTC)


def signing_key(name: str) -> SigningKey:
    """Return the key of a name in the vectors: its seed is the SHA-256 of a fixed sentence."""
    seed = hashlib.sha256(f"bayward test vector key: {name}".encode()).digest()
    return SigningKey(Ed25519PrivateKey.from_private_bytes(seed))


def public_key(name: str) -> bytes:
    """Return the DER SubjectPublicKeyInfo of a name's key."""
    return signing_key(name).public.spki_der


def uuid7(label: str) -> str:
    """Return a UUIDv7 that is always the same for *label*."""
    entropy = hashlib.sha256(label.encode()).digest()[:10]
    return mint_uuid7(unix_ms=int(TIME.timestamp() * 1000), entropy=entropy)


def content(label: str) -> bytes:
    """Return the bytes that stand for a clip in the vectors."""
    return f"the bytes of {label}\n".encode()


def _staged(path: bytes) -> StagedFile:
    data = content(path.decode(errors="replace"))
    return StagedFile(
        name=name_of(path),
        size_bytes=len(data),
        mtime_ns=int(TIME.timestamp()) * 10**9,
        digests=Digests(sha256=sha256_hex(data)),
        evidence=EvidenceLevel.L2,
    )


def _recording(number: int) -> Recording:
    started = datetime(2026, 11, 21, 8, 30, 12) + timedelta(hours=number)  # noqa: DTZ001 (a recorder's clock has no zone)
    path = f"DCIM/100MEDIA/012345_0000017_{started:%Y%m%d%H%M%S}_{number:04d}.MP4"
    clip = Clip(file=_staged(path.encode()), kind=ClipKind.VIDEO, sequence=number, started=started)
    return Recording(
        recording_id=RecordingId(uuid7(f"recording {number}")),
        clips=(clip,),
        recorded_on=date(2026, 11, 21),
        date_basis=DateBasis.RECORDER_CLOCK,
        started=started,
        officer=OfficerId("012345"),
    )


def manifest(head: ChainHead, **changes: Any) -> Manifest:
    """Return the good manifest that follows *head*, with *changes* to its fields."""
    number = head.sequence + 1
    fields: dict[str, Any] = {
        "manifest_id": ManifestId(uuid7(f"manifest {number}")),
        "dock": DOCK,
        "sequence": number,
        "previous_sha256": head.payload_sha256,
        "sealed_at": TIME + timedelta(minutes=number),
        "docking_id": DockingId(uuid7(f"docking {number}")),
        "part": 1,
        "last_part": True,
        "docked_at": TIME,
        "ended_at": TIME + timedelta(seconds=50),
        "bay": BayNumber(1),
        "recorder": RecorderFacts(
            recorder_id=RecorderId("R-0001"),
            make="DSJ",
            model="DSJ-A8",
            serial="0000017",
            profile="dsj-a8",
        ),
        "officer": OfficerId("012345"),
        "clock": ClockFacts(dock_time=TIME, timezone="Asia/Shanghai", synchronised=True),
        "isolation": Isolation.NOT_ENFORCED,
        "evidence_level": EvidenceLevel.L2,
        "agent": "bayward vectors",
        "recordings": (_recording(number),),
        "other_files": (_staged(f"LOG/2026112{number}.LOG".encode()),),
    }
    return Manifest(**(fields | changes))


def full_manifest(head: ChainHead) -> Manifest:
    """Return a manifest with every field there is, with names in bytes that are no UTF-8."""
    gbk = "执法".encode("gbk") + b".MP4"
    return manifest(
        head,
        other_files=(_staged(gbk),),
        known=(
            KnownFile(
                name=name_of(b"DCIM/100MEDIA/012345_0000017_20261120080000_0009IMP.MP4"),
                size_bytes=7,
                mtime_ns=-1,
                sha256=sha256_hex(b"earlier"),
                manifest_id=ManifestId(uuid7("manifest 1")),
                marked=True,
            ),
        ),
        not_taken=(NotTaken(name=name_of(b"autorun.inf"), code=FindingCode.FOREIGN_FILE),),
        incomplete=(
            Incomplete(
                name=name_of(b"DCIM/100MEDIA/012345_0000017_20261121140000_0010.MP4"),
                reason=IncompleteReason.RECORDER_LEFT,
                size_bytes=1000,
                taken_bytes=10,
            ),
            Incomplete(
                name=name_of(b"DCIM/100MEDIA/012345_0000017_20261121143000_0011.MP4"),
                reason=IncompleteReason.UNREADABLE,
                size_bytes=1000,
                taken_bytes=900,
                readable=(
                    ByteRange(offset_bytes=0, size_bytes=500, sha256=sha256_hex(bytes(500))),
                    ByteRange(offset_bytes=600, size_bytes=400, sha256=sha256_hex(bytes(400))),
                ),
            ),
        ),
        findings=(Finding(code=FindingCode.FOREIGN_FILE, path="autorun.inf", detail="not taken"),),
        recorder=RecorderFacts(
            recorder_id=RecorderId("R-0001"),
            make="DSJ",
            model="DSJ-A8",
            serial="0000017",
            profile="dsj-a8",
            firmware="1.2",
            battery_percent=80,
        ),
        clock=ClockFacts(
            dock_time=TIME,
            timezone="Asia/Shanghai",
            synchronised=True,
            recorder_time=datetime(2026, 11, 23, 17, 29, 58),  # noqa: DTZ001 (a recorder's clock has no zone)
            drift_ms=-2000,
        ),
    )


def registry() -> Registry:
    """Return the registry of the vectors' site."""
    return Registry(
        version=3,
        issued_at=TIME,
        docks=tuple(
            DockEntry(
                dock=dock, name=f"采集站 {dock}", signing_key=signing_key(dock).public.spki_der
            )
            for dock in (DOCK, OTHER_DOCK)
        ),
        officers=(OfficerEntry(officer=OfficerId("012345"), name="张伟", section="稽查科"),),
        recorders=(
            RecorderEntry(
                recorder=RecorderId("R-0001"), make="DSJ", model="DSJ-A8", serial="0000017"
            ),
        ),
    )


def command() -> Command:
    """Return a command to the vectors' dock."""
    return Command(
        command_id=CommandId("0192f1a4-1000-7000-8000-0000000000c1"),
        dock=DOCK,
        sequence=1_800_000_000_000,
        verb=CommandVerb.IDENTIFY,
        issued_at=TIME,
        expires_at=TIME + timedelta(minutes=2),
        asked_by="zhangwei",
        bay=BayNumber(3),
        seconds=30,
    )


def receipt(of: Manifest, **changes: Any) -> Receipt:
    """Return the good receipt of *of*, with *changes* to its fields."""
    groups = [(one.recording_id, [clip.file for clip in one.clips]) for one in of.recordings]
    if of.other_files:
        groups.append((None, list(of.other_files)))  # type: ignore[arg-type]  # None names the other files
    fields: dict[str, Any] = {
        "receipt_id": ReceiptId(uuid7(f"receipt {of.sequence}")),
        "manifest_id": of.manifest_id,
        "dock": of.dock,
        "sequence": of.sequence,
        "payload_sha256": sha256_hex(encode(of)),
        "archived_at": TIME + timedelta(hours=1),
        "bags": tuple(
            ArchivedBag(
                recording_id=one,
                path=f"2026/11/21/_unfiled/{one}",
                tagmanifest_sha256=sha256_hex(str(one).encode()),
                files=len(files),
                size_bytes=sum(file.size_bytes for file in files),
            )
            for one, files in groups
        ),
    }
    return Receipt(**(fields | changes))


def chain() -> tuple[Manifest, Manifest, Manifest]:
    """Return the first three manifests of DOCK, linked; the second has every field there is."""
    first = manifest(GENESIS)
    second = full_manifest(ChainHead(sequence=1, payload_sha256=sha256_hex(encode(first))))
    third = manifest(ChainHead(sequence=2, payload_sha256=sha256_hex(encode(second))))
    return first, second, third


def attestation(head: ChainHead = GENESIS, **facts: Any) -> Attestation:
    """Return what a dock signs about the no-internet rule after *head*."""
    known: dict[str, Any] = {
        "dock": DOCK,
        "sequence": head.sequence + 1,
        "previous_sha256": head.payload_sha256,
        "made_at": TIME,
        "occasion": Occasion.DAILY,
        "isolation": Isolation.HOLDING,
        "since": TIME - timedelta(days=3),
        "enforced": True,
        "agent": "edge-agent 0.1.0",
    }
    return Attestation(**(known | facts))


def attested(head: ChainHead) -> Attested:
    """Return what the archive answers when the chain ends in *head*."""
    return Attested(
        dock=DOCK, sequence=head.sequence, payload_sha256=head.payload_sha256, answered_at=TIME
    )
