"""The rules of tus 1.0.0 as values: what a request asks for, and why it cannot be had.

Source:
    https://tus.io/protocols/resumable-upload (core, creation, creation-with-upload, checksum).
"""

import binascii
import re
from base64 import b64decode
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final

from protocol.digest import DIGEST_HEX_LENGTH
from protocol.errors import IdentifierError
from protocol.identifiers import ManifestId, parse_manifest_id

TUS_VERSION: Final = "1.0.0"
CHECKSUM_ALGORITHM: Final = "sha256"
OFFSET_MEDIA_TYPE: Final = "application/offset+octet-stream"

_MAX_METADATA_CHARACTERS: Final = 4_000
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_SHA256: Final = re.compile(rf"[0-9a-f]{{{DIGEST_HEX_LENGTH}}}")
_SHA256_BYTES: Final = 32


@unique
class UploadFault(Enum):
    """Why a request about an upload is refused; the value is its E-code."""

    NOT_A_DOCK = "E-UPL-101"
    NOT_MISSING = "E-UPL-102"
    BAD_REQUEST = "E-UPL-103"
    OTHER_VERSION = "E-UPL-104"
    OTHER_MEDIA_TYPE = "E-UPL-105"
    NO_UPLOAD = "E-UPL-106"
    OFFSET_DIFFERS = "E-UPL-107"
    TOO_LONG = "E-UPL-108"
    DIGEST_DIFFERS = "E-UPL-109"
    OVERTAKEN = "E-UPL-110"
    STALLED = "E-UPL-111"
    BUSY = "E-UPL-112"
    ARCHIVE_FULL = "E-UPL-113"
    DISK_FAILED = "E-UPL-114"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is wrong with a request; *detail* is for people."""

    kind: UploadFault
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """A request to start, or to find again, the upload of one file of a manifest."""

    manifest_id: ManifestId
    sha256: str
    length_bytes: int


def parse_creation(
    *, untrusted_length: str | None, untrusted_metadata: str | None
) -> Creation | Fault:
    """Return what the headers Upload-Length and Upload-Metadata ask for.

    Metadata that we do not know is let be: standard clients send a file's name and type.
    """
    length_bytes = parse_number(untrusted_length, "Upload-Length")
    if isinstance(length_bytes, Fault):
        return length_bytes
    metadata = _parse_metadata(untrusted_metadata or "")
    if isinstance(metadata, Fault):
        return metadata
    upload = parse_upload_id(f"{metadata.get('manifest', '')}.{metadata.get('sha256', '')}")
    if isinstance(upload, Fault):
        return _bad("Upload-Metadata names no manifest and sha256")
    return Creation(manifest_id=upload[0], sha256=upload[1], length_bytes=length_bytes)


def parse_number(untrusted: str | None, header: str) -> int | Fault:
    """Return the number of bytes in *header*, 0 to 10^19 - 1."""
    if untrusted is None or _DECIMAL.fullmatch(untrusted) is None:
        return _bad(f"{header} {untrusted!r:.80} is no number of bytes")
    return int(untrusted)


def parse_checksum(untrusted: str | None) -> bytes | Fault | None:
    """Return the 32 bytes of the header Upload-Checksum; None without one."""
    if untrusted is None:
        return None
    algorithm, _, encoded = untrusted.partition(" ")
    if algorithm != CHECKSUM_ALGORITHM:
        return _bad(f"checksum algorithm {algorithm!r:.80}; known is {CHECKSUM_ALGORITHM}")
    digest = _decoded(encoded)
    if digest is None or len(digest) != _SHA256_BYTES:
        return _bad("Upload-Checksum is not the base64 of 32 bytes")
    return digest


def upload_id(manifest_id: ManifestId, sha256: str) -> str:
    """Return the id of a file's upload: the same for the same file, safe in a URL."""
    return f"{manifest_id}.{sha256}"


def parse_upload_id(untrusted: str) -> tuple[ManifestId, str] | Fault:
    """Return the manifest and the digest that an upload's id is made of."""
    manifest, _, sha256 = untrusted.partition(".")
    try:
        manifest_id = parse_manifest_id(manifest)
    except IdentifierError:
        return Fault(kind=UploadFault.NO_UPLOAD, detail=f"no upload {untrusted!r:.140}")
    if _SHA256.fullmatch(sha256) is None:
        return Fault(kind=UploadFault.NO_UPLOAD, detail=f"no upload {untrusted!r:.140}")
    return manifest_id, sha256


def judge_append(
    *, told_offset: int, offset_bytes: int, length_bytes: int, content_bytes: int | None
) -> Fault | None:
    """Return why bytes cannot be appended; None if they can.

    Args:
        told_offset: Where the request wants to go on.
        offset_bytes: How much is there.
        length_bytes: The whole file's size.
        content_bytes: How much the request says it brings; None if it does not say.
    """
    if told_offset != offset_bytes:
        return Fault(
            kind=UploadFault.OFFSET_DIFFERS,
            detail=f"Upload-Offset {told_offset}, where {offset_bytes} bytes are there",
        )
    if content_bytes is not None and offset_bytes + content_bytes > length_bytes:
        return too_long(length_bytes)
    return None


def too_long(length_bytes: int) -> Fault:
    """Return the fault of more bytes than the manifest promised."""
    return Fault(kind=UploadFault.TOO_LONG, detail=f"more than the file's {length_bytes} bytes")


def _parse_metadata(untrusted: str) -> dict[str, str] | Fault:
    """Return the pairs whose values are ASCII; the ones that matter are."""
    if len(untrusted) > _MAX_METADATA_CHARACTERS:
        return _bad(f"Upload-Metadata of {len(untrusted)} characters")
    pairs: dict[str, str] = {}
    for pair in untrusted.split(","):
        key, _, encoded = pair.strip().partition(" ")
        value = _decoded(encoded)
        if value is None:
            return _bad(f"Upload-Metadata {key!r:.80} is not base64")
        if key in pairs:
            return _bad(f"Upload-Metadata names {key!r:.80} twice")
        pairs[key] = value.decode("ascii", errors="replace")
    return pairs


def _decoded(untrusted: str) -> bytes | None:
    try:
        return b64decode(untrusted, validate=True)
    except (binascii.Error, ValueError):
        return None


def _bad(detail: str) -> Fault:
    return Fault(kind=UploadFault.BAD_REQUEST, detail=detail)
