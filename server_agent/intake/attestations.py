"""Attestations as docks send them: from untrusted bytes to a verdict, never to an exception.

The checks are those of manifests, numbered alike (docs/architecture.md, "Admission checks"). Of
check 7 there is one verdict less: nothing waits. A dock sends one at a time, and is told with each
answer which one is wanted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from protocol.attestation import Attestation
from protocol.chain import ChainHead, Link, judge
from protocol.digest import sha256_hex
from protocol.envelope import parse_statement, take_apart
from protocol.errors import ProtocolError, TooLargeError
from protocol.findings import MAX_DETAIL_CHARACTERS, FindingCode
from protocol.identifiers import DockId
from protocol.keys import KeyId, VerifyingKey
from protocol.versions import Statement
from server_agent.intake.checks import Refused, has_utc

# Everything listed that may be listed makes about a tenth of it.
MAX_ATTESTATION_BYTES: Final = 8 * 1024 * 1024
# One comes each day; two hours for it to be made and sent.
PATIENCE: Final = timedelta(hours=26)


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """An attestation that passed checks 1 to 6: its dock did sign these bytes."""

    dock: DockId
    attestation: Attestation
    payload_sha256: str
    key_id: KeyId
    envelope: bytes


def read_attestation(
    dock: DockId, untrusted: bytes, *, keys: Mapping[KeyId, VerifyingKey]
) -> Witness | Refused:
    """Return what a dock has signed, or the first of checks 2 to 6 that failed.

    Args:
        dock: Whose topic it came on; registered.
        untrusted: The message.
        keys: With which that dock may go on with its chain.
    """
    failing = FindingCode.ENVELOPE_MALFORMED
    try:
        sealed = take_apart(untrusted, max_bytes=MAX_ATTESTATION_BYTES)
        failing = FindingCode.SIGNATURE_WRONG
        sealed.verify(keys)
        failing = FindingCode.STATEMENT_UNREADABLE
        attestation = parse_statement(sealed, Statement.ATTESTATION, Attestation)
    except TooLargeError as error:
        return _refused(FindingCode.MESSAGE_TOO_LARGE, str(error), dock)
    except (ProtocolError, ValueError) as error:
        return _refused(failing, str(error), dock)
    if attestation.dock != dock:
        detail = f"an attestation of dock {attestation.dock!r} on {dock!r}"
        return _refused(FindingCode.OTHER_DOCK, detail, dock)
    spells = (time for one in attestation.broken for time in (one.began_at, one.ended_at))
    times = (attestation.made_at, attestation.since, *spells)
    if not all(has_utc(time) for time in times if time is not None):
        return _refused(FindingCode.STATEMENT_UNREADABLE, "a time that is none in UTC", dock)
    return Witness(
        dock=dock,
        attestation=attestation,
        payload_sha256=sha256_hex(sealed.payload),
        key_id=sealed.key_id,
        envelope=untrusted,
    )


def place_attestation(
    witness: Witness, *, head: ChainHead, recorded_sha256: str | None
) -> Link | Refused:
    """Return the verdict of check 7: NEXT, REPEATED, or why it is refused.

    Args:
        witness: It passed the checks before.
        head: The last one of its dock's chain.
        recorded_sha256: The digest of what has its number already, if anything.
    """
    number = witness.attestation.sequence
    link = judge(
        head,
        sequence=number,
        previous_sha256=witness.attestation.previous_sha256,
        payload_sha256=witness.payload_sha256,
        recorded_sha256=recorded_sha256,
    )
    if link is Link.FORKED:
        detail = f"attestation {number} does not follow what is known of {witness.dock!r}"
        return _refused(FindingCode.CHAIN_FORKED, detail, witness.dock)
    if link is Link.LATER:
        detail = f"attestation {number} came, and {head.sequence + 1} of {witness.dock!r} has not"
        return _refused(FindingCode.CHAIN_GAP, detail, witness.dock)
    return link


def _refused(code: FindingCode, detail: str, dock: DockId) -> Refused:
    return Refused(code=code, detail=detail[:MAX_DETAIL_CHARACTERS], dock=dock)
