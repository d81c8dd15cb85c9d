"""What proves a receipt to a dock: written, read again, and refused when it is not what it says."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.outbox.watching import Memory, look, verify_shown
from protocol.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from protocol.custody import BagArchived
from protocol.envelope import open_statement
from protocol.errors import ProofError, ProtocolError
from protocol.log_proofs import (
    MAX_HASHES,
    Inclusion,
    logged_receipt_entry,
    parse_logged_receipt,
    parse_seen,
    read_hashes,
    read_inclusion,
    write_hashes,
)
from protocol.merkle import prove_inclusion, root
from protocol.notes import NoteKey, NoteKind, read_note
from protocol.receipt import Receipt
from protocol.strict_json import encode
from protocol.tiles import Edge
from protocol.versions import Statement
from scripts.samples import TIME, chain, signing_key
from tests.protocol.vectors import VECTORS, keys

KEY: Final = signing_key("archive")
ORIGIN: Final = "bayward.example/log"


def proof(index: int, size: int) -> Inclusion:
    entries = [b"entry %d" % number for number in range(size)]
    edge, _ = Edge().extend(entries)
    checkpoint = Checkpoint(origin=ORIGIN, size=size, root=root(size, edge.nodes))
    return Inclusion(
        entry=entries[index],
        index=index,
        hashes=prove_inclusion(index, size, edge.nodes),
        note=sign_checkpoint(checkpoint, KEY),
    )


@given(size=st.integers(1, 200), data=st.data())
def test_a_proof_is_read_as_it_was_written(size: int, data: st.DataObject) -> None:
    """Byte for byte; and it holds."""
    written = proof(data.draw(st.integers(0, size - 1)), size)

    read = read_inclusion(written.encode())

    assert read == written
    assert read.verify(KEY.public, origin=ORIGIN).size == size


@given(size=st.integers(1, 40), data=st.data())
def test_a_changed_proof_does_not_hold(size: int, data: st.DataObject) -> None:
    """Whatever character is another one: it is refused, or says the very same."""
    written = proof(data.draw(st.integers(0, size - 1)), size)
    text = written.encode()
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + data.draw(st.characters(codec="utf-8")) + text[at + 1 :]

    try:
        read = read_inclusion(changed)
        read.verify(KEY.public, origin=ORIGIN)
    except ProtocolError:
        return

    # The name of a key that nobody asks for may be another one; nothing that is signed.
    assert (read.entry, read.index, read.hashes) == (written.entry, written.index, written.hashes)
    assert read.note.rpartition(b"\n\n")[0] == written.note.rpartition(b"\n\n")[0]


@given(noise=st.text() | st.text().map(lambda one: f"c2sp.org/tlog-proof@v1\nextra {one}"))
def test_noise_is_no_proof(noise: str) -> None:
    """It raises what it says, and nothing else."""
    with pytest.raises(ProtocolError):
        read_inclusion(noise)


@given(noise=st.binary())
def test_noise_is_no_message(noise: bytes) -> None:
    """Neither of a receipt nor of a dock."""
    for parse in (parse_logged_receipt, parse_seen):
        with pytest.raises(ProtocolError):
            parse(noise)


def test_no_proof_is_endless() -> None:
    """More hashes than any tree needs, and more text than any proof has."""
    many = write_hashes((bytes(32),) * MAX_HASHES)
    assert len(read_hashes(many)) == MAX_HASHES
    with pytest.raises(ProofError):
        read_hashes((*many, many[0]))
    with pytest.raises(ProofError):
        read_inclusion("x" * (1 << 20))
    with pytest.raises(ProtocolError):
        read_hashes(["AAAA"])


def test_an_entry_about_something_else_is_no_receipts() -> None:
    """However true it is."""
    manifest_id = chain()[0].manifest_id
    entry = BagArchived(at=TIME, manifest_id=manifest_id, tagmanifest_sha256="0" * 64)

    with pytest.raises(ProofError):
        logged_receipt_entry(encode(entry))


def test_the_vector_of_a_logged_receipt() -> None:
    """What a dock of another make has to accept, in its two steps."""
    logged = parse_logged_receipt((VECTORS / "good/logged-receipt-1.json").read_bytes())
    signed = open_statement(logged.receipt.encode(), Statement.RECEIPT, Receipt, keys("archive"))
    shown = verify_shown(logged, signed, keys("archive").values())
    edge, _ = Edge().extend([b"entry %d" % number for number in range(17)])
    seen = Checkpoint(origin=ORIGIN, size=17, root=root(17, edge.nodes))

    memory, counts = look(Memory(note=b"", checkpoint=seen), shown, now_ms=0)

    assert counts
    assert memory.checkpoint.size == 301


def test_the_vector_of_another_log() -> None:
    """What a dock saw, cosigned, is not a beginning of the log."""
    case = VECTORS / "F-LOG-001"
    said = parse_seen((case / "seen.json").read_bytes())
    seen = open_checkpoint(said.note.encode(), KEY.public, origin=ORIGIN)
    log = open_checkpoint((case / "checkpoint").read_bytes(), KEY.public, origin=ORIGIN)

    assert (seen.size, seen.root == log.root) == (log.size, False)
    [key] = keys("dock-01").values()
    whose = NoteKey(name="dock-01", key=key, kind=NoteKind.COSIGNATURE)
    assert read_note(said.note.encode()).cosigned_at_s(whose) == int(TIME.timestamp())
