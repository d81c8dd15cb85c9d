"""What the archive said about a manifest: read, verified, weighed against what this dock has.

Two steps, because between them the journal is asked: `read_answer` says what was signed, `decide`
says what follows. Neither raises for anything that somebody sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, unique

from edge_agent.outbox.machine import TRANSITIONS, ManifestEvent, ManifestState
from protocol import strict_json
from protocol.digest import sha256_hex
from protocol.envelope import MAX_ENVELOPE_BYTES, Sealed, parse_statement, take_apart
from protocol.errors import ProtocolError, SignatureError, UnknownKeyError
from protocol.findings import FindingCode
from protocol.identifiers import DockId, ManifestId
from protocol.keys import KeyId, VerifyingKey
from protocol.log_proofs import (
    MAX_LOGGED_RECEIPT_BYTES,
    LoggedReceipt,
    parse_logged_receipt,
)
from protocol.manifest import Manifest
from protocol.receipt import (
    Admission,
    AdmissionState,
    MissingFile,
    Receipt,
    Refusal,
    check_receipt,
)
from protocol.versions import Statement, payload_type

Answer = Admission | Refusal | Receipt


@unique
class Contradiction(Enum):
    """How a signed message can disagree with what this dock knows; the value is its E-code."""

    UNKNOWN_MANIFEST = "E-OUT-101"
    OTHER_MANIFEST = "E-OUT-102"
    AFTER_RECEIPT = "E-OUT-103"
    REGISTRY_OLDER = "E-OUT-105"
    REGISTRY_CHANGED = "E-OUT-106"
    FOREIGN_TOPIC = "E-OUT-107"
    NOT_LOGGED = "E-OUT-110"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownManifest:
    """What the journal has about the manifest that an answer names; ``envelope`` as it was sent."""

    manifest_id: ManifestId
    sequence: int
    payload_sha256: str
    state: ManifestState
    envelope: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """The archive has kept the manifest and still needs *missing*; all of it is ours to send."""

    manifest_id: ManifestId
    sequence: int
    missing: tuple[MissingFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The archive has kept the manifest and waits for an earlier one."""

    manifest_id: ManifestId
    expected_sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The archive did not admit the manifest; the check that failed, and its words."""

    manifest_id: ManifestId
    sequence: int
    code: FindingCode
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipted:
    """Everything the manifest promised is in the archive; nothing speaks against the receipt."""

    manifest_id: ManifestId
    receipt: Receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class Unproved:
    """A receipt that the log is not shown to have yet; the archive is asked again."""

    manifest_id: ManifestId


@dataclass(frozen=True, slots=True, kw_only=True)
class Unhandled:
    """Not to be acted on; to be kept and shown. *code* is an E- or F-code."""

    code: str
    detail: str


Verdict = Admitted | Waiting | Refused | Receipted
Decision = Verdict | Unproved | Unhandled

_EVENTS: Mapping[type[Verdict], ManifestEvent] = {
    Admitted: ManifestEvent.ADMITTED,
    Waiting: ManifestEvent.KEPT_WAITING,
    Refused: ManifestEvent.REFUSED,
    Receipted: ManifestEvent.RECEIPT_VERIFIED,
}


def event_of(verdict: Verdict) -> ManifestEvent:
    """Return what a verdict means to the manifest's life."""
    return _EVENTS[type(verdict)]


def read_answer(
    untrusted: bytes, *, dock: DockId, archive_keys: Mapping[KeyId, VerifyingKey]
) -> Answer | Unhandled:
    """Return what the archive signed for *dock*, or why nothing may follow from it.

    Args:
        untrusted: The payload of a message on the dock's ``receipts`` topic.
        dock: Ourselves: an answer to another dock is none to us.
        archive_keys: The keys that may sign answers.
    """
    try:
        sealed = take_apart(untrusted)
    except ProtocolError as error:
        return Unhandled(code=error.code, detail=str(error))
    try:
        sealed.verify(archive_keys)
        answer = _parse_answer(sealed)
    except (UnknownKeyError, SignatureError) as error:
        return Unhandled(code=_unsigned_code(sealed, error), detail=str(error))
    except ProtocolError as error:
        return Unhandled(code=error.code, detail=str(error))
    if answer.dock != dock:
        return _contradiction(Contradiction.OTHER_MANIFEST, f"an answer to dock {answer.dock!r}")
    return answer


def split_logged(untrusted: bytes) -> tuple[bytes, LoggedReceipt | None]:
    """Return the envelope in a message, and what came with it if it is a logged receipt."""
    if len(untrusted) > MAX_LOGGED_RECEIPT_BYTES:
        return untrusted, None
    try:
        logged = parse_logged_receipt(untrusted)
    except ProtocolError:
        return untrusted, None
    return logged.receipt.encode(), logged


