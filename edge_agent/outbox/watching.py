"""What a dock remembers of the archive's custody log, and what follows from what it is shown.

A log only grows: whatever the archive signs has to begin with what this dock saw before. Where that
is not shown, no receipt counts.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

from protocol.checkpoint import Checkpoint
from protocol.digest import sha256_hex
from protocol.envelope import take_apart
from protocol.errors import ProofError, UnknownKeyError
from protocol.keys import VerifyingKey
from protocol.log_proofs import (
    LoggedReceipt,
    logged_receipt_entry,
    read_hashes,
    read_inclusion,
)
from protocol.manifest import LogState, WatchedLog
from protocol.merkle import check_consistency
from protocol.receipt import Receipt

# What an archive needs to hear where a dock stands and to begin there, many times over.
DOUBT_MS: Final = 10 * 60 * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What was seen last.

    Attributes:
        note: The checkpoint as the archive signed it.
        unproved_since_ms: Unix time since when nothing was shown to go on from here.
        is_doubted: That has lasted too long to be an accident.
        contradiction: A signed checkpoint that cannot be true beside this one.
    """

    note: bytes
    checkpoint: Checkpoint
    unproved_since_ms: int | None = None
    is_doubted: bool = False
    contradiction: bytes | None = None

    @property
    def state(self) -> LogState:
        """What is to be made of the log."""
        if self.contradiction is not None:
            return LogState.CONTRADICTED
        return LogState.DOUBTED if self.is_doubted else LogState.CONSISTENT

    def told(self) -> WatchedLog:
        """Return what manifests say of it."""
        seen = self.checkpoint
        return WatchedLog(
            origin=seen.origin, size=seen.size, root_sha256=seen.root.hex(), state=self.state
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What came with a receipt, each part verified by itself.

    Attributes:
        checkpoint: Of the log in which the receipt stands.
        note: It, as it was signed.
        inclusion: The proof as it came.
        earlier: From which size on *hashes* prove.
    """

    checkpoint: Checkpoint
    note: bytes
    inclusion: str
    earlier: int
    hashes: tuple[bytes, ...]


def verify_shown(logged: LoggedReceipt, receipt: Receipt, keys: Collection[VerifyingKey]) -> Shown:
    """Return what came with a verified *receipt*, if it is in a log that one of *keys* signs.

    Raises:
        ProtocolError: It is not.
    """
    inclusion = read_inclusion(logged.inclusion)
    entry = logged_receipt_entry(inclusion.entry)
    payload_sha256 = sha256_hex(take_apart(logged.receipt.encode()).payload)
    if (entry.receipt_id, entry.payload_sha256) != (receipt.receipt_id, payload_sha256):
        raise ProofError(f"the entry is of receipt {entry.receipt_id}")
    for key in keys:
        try:
            checkpoint = inclusion.verify(key)
        except UnknownKeyError:
            continue
        return Shown(
            checkpoint=checkpoint,
            note=inclusion.note,
            inclusion=logged.inclusion,
            earlier=logged.earlier,
            hashes=read_hashes(logged.consistency),
        )
    raise UnknownKeyError("the checkpoint is not signed by the archive")


def look(memory: Memory | None, shown: Shown, *, now_ms: int) -> tuple[Memory, bool]:
    """Return what is remembered from here on, and whether a receipt that was shown counts.

    Args:
        memory: None for a dock that has seen nothing yet: it believes what it sees first.
        shown: From `verify_shown`.
        now_ms: Unix time.
    """
    if memory is None:
        return Memory(note=shown.note, checkpoint=shown.checkpoint), True
    if memory.contradiction is not None:
        return memory, False
    known, found = memory.checkpoint, shown.checkpoint
    if found.size == known.size or found.origin != known.origin:
        if found != known:
            return replace(memory, contradiction=shown.note), False
        return Memory(note=memory.note, checkpoint=known), True
    if _goes_on(known, shown):
        return Memory(note=shown.note, checkpoint=found), True
    since_ms = memory.unproved_since_ms
    if since_ms is None or since_ms > now_ms:  # a clock that was set back
        since_ms = now_ms
    is_doubted = memory.is_doubted or now_ms - since_ms >= DOUBT_MS
    return replace(memory, unproved_since_ms=since_ms, is_doubted=is_doubted), False


def _goes_on(known: Checkpoint, shown: Shown) -> bool:
    if shown.earlier != known.size:
        return False
    try:
        check_consistency(
            known.size, shown.checkpoint.size, shown.hashes, known.root, shown.checkpoint.root
        )
    except ProofError:
        return False
    return True
