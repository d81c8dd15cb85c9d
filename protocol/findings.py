"""Verdicts about evidence, as data: collected, never raised, never stopping at the first.

Each code has a row in docs/errors.md and a fixture under tests/vectors/.
"""

from enum import Enum, unique
from typing import Annotated

from msgspec import Meta

from protocol.strict_json import Message

MAX_PATH_CHARACTERS = 16_384
MAX_DETAIL_CHARACTERS = 2_000


@unique
class FindingCode(Enum):
    """What was found; the letters after F- say where."""

    # on a recorder's volume
    LINK = "F-INV-001"
    SPECIAL_FILE = "F-INV-002"
    PATH_TOO_LONG = "F-INV-003"
    NAME_NOT_UTF8 = "F-INV-004"
    NAMES_DIFFER_BY_CASE = "F-INV-005"
    EMPTY_FILE = "F-INV-006"
    UNREADABLE_DIRECTORY = "F-INV-007"
    UNSAFE_NAME = "F-INV-008"
    TOO_MANY_ENTRIES = "F-INV-009"
    FOREIGN_FILE = "F-FOR-001"
    UNKNOWN_FILE = "F-FOR-002"
    IMPLAUSIBLE_TIME = "F-CLK-001"
    SEQUENCE_GAP = "F-SEQ-001"
    RECORDING_INCOMPLETE = "F-REC-001"
    SAME_CONTENT = "F-REC-002"
    # while it was read
    UNREADABLE_FILE = "F-ING-001"
    SIZE_CHANGED = "F-ING-002"
    RECORDER_LEFT = "F-ING-003"
    EVIDENCE_LOWERED = "F-EVD-001"
    COPY_DIFFERED = "F-EVD-002"
    # over its serial port
    CLOCK_WAS_OFF = "F-CLK-002"
    SERIAL_DIFFERS = "F-DEV-001"
    OFFICER_DIFFERS = "F-DEV-002"
    DIALOG_INCOMPLETE = "F-DEV-003"
    NETWORK_SETTINGS = "F-NET-001"
    # at the archive's door, numbered as the checks are
    UNKNOWN_DOCK = "F-ADM-001"
    MESSAGE_TOO_LARGE = "F-ADM-002"
    ENVELOPE_MALFORMED = "F-ADM-003"
    SIGNATURE_WRONG = "F-ADM-004"
    STATEMENT_UNREADABLE = "F-ADM-005"
    OTHER_DOCK = "F-ADM-006"
    CHAIN_FORKED = "F-ADM-007"
    UNKNOWN_RECORDER = "F-ADM-008"
    MANIFEST_CONTRADICTS = "F-ADM-009"
    CHAIN_GAP = "F-ADM-010"
    # about a receipt, at the dock
    RECEIPT_NOT_SIGNED = "F-RCP-001"
    RECEIPT_OTHER_MANIFEST = "F-RCP-002"
    RECEIPT_RECORDINGS_DIFFER = "F-RCP-003"
    RECEIPT_COUNTS_DIFFER = "F-RCP-004"
    # about a bag
    LOG_DIFFERS = "F-LOG-001"

    BAG_FILE_MISSING = "F-BAG-001"
    BAG_DIGEST_DIFFERS = "F-BAG-002"
    BAG_FILE_EXTRA = "F-BAG-003"
    BAG_TAG_MALFORMED = "F-BAG-004"
    BAG_TAG_DIFFERS = "F-BAG-005"
    BAG_SIGNATURE_WRONG = "F-BAG-006"
    BAG_MANIFEST_DIFFERS = "F-BAG-007"
    BAG_CERTIFICATE_WRONG = "F-BAG-008"
    BAG_UNSAFE_PATH = "F-BAG-009"


class Finding(Message, frozen=True, kw_only=True):
    """One verdict: its code, the path it is about as text, and the facts in English.

    Programs act on ``code``; ``detail`` is for people and is never parsed.
    """

    code: FindingCode
    path: Annotated[str, Meta(max_length=MAX_PATH_CHARACTERS)] | None = None
    detail: Annotated[str, Meta(max_length=MAX_DETAIL_CHARACTERS)] = ""
