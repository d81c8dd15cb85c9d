"""What a dock shows to have footage erased: manifests, the archive's receipts, its registry."""

import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final

import msgspec

from edge_agent.adapters.proof_file import read_proof, write_envelope
from edge_agent.erasing.proof import Proof
from edge_agent.ingest.volume import RawEntry
from edge_agent.mounting.errors import BayBusyError, MountServiceError
from edge_agent.mounting.messages import Erased, Progress, Reply
from protocol import strict_json
from protocol.digest import Digests, sha256_hex
from protocol.envelope import keyring, seal, sign_statement
from protocol.identifiers import DockingId, ManifestId, ReceiptId, RecordingId
from protocol.keys import KeyId, SigningKey, VerifyingKey
from protocol.manifest import (
    Clip,
    ClipKind,
    DateBasis,
    EvidenceLevel,
    KnownFile,
    Manifest,
    Recording,
    StagedFile,
    name_of,
)
from protocol.receipt import ArchivedBag, Receipt
from protocol.registry import ErasePolicy, Erasing, Registry
from protocol.versions import Statement
from tests.simulators.sealed_manifests import (
    ARCHIVE_KEY,
    DOCK_KEY,
    docking_id,
    seal_manifest,
    uuid7,
)

ARCHIVED_AT: Final = datetime(2026, 3, 5, 9, 0, tzinfo=UTC)
DOCKING: Final = docking_id(9)
AFTER_RECEIPT: Final = Erasing(policy=ErasePolicy.AFTER_RECEIPT)

Files = Mapping[bytes, bytes]
Pair = tuple[bytes, bytes]


def manifest_of(
    clips: Files, others: Files | None = None, *, number: int = 1, **changes: Any
) -> Manifest:
    """Return a manifest of one docking with one recording, its files as path and content."""
    files = [Clip(file=_staged(*one), kind=ClipKind.VIDEO) for one in clips.items()]
    recording = Recording(
        recording_id=RecordingId(uuid7(3, number)),
        clips=tuple(files),
        recorded_on=date(2026, 3, 5),
        date_basis=DateBasis.FILE_TIME,
    )
    made = msgspec.structs.replace(
        seal_manifest().manifest,
        manifest_id=ManifestId(uuid7(1, number)),
        docking_id=DOCKING,
        recordings=(recording,) if files else (),
        other_files=tuple(_staged(*one) for one in (others or {}).items()),
    )
    return msgspec.structs.replace(made, **changes)


def known(path: bytes, content: bytes, *, number: int = 1) -> KnownFile:
    """Return how a manifest lists a file that manifest *number* claims."""
    return KnownFile(
        name=name_of(path),
        size_bytes=len(content),
        mtime_ns=0,
        sha256=sha256_hex(content),
        manifest_id=ManifestId(uuid7(1, number)),
    )


def with_receipt(
    manifest: Manifest,
    *,
    archived_at: datetime = ARCHIVED_AT,
    key: SigningKey = ARCHIVE_KEY,
    **changes: Any,
) -> Pair:
    """Return a manifest as it was sent, and the archive's receipt for it."""
    payload = strict_json.encode(manifest)
    receipt = Receipt(
        receipt_id=ReceiptId(uuid7(4, 1)),
        manifest_id=manifest.manifest_id,
        dock=manifest.dock,
        sequence=manifest.sequence,
        payload_sha256=sha256_hex(payload),
        archived_at=archived_at,
        bags=tuple(_bags(manifest)),
    )
    receipt = msgspec.structs.replace(receipt, **changes)
    envelope = seal(payload, Statement.MANIFEST, DOCK_KEY)
    return envelope, sign_statement(receipt, Statement.RECEIPT, key)


def registry_of(erasing: Erasing = AFTER_RECEIPT, *, key: SigningKey = ARCHIVE_KEY) -> bytes:
    """Return the registry as the archive publishes it."""
    registry = Registry(version=3, issued_at=ARCHIVED_AT, erasing=erasing)
    return sign_statement(registry, Statement.REGISTRY, key)


@contextmanager
def proof_file(*pairs: Pair, registry: bytes | None = None) -> Iterator[int]:
    """Write them down as edge-agent does; yield the open file."""
    with tempfile.TemporaryFile() as file:
        write_envelope(file, registry_of() if registry is None else registry)
        for envelope in (envelope for pair in pairs for envelope in pair):
            write_envelope(file, envelope)
        file.flush()
        yield file.fileno()


def _staged(path: bytes, content: bytes) -> StagedFile:
    return StagedFile(
        name=name_of(path),
        size_bytes=len(content),
        mtime_ns=0,
        digests=Digests(sha256=sha256_hex(content)),
        evidence=EvidenceLevel.L2,
    )


def _bags(manifest: Manifest) -> Iterator[ArchivedBag]:
    for recording in manifest.recordings:
        yield _bag(recording.recording_id, [clip.file for clip in recording.clips])
    if manifest.other_files:
        yield _bag(None, manifest.other_files)


def _bag(recording_id: RecordingId | None, files: Sequence[StagedFile]) -> ArchivedBag:
    return ArchivedBag(
        recording_id=recording_id,
        path=f"2026/03/05/_unfiled/{recording_id}",
        tagmanifest_sha256=sha256_hex(b"bag"),
        files=len(files),
        size_bytes=_total(files),
    )


def _total(files: Iterable[StagedFile]) -> int:
    return sum(file.size_bytes for file in files)


@dataclass(slots=True)
class FakeEraseClient:
    """In place of edge-mount: believes a proof as it does, and erases nothing.

    Attributes:
        reply: What it answers; with None, as much as the proof would let it.
        listing: What is on the recorder.
        dies: It gives no answer; `mount` does when *mounted* is set, and is busy until then if it
            lives.
        hold: When set, it tells its progress and waits until it is let go on or not waited for.
    """

    archive_keys: Mapping[KeyId, VerifyingKey] = field(
        default_factory=lambda: keyring(ARCHIVE_KEY.public)
    )
    reply: Reply | None = None
    listing: Callable[[], Iterable[RawEntry]] = tuple
    asked: list[DockingId] = field(default_factory=list)
    hold: threading.Event | None = None
    dies: bool = False
    mounted: threading.Event = field(default_factory=threading.Event)

    def mount(self) -> Reply:
        """Answer as soon as it is back."""
        if self.mounted.wait(0.01):
            return Reply()
        if self.dies:
            raise MountServiceError("it is gone")
        return Reply(code=BayBusyError.code, text="it hangs")

    def erase(
        self, docking_id: DockingId, proof_fd: int, go_on: Callable[[Progress], bool]
    ) -> Reply:
        """Look whether what is shown proves what is asked for."""
        self.asked.append(docking_id)
        if self.dies:
            raise MountServiceError("it is gone")
        proof = Proof(docking_id=docking_id, archive_keys=self.archive_keys)
        rule = read_proof(proof_fd, proof)
        proved = proof.close()
        delay = rule.erasing.delay_of(proved.model)
        assert delay is not None
        half = Progress(files_done=1, files_total=2, bytes_done=5, bytes_total=10)
        while self.hold is not None and not self.hold.wait(0.01):
            if not go_on(half):
                raise MountServiceError("it was not waited for")
        due = proved.files.due(self.listing(), datetime.max.replace(tzinfo=UTC))
        return self.reply or Reply(erased=Erased(files=len(due), size_bytes=due.size_bytes))
