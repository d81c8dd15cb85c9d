"""Entries of the custody log: exact bytes, and nothing in them that could be guessed."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.custody import (
    BagArchived,
    LogEntry,
    ManifestAdmitted,
    ReceiptIssued,
    Subject,
    parse_entry,
    salted_sha256,
)
from protocol.errors import ProtocolError
from protocol.identifiers import (
    DockId,
    ManifestId,
    OfficerId,
    ReceiptId,
    RecorderId,
    RecordingId,
)
from protocol.strict_json import encode
from scripts.samples import uuid7

AT: Final = datetime(2026, 11, 27, 8, 30, 0, 120_000, tzinfo=UTC)
MANIFEST: Final = ManifestId(uuid7("manifest"))
SUBJECT: Final = Subject(officer=OfficerId("012345"), recorder=RecorderId("R-0001"))
ADMITTED: Final = ManifestAdmitted(
    at=AT,
    manifest_id=MANIFEST,
    dock=DockId("dock-01"),
    sequence=7,
    payload_sha256="ab" * 32,
    subject_sha256=salted_sha256(bytes(32), encode(SUBJECT)),
)
ARCHIVED: Final = BagArchived(
    at=AT,
    manifest_id=MANIFEST,
    recording_id=RecordingId(uuid7("recording")),
    tagmanifest_sha256="cd" * 32,
    existing=True,
)
ISSUED: Final = ReceiptIssued(
    at=AT,
    receipt_id=ReceiptId(uuid7("receipt")),
    manifest_id=MANIFEST,
    dock=DockId("dock-01"),
    sequence=7,
    payload_sha256="ef" * 32,
)


@pytest.mark.parametrize("entry", [ADMITTED, ARCHIVED, ISSUED], ids=lambda one: type(one).__name__)
def test_an_entry_is_read_back(entry: LogEntry) -> None:
    """As the kind that it is."""
    assert parse_entry(encode(entry)) == entry


def test_the_exact_bytes() -> None:
    """As docs/custody-log.md says: no white space, the event first, what is absent left out."""
    assert encode(ADMITTED).decode() == (
        '{"event":"manifest-admitted","at":"2026-11-27T08:30:00.120000Z",'
        f'"manifest_id":"{MANIFEST}","dock":"dock-01","sequence":7,'
        f'"payload_sha256":"{"ab" * 32}","subject_sha256":"{ADMITTED.subject_sha256}"}}'
    )
    assert list(json.loads(encode(BagArchived(**{**_fields(ARCHIVED), "existing": False})))) == [
        *("event", "at", "manifest_id", "recording_id", "tagmanifest_sha256")
    ]


def _fields(entry: BagArchived) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in entry.__struct_fields__}


def test_a_subject_cannot_be_tried_without_its_salt() -> None:
    """Neither name is in the entry, and the digest is another with each salt."""
    text = encode(SUBJECT)

    assert text == b'{"officer":"012345","recorder":"R-0001"}'
    assert ADMITTED.subject_sha256 == hashlib.sha256(bytes(32) + text).hexdigest()
    assert salted_sha256(b"\1" * 32, text) != ADMITTED.subject_sha256
    assert b"012345" not in encode(ADMITTED)
    assert b"R-0001" not in encode(ADMITTED)


@given(st.binary(max_size=200))
def test_no_bytes_make_it_stumble(untrusted: bytes) -> None:
    """They are refused."""
    with pytest.raises(ProtocolError):
        parse_entry(untrusted)


@pytest.mark.parametrize(
    "changed",
    [
        {"event": "receipt-revoked"},
        {"more": 1},
        {"sequence": "7"},
        {"dock": "../dock"},
        {"payload_sha256": "AB" * 32},
    ],
)
def test_what_is_no_entry_of_ours(changed: dict[str, object]) -> None:
    """Unknown events, unknown fields, wrong values."""
    entry = json.loads(encode(ISSUED)) | changed
    with pytest.raises(ProtocolError):
        parse_entry(json.dumps(entry).encode())
