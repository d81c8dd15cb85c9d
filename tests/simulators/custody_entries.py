"""A custody log in memory: it signs checkpoints and proves receipts to one dock."""

from typing import Final

from protocol.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from protocol.custody import ReceiptIssued
from protocol.digest import sha256_hex
from protocol.envelope import parse_statement, take_apart
from protocol.keys import SigningKey
from protocol.log_proofs import Inclusion, LoggedReceipt, parse_seen, write_hashes
from protocol.merkle import leaf_hash, node_hash, prove_consistency, prove_inclusion, root
from protocol.receipt import Receipt
from protocol.strict_json import encode
from protocol.versions import Statement
from tests.simulators.sealed_manifests import NOW

ORIGIN: Final = "bayward-archive/simulated"


class CustodyEntries:
    """Entries, in order.

    Attributes:
        entries: Whoever cuts or changes them tampers with the log.
        shown: How many the dock has seen, as far as the archive knows.
    """

    def __init__(self, key: SigningKey) -> None:
        self.entries: list[bytes] = []
        self.shown = 0
        self._key = key

    def logged(self, receipt: bytes) -> bytes:
        """Return a receipt with what proves that it is in the log; it is entered first."""
        entry = receipt_entry(receipt)
        if entry not in self.entries:
            self.entries.append(entry)
        size = len(self.entries)
        inclusion = Inclusion(
            entry=entry,
            index=self.entries.index(entry),
            hashes=prove_inclusion(self.entries.index(entry), size, self._node),
            note=self.note(),
        )
        earlier, self.shown = self.shown, size
        can_show = 0 < earlier <= size
        return encode(
            LoggedReceipt(
                receipt=receipt.decode(),
                inclusion=inclusion.encode(),
                earlier=earlier if can_show else 0,
                consistency=write_hashes(
                    prove_consistency(earlier, size, self._node) if can_show else ()
                ),
            )
        )

    def take_seen(self, said: bytes) -> None:
        """Begin the next proof where a dock says that it stands, if it asks for that."""
        seen = parse_seen(said)
        if seen.asks_again:
            self.shown = open_checkpoint(seen.note.encode(), self._key.public).size

    def note(self) -> bytes:
        """Return the checkpoint over all entries."""
        size = len(self.entries)
        checkpoint = Checkpoint(origin=ORIGIN, size=size, root=root(size, self._node))
        return sign_checkpoint(checkpoint, self._key)

    def _node(self, level: int, index: int) -> bytes:
        if level == 0:
            return leaf_hash(self.entries[index])
        return node_hash(self._node(level - 1, 2 * index), self._node(level - 1, 2 * index + 1))


def receipt_entry(receipt: bytes) -> bytes:
    """Return the entry of a receipt."""
    sealed = take_apart(receipt)
    parsed = parse_statement(sealed, Statement.RECEIPT, Receipt)
    return encode(
        ReceiptIssued(
            at=NOW,
            receipt_id=parsed.receipt_id,
            manifest_id=parsed.manifest_id,
            dock=parsed.dock,
            sequence=parsed.sequence,
            payload_sha256=sha256_hex(sealed.payload),
        )
    )
