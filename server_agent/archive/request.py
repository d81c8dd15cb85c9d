"""What the archive needs to know to close one bag."""

from dataclasses import dataclass
from pathlib import PurePosixPath

from protocol.identifiers import ManifestId
from protocol.manifest import Manifest, Recording, StagedFile


@dataclass(frozen=True, slots=True, kw_only=True)
class BagFile:
    """One payload file: its name below data/, from `safe_names`, and what the dock claims of it."""

    safe_name: str
    file: StagedFile


@dataclass(frozen=True, slots=True, kw_only=True)
class BagRequest:
    """One bag, whose payload files have all arrived.

    Attributes:
        manifest_id: The manifest that promised the files.
        group: The recording's id, or layout.DOCKING for the docking's other files.
        target: Where the bag shall stand, relative to the archive; from layout.
        files: In the order of the manifest.
        envelope: The manifest's DSSE envelope, byte for byte as it arrived.
        payload: The envelope's payload, verified.
        signature: The envelope's raw signature, 64 bytes.
        dock_certificate_pem: Of the key that signed it.
        ca_pem: Of the site's authority.
        recording: The recording, as *manifest* has it; None for other files.
        manifest: The payload, parsed.
    """

    manifest_id: ManifestId
    group: str
    target: PurePosixPath
    files: tuple[BagFile, ...]
    envelope: bytes
    payload: bytes
    signature: bytes
    dock_certificate_pem: bytes
    ca_pem: bytes
    recording: Recording | None
    manifest: Manifest
