"""The life of a sealed manifest until its receipt, as a table.

That the broker took a manifest is no event: brokers lose what they acknowledged. Only what the
archive has signed moves a manifest, and only its verified receipt ends the dock's duty.
"""

from collections.abc import Mapping
from enum import Enum, unique
from types import MappingProxyType
from typing import Final

from edge_agent.errors import IllegalTransitionError


@unique
class ManifestState(Enum):
    """Where a manifest stands; the values are written to the journal."""

    PENDING = "pending"
    ADMITTED = "admitted"
    REFUSED = "refused"
    RECEIPTED = "receipted"


@unique
class ManifestEvent(Enum):
    """What the archive can say about a manifest, signed."""

    KEPT_WAITING = "kept_waiting"
    ADMITTED = "admitted"
    REFUSED = "refused"
    RECEIPT_VERIFIED = "receipt_verified"


_S = ManifestState
_E = ManifestEvent

# A refused manifest may still be admitted: the registry was corrected. An admitted one may still
# be refused: the archive was restored from an older copy. A receipt is final: the staged files may
# be gone, so a refusal after it has no row and is kept as a contradiction.
TRANSITIONS: Final[Mapping[tuple[ManifestState, ManifestEvent], ManifestState]] = MappingProxyType(
    {
        (_S.PENDING, _E.KEPT_WAITING): _S.PENDING,
        (_S.PENDING, _E.ADMITTED): _S.ADMITTED,
        (_S.PENDING, _E.REFUSED): _S.REFUSED,
        (_S.PENDING, _E.RECEIPT_VERIFIED): _S.RECEIPTED,
        (_S.ADMITTED, _E.KEPT_WAITING): _S.ADMITTED,
        (_S.ADMITTED, _E.ADMITTED): _S.ADMITTED,
        (_S.ADMITTED, _E.REFUSED): _S.REFUSED,
        (_S.ADMITTED, _E.RECEIPT_VERIFIED): _S.RECEIPTED,
        (_S.REFUSED, _E.KEPT_WAITING): _S.PENDING,
        (_S.REFUSED, _E.ADMITTED): _S.ADMITTED,
        (_S.REFUSED, _E.REFUSED): _S.REFUSED,
        (_S.REFUSED, _E.RECEIPT_VERIFIED): _S.RECEIPTED,
        (_S.RECEIPTED, _E.KEPT_WAITING): _S.RECEIPTED,
        (_S.RECEIPTED, _E.ADMITTED): _S.RECEIPTED,
        (_S.RECEIPTED, _E.RECEIPT_VERIFIED): _S.RECEIPTED,
    }
)


def advance(state: ManifestState, event: ManifestEvent) -> ManifestState:
    """Return the state that *event* leads to from *state*.

    Raises:
        IllegalTransitionError: The table has no such row. No message can cause this:
            `answers.decide` keeps what the table does not allow as a contradiction.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransitionError(f"{event.value} in state {state.value}") from None
