"""What shows a dock that a receipt stands in the archive's custody log, and what a dock answers.

A receipt travels with its entry's proof of inclusion under a checkpoint, and with the proof that
this checkpoint's log begins with the one that the dock saw last. None of it is signed but the
receipt and the checkpoint: the rest is arithmetic.

Source:
    C2SP tlog-proof for what is handed out; the proof of consistency as in tlog-witness, from an
    earlier size; the dock's word is a cosignature (`protocol.notes.cosign_text`).
"""

import re
from base64 import b64encode
from dataclasses import dataclass
from typing import Annotated, Final

from msgspec import Meta

from protocol import strict_json
from protocol.checkpoint import Checkpoint, open_checkpoint
from protocol.custody import ReceiptIssued, parse_entry
from protocol.errors import NoteError, ProofError
from protocol.keys import VerifyingKey
from protocol.merkle import HASH_BYTES, check_inclusion, leaf_hash
from protocol.notes import MAX_NOTE_BYTES, decode_base64
from protocol.strict_json import Message
from protocol.tiles import MAX_ENTRY_BYTES

# The receipt of 2,001 bags of 400 bytes each, in base64, and what goes with it.
MAX_LOGGED_RECEIPT_BYTES: Final = 3 * 1024 * 1024
# As high as a tree of 2^63 entries; a proof between two of them has one hash more.
MAX_HASHES: Final = 64

_HEAD: Final = "c2sp.org/tlog-proof@v1"
_INDEX: Final = re.compile(r"index (0|[1-9][0-9]{0,17})")
_MOST: Final = (1 << 63) - 1
# The text of a proof: entry, hashes, checkpoint, in base64.
_MAX_PROOF: Final = 2 * (MAX_ENTRY_BYTES + MAX_NOTE_BYTES) + 64 * MAX_HASHES

_Hash = Annotated[str, Meta(max_length=44)]
_NoteText = Annotated[str, Meta(max_length=MAX_NOTE_BYTES)]


class LoggedReceipt(Message, frozen=True, kw_only=True):
    """A receipt, and what shows that it is in the log.

    Attributes:
        receipt: The receipt's envelope, byte for byte.
        inclusion: A proof as `Inclusion.encode` writes it; its entry is the receipt's.
        earlier: The size of the log that the dock saw last, as far as the archive knows; 0: none.
        consistency: Base64 of the hashes that lead from there to the checkpoint of *inclusion*.
    """

    receipt: Annotated[str, Meta(max_length=MAX_LOGGED_RECEIPT_BYTES)]
    inclusion: Annotated[str, Meta(max_length=_MAX_PROOF)]
    earlier: Annotated[int, Meta(ge=0, le=_MOST)] = 0
    consistency: Annotated[tuple[_Hash, ...], Meta(max_length=MAX_HASHES)] = ()


class SeenCheckpoint(Message, frozen=True, kw_only=True):
    """What a dock says of the log: the checkpoint that it saw last, cosigned.

    Attributes:
        note: The archive's checkpoint with the dock's line.
        asks_again: What came since does not go on from there: the archive shall begin there.
    """

    note: _NoteText
    asks_again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Inclusion:
    """An entry, and the hashes that lead from it to the checkpoint of a log.

    Attributes:
        note: The checkpoint, signed.
    """

    entry: bytes
    index: int
    hashes: tuple[bytes, ...]
    note: bytes

    def encode(self) -> str:
        """Return the proof as C2SP tlog-proof has it; the entry is its extra data."""
        lines = [_HEAD, f"extra {b64encode(self.entry).decode()}", f"index {self.index}"]
        lines += write_hashes(self.hashes)
        return "".join(f"{line}\n" for line in lines) + "\n" + self.note.decode()

    def verify(self, key: VerifyingKey, *, origin: str | None = None) -> Checkpoint:
        """Return the checkpoint of the log that *key* signs, in which the entry stands.

        Raises:
            NoteError, UnknownKeyError, SignatureError: The checkpoint is none of the log's.
            ProofError: The entry is not shown to be under it.
        """
        checkpoint = open_checkpoint(self.note, key, origin=origin)
        check_inclusion(
            self.index, checkpoint.size, leaf_hash(self.entry), self.hashes, checkpoint.root
        )
        return checkpoint


def read_inclusion(untrusted: str) -> Inclusion:
    """Return a proof's parts, *not yet verified*.

    Raises:
        ProofError: It is none, or has no entry as its extra data.
        NoteError: Something in it is not base64.
    """
    if len(untrusted) > _MAX_PROOF:
        raise ProofError(f"a proof of {len(untrusted)} characters, at most {_MAX_PROOF} are read")
    above, empty_line, note = untrusted.partition("\n\n")
    head, extra, index, *hashes = [*above.split("\n"), "", ""]
    numbered = _INDEX.fullmatch(index)
    if head != _HEAD or not extra.startswith("extra ") or numbered is None or not empty_line:
        raise ProofError("no proof of an entry")
    return Inclusion(
        entry=decode_base64(extra.removeprefix("extra ")),
        index=int(numbered[1]),
        hashes=read_hashes(hashes[:-2]),
        note=note.encode(errors="replace"),
    )


def logged_receipt_entry(entry: bytes) -> ReceiptIssued:
    """Return what a receipt's entry says.

    Raises:
        ProtocolError: From `parse_entry`.
        ProofError: It is about something else.
    """
    found = parse_entry(entry)
    if not isinstance(found, ReceiptIssued):
        raise ProofError("the entry is not a receipt's")
    return found


def write_hashes(hashes: tuple[bytes, ...]) -> tuple[str, ...]:
    """Return hashes as base64."""
    return tuple(b64encode(one).decode() for one in hashes)


def read_hashes(untrusted: tuple[str, ...] | list[str]) -> tuple[bytes, ...]:
    """Return hashes from base64.

    Raises:
        NoteError: One is not base64, or no SHA-256.
        ProofError: There are more than any proof has.
    """
    if len(untrusted) > MAX_HASHES:
        raise ProofError(f"{len(untrusted)} hashes, at most {MAX_HASHES} are read")
    hashes = tuple(map(decode_base64, untrusted))
    if any(len(one) != HASH_BYTES for one in hashes):
        raise NoteError("a hash is of 32 bytes")
    return hashes


def parse_logged_receipt(untrusted: bytes) -> LoggedReceipt:
    """Return the parts of a message; nothing in them is verified.

    Raises:
        ProtocolError: From strict_json.parse.
    """
    return strict_json.parse(untrusted, LoggedReceipt, max_bytes=MAX_LOGGED_RECEIPT_BYTES)


def parse_seen(untrusted: bytes) -> SeenCheckpoint:
    """Return what a dock says; its note is not verified.

    Raises:
        ProtocolError: From strict_json.parse.
    """
    return strict_json.parse(untrusted, SeenCheckpoint, max_bytes=2 * MAX_NOTE_BYTES)
