from dataclasses import replace
from datetime import datetime
from typing import Final

import msgspec
import pytest

from edge_agent.outbox.answers import (
    Admitted,
    Contradiction,
    KnownManifest,
    Receipted,
    Refused,
    Unhandled,
    Waiting,
    decide,
    read_answer,
    stray,
)
from edge_agent.outbox.machine import ManifestState
from edge_agent.outbox.registry_update import NewRegistry, Unchanged, judge_registry
from protocol import strict_json
from protocol.digest import ZERO_DIGEST, sha256_hex
from protocol.envelope import keyring, seal, sign_statement
from protocol.findings import FindingCode
from protocol.identifiers import DockId
from protocol.keys import SigningKey
from protocol.receipt import Admission, AdmissionState, MissingFile, Receipt, Refusal
from protocol.registry import Registry
from protocol.versions import Statement
from tests.simulators.archive import Archive
from tests.simulators.sealed_manifests import (
    ARCHIVE_KEY,
    DOCK,
    DOCK_KEY,
    NOW,
    seal_manifest,
    signing_key,
)
from tests.simulators.tus_archive import TusArchive

KEYS: Final = keyring(ARCHIVE_KEY.public)
SEALED: Final = seal_manifest(recordings=((b"one", b"two"), (b"three",)), others=(b"log",))
KNOWN: Final = KnownManifest(
    manifest_id=SEALED.manifest.manifest_id,
    sequence=1,
    payload_sha256=SEALED.payload_sha256,
    state=ManifestState.PENDING,
    envelope=SEALED.envelope,
)
MISSING: Final = tuple(
    MissingFile(sha256=digest, size_bytes=len(content))
    for digest, content in SEALED.contents.items()
)
ADMISSION: Final = Admission(
    manifest_id=KNOWN.manifest_id,
    dock=DOCK,
    sequence=1,
    payload_sha256=KNOWN.payload_sha256,
    state=AdmissionState.ADMITTED,
    expected_sequence=2,
    answered_at=NOW,
    missing=MISSING,
)
REFUSAL: Final = Refusal(
    dock=DOCK,
    message_sha256=sha256_hex(SEALED.envelope),
    code=FindingCode.UNKNOWN_RECORDER,
    detail="who is this?",
    answered_at=NOW,
    manifest_id=KNOWN.manifest_id,
    sequence=1,
)


def archive() -> Archive:
    return Archive(ARCHIVE_KEY, DOCK_KEY.public, TusArchive(), dock=DOCK)


def receipt() -> Receipt:
    envelope = archive().sign_receipt(SEALED.manifest, SEALED.payload_sha256)
    answer = read_answer(envelope, dock=DOCK, archive_keys=KEYS)
    assert isinstance(answer, Receipt)
    return answer


def signed(
    answer: Admission | Refusal | Receipt, statement: Statement, key: SigningKey = ARCHIVE_KEY
) -> bytes:
    return sign_statement(answer, statement, key)


@pytest.mark.parametrize(
    ("answer", "statement"),
    [
        (ADMISSION, Statement.ADMISSION),
        (REFUSAL, Statement.REFUSAL),
        (receipt(), Statement.RECEIPT),
    ],
)
def test_signed_answers_are_read(
    answer: Admission | Refusal | Receipt, statement: Statement
) -> None:
    """What the archive's key signed is taken as what it says it is."""
    assert read_answer(signed(answer, statement), dock=DOCK, archive_keys=KEYS) == answer


@pytest.mark.parametrize(
    ("answer", "statement", "code"),
    [
        (ADMISSION, Statement.ADMISSION, "E-PRO-108"),
        (REFUSAL, Statement.REFUSAL, "E-PRO-108"),
        (receipt(), Statement.RECEIPT, FindingCode.RECEIPT_NOT_SIGNED.value),
    ],
)
def test_another_key_signs_nothing(
    answer: Admission | Refusal | Receipt, statement: Statement, code: str
) -> None:
    """An answer signed by any other key, be it the dock's own, is unhandled."""
    for key in (signing_key(9), DOCK_KEY):
        forged = read_answer(signed(answer, statement, key), dock=DOCK, archive_keys=KEYS)
        assert isinstance(forged, Unhandled)
        assert forged.code == code


