"""Checkpoints: how many entries a custody log has, and the root of their tree, signed.

Source:
    C2SP tlog-checkpoint. Lines that it lets a log add are refused: ours adds none, and nobody who
    watches the log could check them.
"""

import re
from base64 import b64encode
from dataclasses import dataclass
from typing import Final

from protocol.errors import NoteError
from protocol.keys import SigningKey, VerifyingKey
from protocol.merkle import HASH_BYTES
from protocol.notes import Note, NoteKey, decode_base64, read_note, sign_text

_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,17}")
_LINES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """One state of a log.

    Attributes:
        origin: The log's name; also the name of the key that signs for it.
        size: Entries.
        root: Of their tree.
    """

    origin: str
    size: int
    root: bytes

    def text(self) -> bytes:
        """Return the exact bytes that are signed."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n".encode()


def sign_checkpoint(checkpoint: Checkpoint, key: SigningKey) -> bytes:
    """Return *checkpoint* as a note signed by the log."""
    text = checkpoint.text()
    return Note(text=text, lines=(sign_text(text, checkpoint.origin, key),)).encode()


def open_checkpoint(
    untrusted: bytes, key: VerifyingKey, *, origin: str | None = None
) -> Checkpoint:
    """Take apart, verify, then parse.

    Args:
        untrusted: A signed note.
        key: The log's.
        origin: Of which log; None for whichever *key* signs for.

    Raises:
        NoteError: It is no checkpoint, or of another log.
        UnknownKeyError, SignatureError: *key* did not sign it.
        TooLargeError: It is too long to be one.
    """
    note = read_note(untrusted)
    claimed = note.text.decode().partition("\n")[0] if origin is None else origin
    note.verify(NoteKey(name=claimed, key=key))
    checkpoint = parse_checkpoint(note.text)
    if checkpoint.origin != claimed:
        raise NoteError(f"a checkpoint of {checkpoint.origin[:80]!r}, not of {claimed[:80]!r}")
    return checkpoint


def parse_checkpoint(text: bytes) -> Checkpoint:
    """Return what the text of a *verified* note says.

    Raises:
        NoteError: It is no checkpoint.
    """
    *lines, rest = text.decode(errors="replace").split("\n")
    if len(lines) != _LINES or rest:
        raise NoteError("a checkpoint has three lines")
    origin, size, root = lines
    if not origin or _SIZE.fullmatch(size) is None:
        raise NoteError(f"neither a log nor a size: {origin[:80]!r}, {size[:40]!r}")
    decoded = decode_base64(root)
    if len(decoded) != HASH_BYTES:
        raise NoteError(f"a root of {len(decoded)} bytes")
    return Checkpoint(origin=origin, size=int(size), root=decoded)
