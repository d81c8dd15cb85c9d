"""The file by which edge-agent shows edge-mount that a recorder's footage is archived.

Envelopes, each after its length as four bytes, the most significant first: the registry in force,
then manifest and receipt in turn, those of the docking itself before those of earlier ones.
Whoever reads it verifies each before it is believed, and has no more than two of them in memory.
"""

import os
import stat
import struct
from dataclasses import dataclass
from typing import BinaryIO, Final

from edge_agent.erasing.proof import (
    MAX_MANIFEST_BYTES,
    MAX_RECEIPT_BYTES,
    MAX_REGISTRY_BYTES,
    Proof,
)
from edge_agent.mounting.errors import EvidenceError
from protocol.envelope import open_statement
from protocol.errors import ProtocolError
from protocol.registry import Erasing, Registry
from protocol.versions import Statement

_LENGTH: Final = struct.Struct(">I")
# A hundred thousand files of one recorder are named in some 60 MiB.
_MOST_BYTES: Final = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteRule:
    """What a site's registry says about erasing, without the rest of it."""

    registry_version: int
    erasing: Erasing


def write_envelope(file: BinaryIO, envelope: bytes) -> None:
    """Add an envelope to the file; blocking."""
    file.write(_LENGTH.pack(len(envelope)))
    file.write(envelope)


def read_proof(fd: int, proof: Proof) -> SiteRule:
    """Add everything that a file holds to *proof*, and return the site's rule; blocking.

    Args:
        fd: Whatever somebody handed over.
        proof: Empty.

    Raises:
        EvidenceError: It is not such a file, or something in it is not signed by the archive.
        OSError: It cannot be read.
    """
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_size > _MOST_BYTES:
        raise EvidenceError("no regular file of a proof's size")
    envelopes = _Envelopes(fd, found.st_size)
    rule = _read_rule(envelopes.next(MAX_REGISTRY_BYTES), proof)
    while manifest := envelopes.next(MAX_MANIFEST_BYTES):
        receipt = envelopes.next(MAX_RECEIPT_BYTES)
        if not receipt:
            raise EvidenceError("a manifest without a receipt")
        proof.add(manifest, receipt)
    return rule


def _read_rule(envelope: bytes, proof: Proof) -> SiteRule:
    try:
        registry = open_statement(envelope, Statement.REGISTRY, Registry, proof.archive_keys)
    except ProtocolError as error:
        raise EvidenceError(f"the registry: {error.code}: {error}") from error
    return SiteRule(registry_version=registry.version, erasing=registry.erasing)


class _Envelopes:
    """Reads one envelope after the other."""

    def __init__(self, fd: int, total_bytes: int) -> None:
        self._fd = fd
        # Not beyond what it was: whoever has it open may write on.
        self._total_bytes = total_bytes
        self._at = 0

    def next(self, most_bytes: int) -> bytes:
        """Return the next one, of so many bytes at most, or none at the end."""
        if self._at >= self._total_bytes or not (length := self._part(_LENGTH.size)):
            return b""
        [size_bytes] = _LENGTH.unpack(length)
        if not 0 < size_bytes <= most_bytes:
            raise EvidenceError(f"an envelope of {size_bytes} bytes, at most {most_bytes} are read")
        if not (envelope := self._part(size_bytes)):
            raise EvidenceError("it ends in the middle")
        return envelope

    def _part(self, size_bytes: int) -> bytes:
        """Return the next bytes, so many, or none at the file's end."""
        part = b""
        while more := os.pread(self._fd, size_bytes - len(part), self._at + len(part)):
            part += more
        if part and len(part) < size_bytes:
            raise EvidenceError("it ends in the middle")
        self._at += len(part)
        return part