def test_a_changed_byte_voids_a_receipt() -> None:
    """A receipt whose payload was changed after signing is an incident."""
    sealed = signed(receipt(), Statement.RECEIPT)
    changed = strict_json.encode(msgspec.structs.replace(receipt(), sequence=2))
    other = seal(changed, Statement.RECEIPT, ARCHIVE_KEY)
    signature = msgspec.json.decode(sealed)["signatures"]
    forged = msgspec.json.encode({**msgspec.json.decode(other), "signatures": signature})

    judged = read_answer(forged, dock=DOCK, archive_keys=KEYS)

    assert isinstance(judged, Unhandled)
    assert judged.code == FindingCode.RECEIPT_NOT_SIGNED.value


@pytest.mark.parametrize(
    ("untrusted", "code"),
    [
        (b"", "E-PRO-107"),
        (b"hello", "E-PRO-107"),
        (b"[" * 100_000, "E-PRO-107"),
        (SEALED.envelope, "E-PRO-108"),
        (seal(b"{}", Statement.RECEIPT, ARCHIVE_KEY), "E-PRO-104"),
        (seal(b"{}", Statement.MANIFEST, ARCHIVE_KEY), "E-PRO-105"),
        (seal(b"{}", Statement.REGISTRY, ARCHIVE_KEY), "E-PRO-105"),
    ],
)
def test_what_is_no_answer_is_unhandled(untrusted: bytes, code: str) -> None:
    """Anything else on the topic is named by what is wrong with it, and raises nothing."""
    judged = read_answer(untrusted, dock=DOCK, archive_keys=KEYS)

    assert isinstance(judged, Unhandled)
    assert judged.code == code


def test_another_docks_answer_is_unhandled() -> None:
    """An answer that the archive signed for another dock moves nothing here."""
    foreign = msgspec.structs.replace(ADMISSION, dock=DockId("dock-2"))

    judged = read_answer(signed(foreign, Statement.ADMISSION), dock=DOCK, archive_keys=KEYS)

    assert isinstance(judged, Unhandled)


def test_an_admission_lists_what_to_send() -> None:
    """An admission of our manifest leads to its missing files."""
    assert decide(ADMISSION, KNOWN) == Admitted(
        manifest_id=KNOWN.manifest_id, sequence=1, missing=MISSING
    )


def test_a_waiting_manifest_waits() -> None:
    """An admission that waits for an earlier manifest asks for nothing."""
    waiting = msgspec.structs.replace(ADMISSION, state=AdmissionState.WAITING, missing=())

    assert decide(waiting, KNOWN) == Waiting(manifest_id=KNOWN.manifest_id, expected_sequence=2)


@pytest.mark.parametrize(
    "changes",
    [
        {"sequence": 2},
        {"payload_sha256": ZERO_DIGEST},
        {"missing": (MissingFile(sha256=ZERO_DIGEST, size_bytes=1),)},
        {"missing": (msgspec.structs.replace(MISSING[0], size_bytes=99),)},
    ],
)
def test_an_admission_of_something_else_moves_nothing(changes: dict[str, object]) -> None:
    """An admission with another number, other bytes or files that we never promised is kept."""
    judged = decide(msgspec.structs.replace(ADMISSION, **changes), KNOWN)

    assert isinstance(judged, Unhandled)
    assert judged.code == Contradiction.OTHER_MANIFEST.value


def test_a_refusal_says_why() -> None:
    """A refusal of our very envelope carries the check that failed."""
    assert decide(REFUSAL, KNOWN) == Refused(
        manifest_id=KNOWN.manifest_id,
        sequence=1,
        code=FindingCode.UNKNOWN_RECORDER,
        detail="who is this?",
    )


