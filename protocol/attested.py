"""What the archive answers to attestations: how far it has a dock's chain of them."""

from typing import Annotated, Final

from msgspec import Meta

from protocol.digest import HexDigest
from protocol.identifiers import DockField
from protocol.manifest import UtcTime
from protocol.strict_json import Message

_MOST: Final = (1 << 63) - 1


class Attested(Message, frozen=True, kw_only=True):
    """The archive keeps a dock's attestations from number 1 to ``sequence``, durably.

    Attributes:
        sequence: Of the last one; 0 if it has none.
        payload_sha256: Of the last one's exact payload; 64 zeros if it has none.
        answered_at: By the archive's clock.
    """

    dock: DockField
    sequence: Annotated[int, Meta(ge=0, le=_MOST)]
    payload_sha256: HexDigest
    answered_at: UtcTime
