"""What a bay's light says, and how a lamp shows it. docs/bay-lights.md is its text for people.

A recorder may be taken when its light says so and at no other time: whatever is not clear is
"do not take".
"""

from enum import IntEnum, unique
from types import MappingProxyType
from typing import Final

from protocol.messages import BayMessage, BayState


@unique
class Signal(IntEnum):
    """What a light says; the numbers are those of docs/charger-protocol.md."""

    EMPTY = 0
    READING = 1
    DO_NOT_TAKE = 2
    SAFE_TO_TAKE = 3
    ATTENTION = 4
    IDENTIFY = 5


@unique
class Shine(IntEnum):
    """How one lamp burns; the value is half of its period in quarters of a second."""

    OFF = -1
    ON = 0
    FAST = 1
    SLOW = 4


_SIGNALS: Final = MappingProxyType(
    {
        BayState.EMPTY: Signal.EMPTY,
        BayState.IDENTIFYING: Signal.READING,
        BayState.INGESTING: Signal.READING,
        BayState.SEALED: Signal.DO_NOT_TAKE,
        BayState.ERASING: Signal.DO_NOT_TAKE,
        BayState.RELEASABLE: Signal.SAFE_TO_TAKE,
        BayState.QUARANTINED: Signal.ATTENTION,
        BayState.ATTENTION: Signal.ATTENTION,
    }
)
# While something keeps these from going on, a person has to see it.
_HELD_UP: Final = frozenset({Signal.EMPTY, Signal.READING})

GREEN_AND_RED: Final = MappingProxyType(
    {
        Signal.EMPTY: (Shine.OFF, Shine.OFF),
        Signal.READING: (Shine.SLOW, Shine.SLOW),
        Signal.DO_NOT_TAKE: (Shine.OFF, Shine.ON),
        Signal.SAFE_TO_TAKE: (Shine.ON, Shine.OFF),
        Signal.ATTENTION: (Shine.OFF, Shine.FAST),
        Signal.IDENTIFY: (Shine.FAST, Shine.FAST),
    }
)
# One lamp: steady is safe, and nothing else is steady.
GREEN_ALONE: Final = MappingProxyType(
    {
        Signal.EMPTY: Shine.OFF,
        Signal.READING: Shine.SLOW,
        Signal.DO_NOT_TAKE: Shine.SLOW,
        Signal.SAFE_TO_TAKE: Shine.ON,
        Signal.ATTENTION: Shine.FAST,
        Signal.IDENTIFY: Shine.FAST,
    }
)


def signal_of(bay: BayMessage, *, is_well: bool = True) -> Signal:
    """Return what the light of a bay says.

    Args:
        bay: As it is shown.
        is_well: Whether the dock as a whole is: where the no-internet rule is broken, or the
            archive's log is not what it was, the console may not hear of it, and the bays that are
            free say so. Those in use say what becomes of their recorder.
    """
    signal = _SIGNALS[bay.state]
    if not is_well and signal is Signal.EMPTY:
        return Signal.ATTENTION
    if bay.problem is not None and signal in _HELD_UP:
        return Signal.ATTENTION
    return signal


def at_rest(signal: Signal) -> Signal:
    """Return what a light says that nobody looks after any more: nothing is safe."""
    return Signal.EMPTY if signal is Signal.EMPTY else Signal.DO_NOT_TAKE


def is_lit(shine: Shine, quarter: int) -> bool:
    """Return whether a lamp burns in a quarter of a second, counted from any moment."""
    if shine <= 0:
        return shine is Shine.ON
    return quarter // shine % 2 == 0
