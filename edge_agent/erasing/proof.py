"""From signed manifests and receipts to what may be erased of what is on a recorder.

Whoever hands them over is not believed: the archive's signature is, and what is on the recorder.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from edge_agent.erasing.claims import Claims, ProvedFiles
from edge_agent.mounting.errors import EvidenceError
from protocol import strict_json
from protocol.digest import sha256_hex
from protocol.envelope import MAX_ENVELOPE_BYTES, open_statement, take_apart
from protocol.errors import ProtocolError
from protocol.findings import FindingCode
from protocol.identifiers import DockingId
from protocol.keys import KeyId, VerifyingKey
from protocol.manifest import Manifest, StagedFile, exact_path
from protocol.receipt import Receipt, check_receipt
from protocol.versions import Statement, payload_type

# The largest envelopes that are read here; what edge-agent and the archive make is smaller. Of
# 45,000 recorders and officers of 130 bytes each.
MAX_REGISTRY_BYTES: Final = 8 * 1024 * 1024
# A part is closed at 8 MiB, in base64: edge_agent.manifest.sealing.PART_BYTES.
MAX_MANIFEST_BYTES: Final = 12 * 1024 * 1024
# Of 2,001 bags of 400 bytes each, in base64.
MAX_RECEIPT_BYTES: Final = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvedRecorder:
    """What was on a recorder when it was docked, all of which the archive holds."""

    model: str
    files: ProvedFiles


@dataclass(slots=True, kw_only=True)
class Proof:
    """What is proved so far about one recorder and one docking of it.

    The docking's own manifests come first, then the earlier ones that claim what was known in it.

    Attributes:
        docking_id: The docking that says what is on the recorder.
        archive_keys: The keys that may sign receipts.
    """

    docking_id: DockingId
    archive_keys: Mapping[KeyId, VerifyingKey]
    _recorders: set[tuple[str, str]] = field(default_factory=set)
    _parts: dict[int, bool] = field(default_factory=dict)
    _claims: Claims = field(default_factory=Claims)

    def add(self, manifest_envelope: bytes, receipt_envelope: bytes) -> None:
        """Take a manifest and its receipt, each byte for byte as it was sent.

        The manifest's own signature is not asked for: the receipt names its exact bytes, and the
        archive has verified it.

        Raises:
            EvidenceError: The archive did not sign this receipt, or it is not this manifest's.
        """
        try:
            receipt = open_statement(
                receipt_envelope, Statement.RECEIPT, Receipt, self.archive_keys
            )
            manifest = _parse_manifest(manifest_envelope, receipt)
        except ProtocolError as error:
            raise EvidenceError(f"{error.code}: {error}") from error
        self._recorders.add((manifest.recorder.model, manifest.recorder.serial))
        is_own = manifest.docking_id == self.docking_id
        if is_own:
            self._parts[manifest.part] = manifest.last_part
            self._add_names(manifest)
        self._add_contents(manifest, receipt.archived_at, of_old=not is_own)

    def close(self) -> ProvedRecorder:
        """Return what is proved, when everything was added.

        Raises:
            EvidenceError: There is not all that it takes.
        """
        if len(self._recorders) != 1:
            raise EvidenceError(f"manifests of {len(self._recorders)} recorders")
        parts = sorted(self._parts)
        if parts != list(range(1, len(parts) + 1)) or not self._parts.get(len(parts)):
            raise EvidenceError(f"of docking {self.docking_id} there are the parts {parts[:20]}")
        [(model, _)] = self._recorders
        return ProvedRecorder(model=model, files=self._claims.pack())

    def _add_contents(self, manifest: Manifest, archived_at: datetime, *, of_old: bool) -> None:
        def add(file: StagedFile, *, is_footage: bool) -> None:
            self._claims.add_content(
                file.digests.sha256,
                size_bytes=file.size_bytes,
                archived_at=archived_at,
                is_footage=is_footage,
                of_old=of_old,
            )

        for recording in manifest.recordings:
            for clip in recording.clips:
                add(clip.file, is_footage=True)
        for file in manifest.other_files:
            add(file, is_footage=False)

    def _add_names(self, manifest: Manifest) -> None:
        claims = self._claims
        for file in manifest.staged_files():
            for name in (file.name, *file.also_named):
                claims.add_name(exact_path(name), file.digests.sha256)
        for known in manifest.known:
            claims.add_name(exact_path(known.name), known.sha256)
        for one in manifest.not_taken:
            if one.code is FindingCode.EMPTY_FILE:
                claims.add_empty(exact_path(one.name))


def _parse_manifest(envelope: bytes, receipt: Receipt) -> Manifest:
    """Return the manifest that a verified receipt is about.

    Raises:
        EvidenceError: It is another one.
        ProtocolError: It is none.
    """
    sealed = take_apart(envelope)
    if sealed.payload_type != payload_type(Statement.MANIFEST):
        raise EvidenceError(f"a {sealed.payload_type[:80]!r} is no manifest")
    payload_sha256 = sha256_hex(sealed.payload)
    if receipt.payload_sha256 != payload_sha256:
        raise EvidenceError(f"receipt {receipt.receipt_id} is of another manifest")
    manifest = strict_json.parse(sealed.payload, Manifest, max_bytes=MAX_ENVELOPE_BYTES)
    if findings := check_receipt(receipt, manifest, payload_sha256=payload_sha256):
        raise EvidenceError(f"{findings[0].code.value}: {findings[0].detail}")
    return manifest
