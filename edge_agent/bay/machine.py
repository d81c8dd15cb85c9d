"""The life of one bay, as a table.

A bay is one physical slot. Every transition that it can make is a row below, and there are no
others: no clock, no thread and no I/O in this module. The diagram in docs/bay-lifecycle.md is
generated from TRANSITIONS.
"""

from collections.abc import Mapping
from enum import Enum, unique
from types import MappingProxyType
from typing import Final

from edge_agent.errors import IllegalTransitionError
from protocol.messages import BayState


@unique
class BayEvent(Enum):
    """What can happen to a bay."""

    ARRIVED = "arrived"
    IDENTIFIED = "identified"
    REFUSED = "refused"
    MANIFEST_SEALED = "manifest_sealed"
    RECEIPT_VERIFIED = "receipt_verified"
    ERASING_BEGAN = "erasing_began"
    ERASING_ENDED = "erasing_ended"
    FAULT = "fault"
    RETRY = "retry"
    LEFT = "left"


_S = BayState
_E = BayEvent

# A recorder with nothing new still ends in a sealed manifest: the archive sees that it came back.
# FAULT is a step of ours that failed, or a file that a person must look at; a refused recorder may
# be tried again, since the registry may know it by now. A receipt releases from SEALED alone:
# what needs attention was not taken whole. Only what may be taken is ever erased; however that
# ends, it may be taken then.
TRANSITIONS: Final[Mapping[tuple[BayState, BayEvent], BayState]] = MappingProxyType(
    {
        (_S.EMPTY, _E.ARRIVED): _S.IDENTIFYING,
        (_S.IDENTIFYING, _E.IDENTIFIED): _S.INGESTING,
        (_S.IDENTIFYING, _E.REFUSED): _S.QUARANTINED,
        (_S.IDENTIFYING, _E.FAULT): _S.ATTENTION,
        (_S.INGESTING, _E.MANIFEST_SEALED): _S.SEALED,
        (_S.INGESTING, _E.FAULT): _S.ATTENTION,
        (_S.SEALED, _E.RECEIPT_VERIFIED): _S.RELEASABLE,
        (_S.SEALED, _E.FAULT): _S.ATTENTION,
        (_S.RELEASABLE, _E.ERASING_BEGAN): _S.ERASING,
        (_S.ERASING, _E.ERASING_ENDED): _S.RELEASABLE,
        (_S.QUARANTINED, _E.RETRY): _S.IDENTIFYING,
        (_S.ATTENTION, _E.RETRY): _S.IDENTIFYING,
        **{(state, _E.LEFT): _S.EMPTY for state in BayState if state is not _S.EMPTY},
    }
)


def advance(state: BayState, event: BayEvent) -> BayState:
    """Return the state that *event* leads to from *state*.

    Raises:
        IllegalTransitionError: The table has no such row. Hardware cannot cause this: adapters
            turn every surprise into REFUSED, FAULT or LEFT.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransitionError(f"{event.value} in state {state.value}") from None
