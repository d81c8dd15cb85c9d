"""Signed notes, checkpoints and cosignatures: good ones, forged ones, and bytes of any kind."""

from base64 import b64decode, b64encode
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint, sign_checkpoint
from protocol.errors import (
    NoteError,
    ProtocolError,
    SignatureError,
    TooLargeError,
    UnknownKeyError,
)
from protocol.keys import VerifyingKey
from protocol.notes import (
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    Note,
    NoteKey,
    NoteKind,
    cosign_text,
    read_note,
    sign_text,
)
from scripts.samples import signing_key
from tests.protocol.vectors import VECTORS, read_json

LOG: Final = signing_key("archive")
WATCHER: Final = signing_key("dock-01")
ORIGIN: Final = "bayward.example/log"
FOLDER: Final = VECTORS / "checkpoints"
# A note and its key as C2SP's signed-note gives them.
PUBLIC_KEY: Final = "AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
PUBLIC_NOTE: Final = (
    "This is an example message.\n\n— example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()
SPKI_HEAD: Final = bytes.fromhex("302a300506032b6570032100")
CHECKPOINT: Final = Checkpoint(origin=ORIGIN, size=7, root=bytes(range(32)))


def _note(text: bytes = CHECKPOINT.text()) -> Note:
    return Note(text=text, lines=(sign_text(text, ORIGIN, LOG),))


def test_the_public_example() -> None:
    """The key's hash and the signature are those of the source."""
    raw = b64decode(PUBLIC_KEY)[1:]
    key = NoteKey(name="example.com/foo", key=VerifyingKey.from_spki_der(SPKI_HEAD + raw))

    read_note(PUBLIC_NOTE).verify(key)

    assert key.text == f"example.com/foo+530d903a+{PUBLIC_KEY}"


@given(
    size=st.integers(0, 10**18 - 1),
    root=st.binary(min_size=32, max_size=32),
    times=st.lists(st.integers(0, 2**63 - 1), max_size=3),
)
def test_a_checkpoint_is_read_back(size: int, root: bytes, times: list[int]) -> None:
    """With whatever cosignatures, and each of these says when."""
    checkpoint = Checkpoint(origin=ORIGIN, size=size, root=root)
    signed = read_note(sign_checkpoint(checkpoint, LOG))
    lines = [cosign_text(signed.text, "dock-01", WATCHER, unix_s=time) for time in times]
    note = Note(text=signed.text, lines=(*signed.lines, *lines))

    assert open_checkpoint(note.encode(), LOG.public, origin=ORIGIN) == checkpoint
    assert open_checkpoint(note.encode(), LOG.public) == checkpoint
    watcher = NoteKey(name="dock-01", key=WATCHER.public, kind=NoteKind.COSIGNATURE)
    if times:
        assert read_note(note.encode()).cosigned_at_s(watcher) == max(times)
    else:
        with pytest.raises(UnknownKeyError):
            note.cosigned_at_s(watcher)


def test_a_cosignature_is_no_signature() -> None:
    """Nor the other way round, though key and name are the same."""
    text = CHECKPOINT.text()
    cosigned = Note(text=text, lines=(cosign_text(text, ORIGIN, LOG, unix_s=1),))
    watcher = NoteKey(name=ORIGIN, key=LOG.public, kind=NoteKind.COSIGNATURE)

    with pytest.raises(UnknownKeyError):
        open_checkpoint(cosigned.encode(), LOG.public)
    with pytest.raises(UnknownKeyError):
        _note().cosigned_at_s(watcher)


def test_a_changed_time_is_no_cosignature() -> None:
    """It is signed with the rest."""
    line = cosign_text(CHECKPOINT.text(), "dock-01", WATCHER, unix_s=1)
    later = (2).to_bytes(8) + line.signature[8:]
    changed = type(line)(name=line.name, key_hash=line.key_hash, signature=later)
    watcher = NoteKey(name="dock-01", key=WATCHER.public, kind=NoteKind.COSIGNATURE)

    with pytest.raises(SignatureError):
        Note(text=CHECKPOINT.text(), lines=(changed,)).cosigned_at_s(watcher)


@given(st.data())
def test_any_changed_byte_is_found(data: st.DataObject) -> None:
    """Of a checkpoint nothing can be changed."""
    good = bytearray(sign_checkpoint(CHECKPOINT, LOG))
    at = data.draw(st.integers(0, len(good) - 1))
    good[at] ^= data.draw(st.integers(1, 255))

    with pytest.raises(ProtocolError):
        open_checkpoint(bytes(good), LOG.public, origin=ORIGIN)


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8")))
def test_no_bytes_make_it_stumble(untrusted: bytes) -> None:
    """There is an answer, and it is a refusal."""
    with pytest.raises(ProtocolError):
        open_checkpoint(untrusted, LOG.public)


@given(st.binary(max_size=120))
def test_no_signed_text_makes_it_stumble(text: bytes) -> None:
    """Even what our own key signed is a checkpoint of ours, or is refused."""
    note = Note(text=text, lines=(sign_text(text, ORIGIN, LOG),))
    with pytest.raises(ProtocolError):
        open_checkpoint(note.encode(), LOG.public)


@pytest.mark.parametrize(
    "text",
    [
        f"{ORIGIN}\n7\n",
        f"{ORIGIN}\n07\n{b64encode(bytes(32)).decode()}\n",
        f"{ORIGIN}\n-7\n{b64encode(bytes(32)).decode()}\n",
        f"{ORIGIN}\n7\n{b64encode(bytes(31)).decode()}\n",
        f"{ORIGIN}\n7\n{b64encode(bytes(32)).decode()}\nmore\n",
        f"{ORIGIN}\n7\n{b64encode(bytes(32)).decode()}",
        f"\n7\n{b64encode(bytes(32)).decode()}\n",
        f"{ORIGIN}\n7\n{'A' * 42}B=\n",
        f"{ORIGIN}\n{'9' * 19}\n{b64encode(bytes(32)).decode()}\n",
        f"{ORIGIN}\n٧\n{b64encode(bytes(32)).decode()}\n",
    ],
)
def test_what_is_no_checkpoint(text: str) -> None:
    """Sizes and roots have one form each."""
    with pytest.raises(NoteError):
        parse_checkpoint(text.encode())


def test_bounds() -> None:
    """Too long, too many lines."""
    line = sign_text(b"x\n", ORIGIN, LOG)
    with pytest.raises(TooLargeError):
        read_note(bytes(MAX_NOTE_BYTES + 1))
    assert len(read_note(Note(text=b"x\n", lines=(line,) * 16).encode()).lines) == 16
    with pytest.raises(NoteError, match="signatures"):
        read_note(b"x\n\n" + "— a AAAAAAAA\n".encode() * (MAX_SIGNATURES + 1))


@pytest.mark.parametrize("text", [b"x\ty\n", b"x\r\n", b"\0\n", b"\x1b[2J\n"])
def test_control_characters_are_in_no_note(text: bytes) -> None:
    """Whoever signed it."""
    with pytest.raises(NoteError, match="control"):
        read_note(Note(text=text, lines=(sign_text(text, ORIGIN, LOG),)).encode())


def test_a_key_without_a_signature_is_no_line() -> None:
    """Four bytes say which key it is; behind them there is something."""
    with pytest.raises(NoteError, match="4 bytes"):
        read_note(b"x\n\n\xe2\x80\x94 a AAAAAA==\n")


def test_a_time_that_is_none() -> None:
    """The highest bit is not set in any: the source has it so."""
    text = CHECKPOINT.text()
    watcher = NoteKey(name="dock-01", key=WATCHER.public, kind=NoteKind.COSIGNATURE)
    last, none = (cosign_text(text, "dock-01", WATCHER, unix_s=(1 << 63) - at) for at in (1, 0))

    assert Note(text=text, lines=(last,)).cosigned_at_s(watcher) == (1 << 63) - 1
    with pytest.raises(SignatureError):
        Note(text=text, lines=(none,)).cosigned_at_s(watcher)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u2003b", "a\n", "a\0"])
def test_names_that_no_line_can_carry(name: str) -> None:
    """They would be read as something else."""
    with pytest.raises(NoteError):
        NoteKey(name=name, key=LOG.public)


@pytest.mark.parametrize("case", read_json(FOLDER / "cases.json"), ids=lambda case: case["note"])
def test_committed_notes(case: dict[str, str]) -> None:
    """Each is what it was when it was committed: good, or wrong in the way that is named."""
    untrusted = (FOLDER / case["note"]).read_bytes()
    expected = case.get("error")
    if expected is None:
        opened = open_checkpoint(untrusted, LOG.public, origin=case["origin"])
        assert {"size": str(opened.size), "root": opened.root.hex()} == {
            name: case[name] for name in ("size", "root")
        }
        return
    with pytest.raises(ProtocolError) as raised:
        open_checkpoint(untrusted, LOG.public, origin=case["origin"])
    assert raised.value.code == expected
