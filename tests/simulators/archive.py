"""An archive that decides and signs for real, in memory.

It keeps the contract of docs/architecture.md as far as a dock can see it: chain, recorder known,
what is missing, one receipt when all of it is there, and every answer again when asked again.
"""

from dataclasses import dataclass

from protocol.chain import GENESIS, ChainHead, Link, judge
from protocol.digest import sha256_hex
from protocol.envelope import keyring, parse_statement, sign_statement, take_apart
from protocol.errors import ProtocolError
from protocol.findings import FindingCode
from protocol.identifiers import DockId, ReceiptId
from protocol.keys import SigningKey, VerifyingKey
from protocol.manifest import Manifest
from protocol.receipt import (
    Admission,
    AdmissionState,
    ArchivedBag,
    MissingFile,
    Receipt,
    Refusal,
)
from protocol.registry import Registry
from protocol.versions import Statement
from tests.simulators.custody_entries import CustodyEntries
from tests.simulators.sealed_manifests import NOW, uuid7
from tests.simulators.tus_archive import TusArchive


@dataclass(slots=True)
class _Held:
    manifest: Manifest
    payload_sha256: str
    envelope: bytes
    receipt: bytes | None = None


class Archive:
    """What one dock's archive decides.

    Attributes:
        recorders: The serial numbers that are registered; None for all.
        log: Its custody log.
        manifests: Taken into the chain or waiting, by number.
    """

    def __init__(
        self, key: SigningKey, dock_key: VerifyingKey, tus: TusArchive, *, dock: DockId
    ) -> None:
        self.recorders: set[str] | None = None
        self.manifests: dict[int, _Held] = {}
        self.refused = 0
        self.tus = tus
        self._key = key
        self._dock_keys = keyring(dock_key)
        self._dock = dock
        self._head: ChainHead = GENESIS
        self._receipts = 0
        self.log = CustodyEntries(key)

    def take_manifest(self, envelope: bytes) -> list[bytes]:
        """Return the signed answers to a manifest, as a message of its dock."""
        try:
            sealed = take_apart(envelope)
            sealed.verify(self._dock_keys)
            manifest = parse_statement(sealed, Statement.MANIFEST, Manifest)
        except ProtocolError as error:
            return [self._refuse(envelope, FindingCode.SIGNATURE_WRONG, str(error))]
        known = self.manifests.get(manifest.sequence)
        digest = sha256_hex(sealed.payload)
        link = judge(
            self._head,
            sequence=manifest.sequence,
            previous_sha256=manifest.previous_sha256,
            payload_sha256=digest,
            recorded_sha256=known.payload_sha256 if known else None,
        )
        if link is Link.FORKED:
            return [self._refuse(envelope, FindingCode.CHAIN_FORKED, "two histories", manifest)]
        held = _Held(manifest=manifest, payload_sha256=digest, envelope=envelope)
        self.manifests.setdefault(manifest.sequence, held)
        return self._go_on() if link is Link.NEXT else self._answer(manifest.sequence)

    def settle(self) -> list[bytes]:
        """Return the receipts of manifests whose last byte has arrived since."""
        answers: list[bytes] = []
        for held in self.manifests.values():
            if held.receipt is None and held.manifest.sequence <= self._head.sequence:
                answers += self._receipt(held)
        return answers

    def sign_receipt(self, manifest: Manifest, payload_sha256: str) -> bytes:
        """Return a receipt as it should be."""
        self._receipts += 1
        bags = [
            ArchivedBag(
                recording_id=recording.recording_id,
                path=f"2026/03/05/_unfiled/{recording.recording_id}",
                tagmanifest_sha256=sha256_hex(recording.recording_id.encode()),
                files=len(recording.clips),
                size_bytes=sum(clip.file.size_bytes for clip in recording.clips),
            )
            for recording in manifest.recordings
        ]
        if manifest.other_files:
            bags.append(
                ArchivedBag(
                    recording_id=None,
                    path=f"2026/03/05/_docking/{manifest.docking_id}-{manifest.part}",
                    tagmanifest_sha256=sha256_hex(manifest.docking_id.encode()),
                    files=len(manifest.other_files),
                    size_bytes=sum(file.size_bytes for file in manifest.other_files),
                )
            )
        receipt = Receipt(
            receipt_id=ReceiptId(uuid7(4, self._receipts)),
            manifest_id=manifest.manifest_id,
            dock=manifest.dock,
            sequence=manifest.sequence,
            payload_sha256=payload_sha256,
            archived_at=NOW,
            bags=tuple(bags),
        )
        return sign_statement(receipt, Statement.RECEIPT, self._key)

    def logged(self, receipt: bytes) -> bytes:
        """Return a receipt with what proves that it is in the log."""
        return self.log.logged(receipt)

    def sign_registry(self, registry: Registry) -> bytes:
        """Return a registry as it is published."""
        return sign_statement(registry, Statement.REGISTRY, self._key)

    def _go_on(self) -> list[bytes]:
        """Take the next manifest into the chain, and those that waited for it."""
        answers: list[bytes] = []
        while held := self.manifests.get(self._head.sequence + 1):
            self._head = ChainHead(
                sequence=held.manifest.sequence, payload_sha256=held.payload_sha256
            )
            answers += self._answer(held.manifest.sequence)
        return answers

    def _answer(self, sequence: int) -> list[bytes]:
        held = self.manifests[sequence]
        manifest = held.manifest
        if not self._knows_recorder(manifest):
            return [self._refuse(held.envelope, FindingCode.UNKNOWN_RECORDER, "unknown", manifest)]
        if held.receipt is not None:
            return [self.log.logged(held.receipt)]
        in_chain = sequence <= self._head.sequence
        missing = self._missing(manifest) if in_chain else ()
        admission = Admission(
            manifest_id=manifest.manifest_id,
            dock=manifest.dock,
            sequence=sequence,
            payload_sha256=held.payload_sha256,
            state=AdmissionState.ADMITTED if in_chain else AdmissionState.WAITING,
            expected_sequence=self._head.sequence + 1,
            answered_at=NOW,
            missing=missing,
        )
        for file in missing:
            self.tus.wanted[manifest.manifest_id, file.sha256] = file.size_bytes
        return [
            sign_statement(admission, Statement.ADMISSION, self._key),
            *(self._receipt(held) if in_chain else []),
        ]

    def _knows_recorder(self, manifest: Manifest) -> bool:
        return self.recorders is None or manifest.recorder.serial in self.recorders

    def _missing(self, manifest: Manifest) -> tuple[MissingFile, ...]:
        return tuple(
            MissingFile(sha256=file.digests.sha256, size_bytes=file.size_bytes)
            for file in manifest.staged_files()
            if file.digests.sha256 not in self.tus.files
        )

    def _receipt(self, held: _Held) -> list[bytes]:
        if self._missing(held.manifest) or not self._knows_recorder(held.manifest):
            return []
        held.receipt = self.sign_receipt(held.manifest, held.payload_sha256)
        return [self.log.logged(held.receipt)]

    def _refuse(
        self, envelope: bytes, code: FindingCode, detail: str, manifest: Manifest | None = None
    ) -> bytes:
        self.refused += 1
        refusal = Refusal(
            dock=self._dock,
            message_sha256=sha256_hex(envelope),
            code=code,
            detail=detail,
            answered_at=NOW,
            manifest_id=None if manifest is None else manifest.manifest_id,
            sequence=None if manifest is None else manifest.sequence,
        )
        return sign_statement(refusal, Statement.REFUSAL, self._key)
