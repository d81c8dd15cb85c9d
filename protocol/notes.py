"""Signed notes: a text, and below it a line for each key that signed it.

The name and the first bytes of a hash say which key a line is of; whoever does not know a key
passes over its lines. A cosignature is the line of somebody who watches a log: it says when, too.

Source:
    C2SP signed-note (Ed25519, type 0x01) and tlog-cosignature (cosignature/v1, type 0x04).
"""

import binascii
import hashlib
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final

from protocol.errors import NoteError, SignatureError, TooLargeError, UnknownKeyError
from protocol.keys import SigningKey, VerifyingKey

MAX_NOTE_BYTES: Final = 64 * 1024
# At least 16 must be read, says the source; a site has some hundred docks at most.
MAX_SIGNATURES: Final = 512

_KEY_HASH_BYTES: Final = 4
_TIME_BYTES: Final = 8
_LATEST_S: Final = (1 << 63) - 1
_DASH: Final = "\N{EM DASH} "


@unique
class NoteKind(Enum):
    """What a line signs, by its number in the source."""

    PLAIN = 1
    COSIGNATURE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteKey:
    """A public key under a name, for one kind of line.

    Raises:
        NoteError: No line could carry such a name.
    """

    name: str
    key: VerifyingKey
    kind: NoteKind = NoteKind.PLAIN

    def __post_init__(self) -> None:
        if not _is_name(self.name):
            raise NoteError(f"{self.name[:80]!r} cannot be the name of a key")

    @property
    def key_hash(self) -> bytes:
        """The four bytes that stand in front of each signature."""
        head = f"{self.name}\n".encode() + bytes([self.kind.value])
        return hashlib.sha256(head + self.key.raw).digest()[:_KEY_HASH_BYTES]

    @property
    def text(self) -> str:
        """The key as people hand it on: name, hash and key in one word."""
        material = bytes([self.kind.value]) + self.key.raw
        return f"{self.name}+{self.key_hash.hex()}+{b64encode(material).decode()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteLine:
    """One signature as it came: whose it claims to be, and its bytes behind the key's hash."""

    name: str
    key_hash: bytes
    signature: bytes

    def is_of(self, key: NoteKey) -> bool:
        """Return whether it claims to be of *key*."""
        return (self.name, self.key_hash) == (key.name, key.key_hash)

    def encode(self) -> bytes:
        """Return the line, its end included."""
        return f"{_DASH}{self.name} {b64encode(self.key_hash + self.signature).decode()}\n".encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A note taken apart; ``text`` is untrusted until `verify` has returned."""

    text: bytes
    lines: tuple[NoteLine, ...]

    def verify(self, key: NoteKey) -> None:
        """Return when *key* signed the text, and no line that claims to be of it is wrong.

        Raises:
            UnknownKeyError: No line claims to be of this key.
            SignatureError: One does, and is not.
        """
        if not list(_checked(self, key)):
            raise UnknownKeyError(f"not signed by {key.text[:120]}")

    def cosigned_at_s(self, key: NoteKey) -> int:
        """Return the latest time, in seconds since 1970, at which *key* cosigned the text.

        Raises:
            UnknownKeyError, SignatureError: As for `verify`.
        """
        times = [int.from_bytes(line.signature[:_TIME_BYTES]) for line in _checked(self, key)]
        if not times:
            raise UnknownKeyError(f"not cosigned by {key.text[:120]}")
        return max(times)

    def encode(self) -> bytes:
        """Return the note as it is written."""
        return self.text + b"\n" + b"".join(line.encode() for line in self.lines)


def read_note(untrusted: bytes) -> Note:
    """Return the parts of a note, *not yet verified*.

    Raises:
        TooLargeError: More than MAX_NOTE_BYTES.
        NoteError: It is no note.
    """
    if len(untrusted) > MAX_NOTE_BYTES:
        raise TooLargeError(f"{len(untrusted)} bytes, at most {MAX_NOTE_BYTES} are read")
    try:
        whole = untrusted.decode()
    except UnicodeDecodeError as error:
        raise NoteError(f"a note is UTF-8: {error}") from None
    if any(one < " " and one != "\n" for one in whole):
        raise NoteError("there are control characters in a note")
    text, empty_line, below = whole.rpartition("\n\n")
    if not empty_line or not below.endswith("\n"):
        raise NoteError("no signature lines below an empty line")
    lines = below[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise NoteError(f"{len(lines)} signatures, at most {MAX_SIGNATURES} are read")
    return Note(text=f"{text}\n".encode(), lines=tuple(map(_read_line, lines)))


def sign_text(text: bytes, name: str, key: SigningKey) -> NoteLine:
    """Return the line by which *key* signs a note's text, which ends in a newline."""
    whose = NoteKey(name=name, key=key.public)
    return NoteLine(name=name, key_hash=whose.key_hash, signature=key.sign(text))


def cosign_text(text: bytes, name: str, key: SigningKey, *, unix_s: int) -> NoteLine:
    """Return the line by which a watcher says that it saw this checkpoint, and when.

    Args:
        text: The checkpoint, signatures not included.
        name: The watcher's.
        key: The watcher's own; it signs nothing else in this form.
        unix_s: Seconds since 1970, 0 to 2^63 - 1.
    """
    whose = NoteKey(name=name, key=key.public, kind=NoteKind.COSIGNATURE)
    signature = unix_s.to_bytes(_TIME_BYTES) + key.sign(_cosigned(text, unix_s))
    return NoteLine(name=name, key_hash=whose.key_hash, signature=signature)


def decode_base64(text: str) -> bytes:
    """Return what *text* stands for; each value has one text.

    Raises:
        NoteError: It is not base64, or not the one text of its value.
    """
    try:
        value = binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise NoteError(f"not base64: {error}") from None
    if b64encode(value).decode() != text:
        raise NoteError("base64 that another text stands for as well")
    return value


def _checked(note: Note, key: NoteKey) -> Iterator[NoteLine]:
    for line in note.lines:
        if line.is_of(key):
            if not _signed(note.text, line, key):
                raise SignatureError(f"a line of {key.name} does not belong to this text")
            yield line


def _signed(text: bytes, line: NoteLine, key: NoteKey) -> bool:
    if key.kind is NoteKind.PLAIN:
        return key.key.verify(line.signature, text)
    unix_s = int.from_bytes(line.signature[:_TIME_BYTES])
    return unix_s <= _LATEST_S and key.key.verify(
        line.signature[_TIME_BYTES:], _cosigned(text, unix_s)
    )


def _cosigned(text: bytes, unix_s: int) -> bytes:
    return b"cosignature/v1\ntime %d\n" % unix_s + text


def _read_line(line: str) -> NoteLine:
    name, space, signature = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space or not _is_name(name):
        raise NoteError(f"{line[:80]!r} is no signature line")
    value = decode_base64(signature)
    if len(value) <= _KEY_HASH_BYTES:
        raise NoteError(f"a signature of {len(value)} bytes")
    return NoteLine(name=name, key_hash=value[:_KEY_HASH_BYTES], signature=value[_KEY_HASH_BYTES:])


def _is_name(text: str) -> bool:
    return bool(text) and not any(one.isspace() or one == "+" or one < " " for one in text)
