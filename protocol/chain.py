"""The chain of one dock's manifests: numbered without gaps, each naming the one before."""

from dataclasses import dataclass
from enum import Enum, unique
from typing import Final

from protocol.digest import ZERO_DIGEST


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainHead:
    """The last manifest of a chain: its number, and the SHA-256 of its payload's exact bytes."""

    sequence: int
    payload_sha256: str


# Before the first manifest: number 1 names this digest as its predecessor.
GENESIS: Final = ChainHead(sequence=0, payload_sha256=ZERO_DIGEST)


@unique
class Link(Enum):
    """How a manifest stands to a chain."""

    NEXT = "next"
    LATER = "later"
    REPEATED = "repeated"
    FORKED = "forked"


def judge(
    head: ChainHead,
    *,
    sequence: int,
    previous_sha256: str,
    payload_sha256: str,
    recorded_sha256: str | None,
) -> Link:
    """Return how a manifest stands to the chain that ends in *head*.

    Args:
        head: The last manifest that was taken into the chain.
        sequence: The manifest's number, >= 1.
        previous_sha256: What it names as its predecessor's digest.
        payload_sha256: The digest of its own exact bytes.
        recorded_sha256: The digest of what the chain already has under this number, if anything;
            also of a manifest that waits for its predecessors.

    Returns:
        NEXT: it follows the head. LATER: numbers before it are missing; keep it.
        REPEATED: the chain has these very bytes. FORKED: the dock signed two histories.
    """
    if recorded_sha256 is not None and recorded_sha256 != payload_sha256:
        return Link.FORKED
    if sequence <= head.sequence:
        return Link.REPEATED if recorded_sha256 == payload_sha256 else Link.FORKED
    if sequence > head.sequence + 1:
        return Link.LATER
    return Link.NEXT if previous_sha256 == head.payload_sha256 else Link.FORKED
