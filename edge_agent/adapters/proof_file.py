"""The file by which edge-agent shows edge-mount that a recorder's footage is archived.

Envelopes, each after its length as four bytes, the most significant first: the registry in force,
then manifest and receipt in turn. Whoever reads it verifies each before it is believed.
"""

import os
import stat
import struct
from collections.abc import Iterator
from typing import BinaryIO, Final

from edge_agent.erasing.proof import Proof
from edge_agent.mounting.errors import EvidenceError
from protocol.envelope import MAX_ENVELOPE_BYTES, open_statement
from protocol.errors import ProtocolError
from protocol.registry import Registry
from protocol.versions import Statement

_LENGTH: Final = struct.Struct(">I")
# A hundred thousand files of one recorder are named in some 60 MiB.
_MOST_BYTES: Final = 1 << 30


def write_envelope(file: BinaryIO, envelope: bytes) -> None:
    """Add an envelope to the file; blocking."""
    file.write(_LENGTH.pack(len(envelope)))
    file.write(envelope)


def read_proof(fd: int, proof: Proof) -> Registry:
    """Add everything that a file holds to *proof*, and return the registry; blocking.

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
    envelopes = _envelopes(fd, found.st_size)
    try:
        registry = open_statement(
            next(envelopes, b""), Statement.REGISTRY, Registry, proof.archive_keys
        )
    except ProtocolError as error:
        raise EvidenceError(f"the registry: {error.code}: {error}") from error
    for manifest in envelopes:
        receipt = next(envelopes, None)
        if receipt is None:
            raise EvidenceError("a manifest without a receipt")
        proof.add(manifest, receipt)
    return registry


def _envelopes(fd: int, total_bytes: int) -> Iterator[bytes]:
    at = 0
    # Not beyond what it was: whoever has it open may write on.
    while at < total_bytes and (length := _part(fd, at, _LENGTH.size)):
        [size_bytes] = _LENGTH.unpack(length)
        if not 0 < size_bytes <= MAX_ENVELOPE_BYTES:
            raise EvidenceError(f"an envelope of {size_bytes} bytes")
        yield _part(fd, at + _LENGTH.size, size_bytes)
        at += _LENGTH.size + size_bytes


def _part(fd: int, at: int, size_bytes: int) -> bytes:
    """Return so many bytes from a place, or none at the file's end."""
    part = b""
    while more := os.pread(fd, size_bytes - len(part), at + len(part)):
        part += more
    if part and len(part) < size_bytes:
        raise EvidenceError("it ends in the middle")
    return part
