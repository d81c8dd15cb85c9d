"""What the archive answers to a manifest: admission, refusal, receipt.

All three travel signed, on the dock's ``receipts`` topic. Only a receipt that
``check_receipt`` finds nothing against makes a recorder releasable.
"""

from enum import Enum, unique
from typing import Annotated

from msgspec import Meta

from protocol.digest import HexDigest
from protocol.findings import Finding, FindingCode
from protocol.identifiers import DockField, ManifestField, ReceiptField, RecordingField
from protocol.manifest import MAX_FILES, Manifest, PathText, SizeBytes, StagedFile, UtcTime
from protocol.strict_json import Message


@unique
class AdmissionState(Enum):
    """Whether a manifest is in the chain, or waits for the ones before it."""

    ADMITTED = "admitted"
    WAITING = "waiting"


class MissingFile(Message, frozen=True, kw_only=True):
    """A file of the manifest whose bytes the archive does not have yet."""

    sha256: HexDigest
    size_bytes: SizeBytes


class Admission(Message, frozen=True, kw_only=True):
    """The archive has kept the manifest; ``missing`` is what it still needs.

    ``expected_sequence`` is the next number that the archive needs from this dock.
    """

    manifest_id: ManifestField
    dock: DockField
    sequence: int
    payload_sha256: HexDigest
    state: AdmissionState
    expected_sequence: int
    answered_at: UtcTime
    missing: Annotated[tuple[MissingFile, ...], Meta(max_length=MAX_FILES)] = ()


class Refusal(Message, frozen=True, kw_only=True):
    """The archive did not admit a message, and kept it; ``code`` is the check that failed.

    ``message_sha256`` is the digest of the envelope as it arrived; the other
    names are there as far as they could be read from verified bytes.
    """

    dock: DockField
    message_sha256: HexDigest
    code: FindingCode
    detail: str
    answered_at: UtcTime
    manifest_id: ManifestField | None = None
    sequence: int | None = None


class ArchivedBag(Message, frozen=True, kw_only=True):
    """One bag as it stands in the archive, read back from its disk.

    ``recording_id`` is None for the bag of a docking's other files. ``path`` is
    relative to the archive. ``existing`` says that the bag was there before this
    manifest: the same content had been archived already.
    """

    recording_id: RecordingField | None
    path: PathText
    tagmanifest_sha256: HexDigest
    files: int
    size_bytes: SizeBytes
    existing: bool = False


class Receipt(Message, frozen=True, kw_only=True):
    """The archive holds, and has read back, everything that the manifest promised."""

    receipt_id: ReceiptField
    manifest_id: ManifestField
    dock: DockField
    sequence: int
    payload_sha256: HexDigest
    archived_at: UtcTime
    bags: Annotated[tuple[ArchivedBag, ...], Meta(max_length=MAX_FILES + 1)] = ()


def _counted(files: tuple[StagedFile, ...]) -> tuple[int, int]:
    return len(files), sum(file.size_bytes for file in files)


def check_receipt(
    receipt: Receipt, manifest: Manifest, *, payload_sha256: str
) -> tuple[Finding, ...]:
    """Return what speaks against *receipt* as the receipt of *manifest*; empty means trust it.

    Args:
        receipt: From a verified envelope of the archive's key.
        manifest: The manifest that this dock signed.
        payload_sha256: The digest of that manifest's exact bytes, 64 hex digits.
    """
    wanted = (manifest.manifest_id, manifest.dock, manifest.sequence, payload_sha256)
    named = (receipt.manifest_id, receipt.dock, receipt.sequence, receipt.payload_sha256)
    if named != wanted:
        return (
            Finding(code=FindingCode.RECEIPT_OTHER_MANIFEST, detail=f"{named} is not {wanted}"),
        )
    promised = {
        recording.recording_id: _counted(tuple(clip.file for clip in recording.clips))
        for recording in manifest.recordings
    } | ({None: _counted(manifest.other_files)} if manifest.other_files else {})
    archived = {bag.recording_id: (bag.files, bag.size_bytes) for bag in receipt.bags}
    if archived.keys() != promised.keys() or len(archived) != len(receipt.bags):
        return (
            Finding(
                code=FindingCode.RECEIPT_RECORDINGS_DIFFER,
                detail=f"{len(receipt.bags)} bags for {len(promised)} promised",
            ),
        )
    return tuple(
        Finding(
            code=FindingCode.RECEIPT_COUNTS_DIFFER,
            detail=f"{one}: {archived[one]} files and bytes, {counts} were promised",
        )
        for one, counts in promised.items()
        if archived[one] != counts
    )