def test_a_refusal_of_other_bytes_moves_nothing() -> None:
    """A refusal of a message that we did not send, though it names our manifest, is kept."""
    foreign = msgspec.structs.replace(REFUSAL, message_sha256=ZERO_DIGEST)

    assert isinstance(decide(foreign, KNOWN), Unhandled)


def test_a_receipt_ends_the_duty() -> None:
    """A receipt that names what the manifest promised is believed."""
    assert decide(receipt(), KNOWN) == Receipted(manifest_id=KNOWN.manifest_id, receipt=receipt())


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"sequence": 2}, FindingCode.RECEIPT_OTHER_MANIFEST),
        ({"payload_sha256": ZERO_DIGEST}, FindingCode.RECEIPT_OTHER_MANIFEST),
        ({"bags": receipt().bags[1:]}, FindingCode.RECEIPT_RECORDINGS_DIFFER),
        ({"bags": (*receipt().bags, receipt().bags[0])}, FindingCode.RECEIPT_RECORDINGS_DIFFER),
        (
            {"bags": (msgspec.structs.replace(receipt().bags[0], files=1), *receipt().bags[1:])},
            FindingCode.RECEIPT_COUNTS_DIFFER,
        ),
    ],
)
def test_a_receipt_of_something_else_frees_nothing(
    changes: dict[str, object], code: FindingCode
) -> None:
    """A signed receipt that does not fit the manifest is kept with the finding's code."""
    judged = decide(msgspec.structs.replace(receipt(), **changes), KNOWN)

    assert isinstance(judged, Unhandled)
    assert judged.code == code.value


def test_a_refusal_after_the_receipt_is_a_contradiction() -> None:
    """An archive that refuses what it gave a receipt for is not obeyed."""
    judged = decide(REFUSAL, replace(KNOWN, state=ManifestState.RECEIPTED))

    assert isinstance(judged, Unhandled)
    assert judged.code == Contradiction.AFTER_RECEIPT.value


def test_an_answer_to_nothing_of_ours_is_stray() -> None:
    """An answer about a manifest that is not in the outbox is kept as such."""
    assert stray(ADMISSION).code == Contradiction.UNKNOWN_MANIFEST.value


def registry(version: int, *, issued_at: datetime = NOW, key: SigningKey = ARCHIVE_KEY) -> bytes:
    return sign_statement(Registry(version=version, issued_at=issued_at), Statement.REGISTRY, key)


def judged_registry(untrusted: bytes, known: bytes | None) -> NewRegistry | Unchanged | Unhandled:
    return judge_registry(untrusted, archive_keys=KEYS, known_envelope=known)


def test_the_first_registry_is_obeyed() -> None:
    """A dock without a registry takes the first one that the archive signed."""
    judged = judged_registry(registry(7), None)

    assert isinstance(judged, NewRegistry)
    assert judged.registry.version == 7


def test_a_newer_registry_replaces() -> None:
    """A higher version replaces a lower one."""
    assert isinstance(judged_registry(registry(8), registry(7)), NewRegistry)


def test_the_same_registry_changes_nothing() -> None:
    """The broker repeats the retained registry at each connection: no event."""
    assert judged_registry(registry(7), registry(7)) is Unchanged.UNCHANGED


@pytest.mark.parametrize(
    ("arrived", "code"),
    [
        (registry(6), Contradiction.REGISTRY_OLDER.value),
        (registry(7, issued_at=NOW.replace(hour=9)), Contradiction.REGISTRY_CHANGED.value),
        (registry(9, key=DOCK_KEY), "E-PRO-108"),
        (b"", "E-PRO-107"),
    ],
)
def test_no_other_registry_is_obeyed(arrived: bytes, code: str) -> None:
    """An older one, another one of the same version, and one of another key are not obeyed."""
    judged = judged_registry(arrived, registry(7))

    assert isinstance(judged, Unhandled)
    assert judged.code == code
