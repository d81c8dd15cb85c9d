"""Names of things, each with one form and one parser.

A value of these types is safe in a topic, a path component, a certificate's
common name and a URL. Anything else is refused where it comes in.
"""

import re
from typing import Annotated, Final, NewType
from uuid import UUID

from msgspec import Meta

from protocol.errors import IdentifierError

DockId = NewType("DockId", str)
RecorderId = NewType("RecorderId", str)
OfficerId = NewType("OfficerId", str)
DockingId = NewType("DockingId", str)
RecordingId = NewType("RecordingId", str)
ManifestId = NewType("ManifestId", str)
ReceiptId = NewType("ReceiptId", str)
CommandId = NewType("CommandId", str)
AlertId = NewType("AlertId", str)
BayNumber = NewType("BayNumber", int)

# msgspec looks for a pattern anywhere, so each is anchored; "$" alone also matches before a last
# newline, and this form means the very end to JSON Schema's dialect as well.
END: Final = r"$(?!\n)"
DOCK_PATTERN: Final = r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?" + END
RECORDER_PATTERN: Final = r"^[A-Z0-9]([A-Z0-9-]{0,30}[A-Z0-9])?" + END
OFFICER_PATTERN: Final = r"^[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?" + END
UUID7_PATTERN: Final = r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}" + END
HIGHEST_BAY: Final = 99

# Names of the archive's own clients at the broker; a dock called so could read or write as they do.
RESERVED_DOCKS: Final = frozenset({"archive", "broker", "console", "site"})

# The same forms as fields of a message.
DockField = Annotated[DockId, Meta(pattern=DOCK_PATTERN)]
RecorderField = Annotated[RecorderId, Meta(pattern=RECORDER_PATTERN)]
OfficerField = Annotated[OfficerId, Meta(pattern=OFFICER_PATTERN)]
DockingField = Annotated[DockingId, Meta(pattern=UUID7_PATTERN)]
RecordingField = Annotated[RecordingId, Meta(pattern=UUID7_PATTERN)]
ManifestField = Annotated[ManifestId, Meta(pattern=UUID7_PATTERN)]
ReceiptField = Annotated[ReceiptId, Meta(pattern=UUID7_PATTERN)]
CommandField = Annotated[CommandId, Meta(pattern=UUID7_PATTERN)]
AlertField = Annotated[AlertId, Meta(pattern=UUID7_PATTERN)]
BayField = Annotated[BayNumber, Meta(ge=1, le=HIGHEST_BAY)]

_RANDOM_BYTES: Final = 10
_MS_LIMIT: Final = 1 << 48


def _matched(pattern: str, untrusted: str, what: str) -> str:
    if re.search(pattern, untrusted) is None:
        raise IdentifierError(f"{untrusted[:80]!r} is not {what}")
    return untrusted


def parse_dock(untrusted: str) -> DockId:
    """Return *untrusted* as a dock's name: lower-case letters, digits, hyphens; 1 to 32.

    Raises:
        IdentifierError: It has another form, or is a name the archive itself uses.
    """
    name = _matched(DOCK_PATTERN, untrusted, "a dock's name")
    if name in RESERVED_DOCKS:
        raise IdentifierError(f"{name!r} is reserved for the archive's own programs")
    return DockId(name)


def parse_recorder(untrusted: str) -> RecorderId:
    """Return *untrusted* as a recorder's number at this site, such as ``R-0001``."""
    return RecorderId(_matched(RECORDER_PATTERN, untrusted, "a recorder's number"))


def parse_officer(untrusted: str) -> OfficerId:
    """Return *untrusted* as an officer's number, such as ``012345``."""
    return OfficerId(_matched(OFFICER_PATTERN, untrusted, "an officer's number"))


def parse_manifest_id(untrusted: str) -> ManifestId:
    """Return *untrusted* as a manifest's id, a UUIDv7 in lower case."""
    return ManifestId(_matched(UUID7_PATTERN, untrusted, "a manifest's id"))


def parse_recording_id(untrusted: str) -> RecordingId:
    """Return *untrusted* as a recording's id, a UUIDv7 in lower case."""
    return RecordingId(_matched(UUID7_PATTERN, untrusted, "a recording's id"))


def parse_bay(untrusted: str) -> BayNumber:
    """Return *untrusted*, decimal digits without sign or leading zero, as a bay's number."""
    number = int(_matched(r"^[1-9][0-9]?" + END, untrusted, "a bay's number"))
    return BayNumber(number)


def mint_uuid7(*, unix_ms: int, entropy: bytes) -> str:
    """Return a UUIDv7 in lower case.

    Args:
        unix_ms: Milliseconds since 1970, 0 to 2^48 - 1.
        entropy: Exactly 10 random bytes; 74 of their 80 bits are used.

    Raises:
        ValueError: Our own mistake: a length or a time out of range.

    Source:
        RFC 9562 section 5.7.
    """
    if len(entropy) != _RANDOM_BYTES or not 0 <= unix_ms < _MS_LIMIT:
        raise ValueError("mint_uuid7 takes 48 bits of time and 10 bytes of entropy")
    value = int.from_bytes(unix_ms.to_bytes(6, "big") + entropy, "big")
    value = value & ~(0xF << 76) | (0x7 << 76)
    value = value & ~(0x3 << 62) | (0x2 << 62)
    return str(UUID(int=value))
