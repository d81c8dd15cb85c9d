"""Digests of one byte stream, from one pass."""

import hashlib
from typing import Annotated, Final

from msgspec import Meta

from protocol.strict_json import Message

# Hex in lower case on the wire, so that a line can be compared with sha256sum's output by eye.
HexDigest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]

DIGEST_HEX_LENGTH: Final = 64
ZERO_DIGEST: Final = "0" * DIGEST_HEX_LENGTH


class Digests(Message, frozen=True, kw_only=True):
    """What a byte stream hashes to: SHA-256 always, SM3 (GB/T 32905) where the site asks for it."""

    sha256: HexDigest
    sm3: HexDigest | None = None


class StreamDigest:
    """All digests of one stream, fed in order; hashlib frees the GIL for chunks above 2 KiB."""

    def __init__(self, *, with_sm3: bool = False) -> None:
        self._sha256 = hashlib.sha256()
        self._sm3 = hashlib.new("sm3") if with_sm3 else None
        self.size_bytes = 0

    def update(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take in the next piece of the stream, of any length."""
        self._sha256.update(chunk)
        if self._sm3 is not None:
            self._sm3.update(chunk)
        self.size_bytes += len(chunk)

    def digests(self) -> Digests:
        """Return the digests of all that was taken in so far; more may follow."""
        return Digests(
            sha256=self._sha256.hexdigest(),
            sm3=None if self._sm3 is None else self._sm3.hexdigest(),
        )


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of *data* as 64 hex digits in lower case."""
    return hashlib.sha256(data).hexdigest()