def stray(answer: Answer) -> Unhandled:
    """Return what follows from a verified answer to a manifest that the journal does not have."""
    return _contradiction(
        Contradiction.UNKNOWN_MANIFEST, f"manifest {answer.manifest_id} is not in the outbox"
    )


def decide(answer: Answer, known: KnownManifest) -> Verdict | Unhandled:
    """Return what follows from a verified *answer*.

    Args:
        answer: From `read_answer`.
        known: What the journal has under the manifest's id or, for a refusal that names none,
            under the digest of the envelope.
    """
    decision = _weigh(answer, known)
    if isinstance(decision, Unhandled) or (known.state, event_of(decision)) in TRANSITIONS:
        return decision
    return _contradiction(
        Contradiction.AFTER_RECEIPT,
        f"manifest {known.sequence} has its receipt, and now: {event_of(decision).value}",
    )


def _weigh(answer: Answer, known: KnownManifest) -> Verdict | Unhandled:
    match answer:
        case Admission():
            return _decide_admission(answer, known)
        case Refusal():
            return _decide_refusal(answer, known)
        case Receipt():
            return _decide_receipt(answer, known)


def _decide_admission(answer: Admission, known: KnownManifest) -> Admitted | Waiting | Unhandled:
    if difference := _difference(answer, known):
        return difference
    if answer.state is AdmissionState.WAITING:
        return Waiting(manifest_id=known.manifest_id, expected_sequence=answer.expected_sequence)
    promised = {
        (file.digests.sha256, file.size_bytes) for file in _manifest_of(known).staged_files()
    }
    strange = [file for file in answer.missing if (file.sha256, file.size_bytes) not in promised]
    if strange:
        return _contradiction(
            Contradiction.OTHER_MANIFEST,
            f"manifest {known.sequence} never promised {strange[0].sha256}",
        )
    return Admitted(manifest_id=known.manifest_id, sequence=known.sequence, missing=answer.missing)


def _decide_refusal(answer: Refusal, known: KnownManifest) -> Refused | Unhandled:
    # The id may be one that somebody else wrote into another message: only the digest of the
    # envelope says that it was ours.
    ours = sha256_hex(known.envelope)
    if answer.message_sha256 != ours:
        return _contradiction(
            Contradiction.OTHER_MANIFEST,
            f"manifest {known.sequence} went out as {ours}, refused was {answer.message_sha256}",
        )
    return Refused(
        manifest_id=known.manifest_id,
        sequence=known.sequence,
        code=answer.code,
        detail=answer.detail,
    )


def _decide_receipt(answer: Receipt, known: KnownManifest) -> Receipted | Unhandled:
    findings = check_receipt(answer, _manifest_of(known), payload_sha256=known.payload_sha256)
    if findings:
        return Unhandled(
            code=findings[0].code.value, detail="; ".join(finding.detail for finding in findings)
        )
    return Receipted(manifest_id=known.manifest_id, receipt=answer)


def _difference(answer: Admission, known: KnownManifest) -> Unhandled | None:
    named = (answer.manifest_id, answer.sequence, answer.payload_sha256)
    ours = (known.manifest_id, known.sequence, known.payload_sha256)
    if named == ours:
        return None
    return _contradiction(Contradiction.OTHER_MANIFEST, f"{named} is not {ours}")


def _manifest_of(known: KnownManifest) -> Manifest:
    """Our own words, signed by us and kept in our journal: parsed, not verified again."""
    payload = take_apart(known.envelope).payload
    return strict_json.parse(payload, Manifest, max_bytes=MAX_ENVELOPE_BYTES)


def _parse_answer(sealed: Sealed) -> Answer:
    if sealed.payload_type == payload_type(Statement.ADMISSION):
        return parse_statement(sealed, Statement.ADMISSION, Admission)
    if sealed.payload_type == payload_type(Statement.REFUSAL):
        return parse_statement(sealed, Statement.REFUSAL, Refusal)
    return parse_statement(sealed, Statement.RECEIPT, Receipt)


def _unsigned_code(sealed: Sealed, error: ProtocolError) -> str:
    if sealed.payload_type == payload_type(Statement.RECEIPT):
        return FindingCode.RECEIPT_NOT_SIGNED.value
    return error.code


def _contradiction(which: Contradiction, detail: str) -> Unhandled:
    return Unhandled(code=which.value, detail=detail)


__all__ = [
    "Admitted",
    "Answer",
    "Contradiction",
    "Decision",
    "KnownManifest",
    "Receipted",
    "Refused",
    "Unhandled",
    "Unproved",
    "Verdict",
    "Waiting",
    "decide",
    "event_of",
    "read_answer",
    "split_logged",
    "stray",
]
