"""Vectors of the custody log: checkpoints, good and forged; a receipt with its proofs."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Final

from protocol.checkpoint import Checkpoint, sign_checkpoint
from protocol.custody import ReceiptIssued
from protocol.digest import sha256_hex
from protocol.envelope import sign_statement
from protocol.findings import FindingCode
from protocol.log_proofs import Inclusion, LoggedReceipt, SeenCheckpoint, write_hashes
from protocol.merkle import leaf_hash, prove_consistency, prove_inclusion, root
from protocol.notes import Note, cosign_text, read_note, sign_text
from protocol.strict_json import encode
from protocol.tiles import Edge, fold
from protocol.versions import Statement
from scripts.samples import DOCK, TIME, chain, receipt, signing_key

ORIGIN: Final = "bayward.example/log"
_SIZE: Final = 300


def log_vectors() -> Iterator[tuple[str, bytes]]:
    """Yield checkpoints of a log of entries "entry 0", "entry 1" and so on, and what to expect."""
    good, wrong = dict(_good()), dict(_wrong())
    cases: list[dict[str, str]] = [
        {
            "note": name,
            "origin": ORIGIN,
            "size": str(checkpoint.size),
            "root": checkpoint.root.hex(),
        }
        for name, (checkpoint, _) in good.items()
    ] + [{"note": name, "origin": ORIGIN, "error": code} for name, (_, code) in wrong.items()]
    for name, (_, note) in good.items():
        yield f"checkpoints/{name}", note
    for name, (note, _) in wrong.items():
        yield f"checkpoints/{name}", note
    yield "checkpoints/cases.json", json.dumps(cases, indent=2).encode() + b"\n"
    yield "good/logged-receipt-1.json", encode(_logged())
    # What a dock cosigned, beside a log of other entries.
    yield "F-LOG-001/seen.json", encode(SeenCheckpoint(note=_cosigned(_other()).encode().decode()))
    yield "F-LOG-001/checkpoint", good["more-than-a-tile"][1]
    case = {
        "seen": "seen.json",
        "checkpoint": "checkpoint",
        "expect": FindingCode.LOG_DIFFERS.value,
    }
    yield "F-LOG-001/case.json", json.dumps(case, indent=2).encode() + b"\n"


def _other() -> Checkpoint:
    return Checkpoint(origin=ORIGIN, size=_SIZE, root=hashlib.sha256(b"another log").digest())


def _logged() -> LoggedReceipt:
    """Return the receipt of manifest 1, proved to be entry 300, to a dock that saw 17 entries."""
    said = receipt(chain()[0])
    entry = encode(
        ReceiptIssued(
            at=TIME,
            receipt_id=said.receipt_id,
            manifest_id=said.manifest_id,
            dock=said.dock,
            sequence=said.sequence,
            payload_sha256=sha256_hex(encode(said)),
        )
    )
    entries = [*(b"entry %d" % index for index in range(_SIZE)), entry]
    size = len(entries)

    def nodes(level: int, index: int) -> bytes:
        return fold([leaf_hash(one) for one in entries[index << level : (index + 1) << level]])

    checkpoint = Checkpoint(origin=ORIGIN, size=size, root=root(size, nodes))
    key = signing_key("archive")
    inclusion = Inclusion(
        entry=entry,
        index=_SIZE,
        hashes=prove_inclusion(_SIZE, size, nodes),
        note=sign_checkpoint(checkpoint, key),
    )
    return LoggedReceipt(
        receipt=sign_statement(said, Statement.RECEIPT, key).decode(),
        inclusion=inclusion.encode(),
        earlier=17,
        consistency=write_hashes(prove_consistency(17, size, nodes)),
    )


def _checkpoint(size: int) -> Checkpoint:
    edge, _ = Edge().extend([b"entry %d" % index for index in range(size)])
    return Checkpoint(origin=ORIGIN, size=size, root=root(size, edge.nodes))


def _good() -> Iterator[tuple[str, tuple[Checkpoint, bytes]]]:
    key = signing_key("archive")
    for name, size in (("empty", 0), ("one-entry", 1), ("more-than-a-tile", _SIZE)):
        checkpoint = _checkpoint(size)
        yield name, (checkpoint, sign_checkpoint(checkpoint, key))
    checkpoint = _checkpoint(_SIZE)
    yield "cosigned", (checkpoint, _cosigned(checkpoint).encode())


def _cosigned(checkpoint: Checkpoint) -> Note:
    signed = read_note(sign_checkpoint(checkpoint, signing_key("archive")))
    line = cosign_text(signed.text, DOCK, signing_key(DOCK), unix_s=int(TIME.timestamp()))
    return Note(text=signed.text, lines=(*signed.lines, line))


def _wrong() -> Iterator[tuple[str, tuple[bytes, str]]]:
    checkpoint, key = _checkpoint(_SIZE), signing_key("archive")
    good = sign_checkpoint(checkpoint, key)
    other = Checkpoint(origin="other.example/log", size=_SIZE, root=checkpoint.root)
    cases: Mapping[str, tuple[bytes, str]] = {
        "changed-size": (good.replace(b"\n300\n", b"\n299\n"), "E-PRO-109"),
        "wrong-key": (sign_checkpoint(checkpoint, signing_key("somebody else")), "E-PRO-108"),
        "other-log": (sign_checkpoint(other, key), "E-PRO-108"),
        "other-log-under-our-name": (
            Note(text=other.text(), lines=(sign_text(other.text(), ORIGIN, key),)).encode(),
            "E-PRO-114",
        ),
        "only-cosigned": (
            Note(text=checkpoint.text(), lines=_cosigned(checkpoint).lines[1:]).encode(),
            "E-PRO-108",
        ),
        "no-signature": (checkpoint.text() + b"\n", "E-PRO-114"),
        "cut": (good[:-1], "E-PRO-114"),
        "line-added": (_signed(checkpoint.text() + b"more\n"), "E-PRO-114"),
        "leading-zero": (_signed(checkpoint.text().replace(b"300", b"0300")), "E-PRO-114"),
    }
    yield from cases.items()


def _signed(text: bytes) -> bytes:
    return Note(text=text, lines=(sign_text(text, ORIGIN, signing_key("archive")),)).encode()
