"""What is said to a charger's controller; docs/charger-protocol.md is its text.

The frames are those of the Bayward recorder line protocol 1, with verbs of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, unique
from typing import Final

from edge_agent.drivers.driver import Link
from edge_agent.drivers.frame_talk import FrameTalk
from edge_agent.errors import MalformedAnswerError, RecorderRefusedError
from edge_agent.lights.signals import Signal
from protocol.identifiers import HIGHEST_BAY
from protocol.messages import Charging

BAUD: Final = 115_200
# Of a controller that hears nothing from the dock for so long, every light says "do not take".
ALONE_S: Final = 10.0
DONE: Final = 0
_UNKNOWN_PERCENT: Final = 255
_FULL_PERCENT: Final = 100
_MAX_MODEL_BYTES: Final = 32
_BAY_BYTES: Final = 2


@unique
class ChargerVerb(IntEnum):
    """Requests; the numbers are on the line."""

    HELLO = 64
    SHOW = 65


@unique
class ChargeState(IntEnum):
    """How a slot charges; the numbers are on the line."""

    NOTHING_IN_IT = 0
    CHARGING = 1
    FULL = 2
    FAULT = 3


_TOLD: Final = {
    ChargeState.CHARGING: Charging.CHARGING,
    ChargeState.FULL: Charging.FULL,
    ChargeState.FAULT: Charging.FAULT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller:
    """What a controller says of itself."""

    slots: int
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """What a controller says of one slot.

    Attributes:
        charging: None if nothing that charges is in it.
        percent: 0 to 100, if the controller can tell.
    """

    charging: Charging | None
    percent: int | None


def parse_hello(untrusted: bytes) -> Controller:
    """Read the answer to HELLO.

    Raises:
        MalformedAnswerError: It is none.
    """
    model = untrusted[1:].decode("ascii", errors="replace")
    if not 1 <= len(untrusted) <= 1 + _MAX_MODEL_BYTES or not 1 <= untrusted[0] <= HIGHEST_BAY:
        raise MalformedAnswerError(f"hello: {untrusted[:40]!r}")
    return Controller(slots=untrusted[0], model=model)


def write_hello(controller: Controller) -> bytes:
    """Return the answer to HELLO."""
    return bytes([controller.slots]) + controller.model.encode("ascii")


def parse_slots(untrusted: bytes, slots: int) -> tuple[Slot, ...]:
    """Read the answer to SHOW.

    Raises:
        MalformedAnswerError: It is none.
    """
    if len(untrusted) != slots * _BAY_BYTES:
        raise MalformedAnswerError(f"show: {len(untrusted)} bytes for {slots} slots")
    pairs = zip(untrusted[::_BAY_BYTES], untrusted[1::_BAY_BYTES], strict=True)
    return tuple(_slot(state, percent) for state, percent in pairs)


def _slot(state: int, percent: int) -> Slot:
    if state not in tuple(ChargeState) or not (
        percent <= _FULL_PERCENT or percent == _UNKNOWN_PERCENT
    ):
        raise MalformedAnswerError(f"show: a slot with {state}, {percent}")
    return Slot(
        charging=_TOLD.get(ChargeState(state)),
        percent=None if percent == _UNKNOWN_PERCENT else percent,
    )


def write_slots(slots: Sequence[tuple[ChargeState, int | None]]) -> bytes:
    """Return the answer to SHOW: each slot's state, and its percentage if it is known."""
    return bytes(
        byte
        for state, percent in slots
        for byte in (state, _UNKNOWN_PERCENT if percent is None else percent)
    )


class ChargerSession:
    """One conversation with a controller. Every call blocks for a bounded time.

    Each raises `edge_agent.errors.DriverError` if it could not be finished, and nothing else.
    """

    def __init__(self, link: Link) -> None:
        self._talk = FrameTalk(link)
        self._slots: int | None = None

    def hello(self) -> Controller:
        """Ask what this is."""
        controller = parse_hello(self._ask(ChargerVerb.HELLO))
        self._slots = controller.slots
        return controller

    def show(self, signals: Sequence[Signal]) -> tuple[Slot, ...]:
        """Have the lights of slots 1, 2, … say something; return how each slot charges.

        Slots beyond *signals* say that they are empty; signals beyond the slots have no light.
        """
        slots = self.hello().slots if self._slots is None else self._slots
        wanted = [*signals[:slots], *[Signal.EMPTY] * (slots - len(signals))]
        return parse_slots(self._ask(ChargerVerb.SHOW, bytes(wanted)), slots)

    def _ask(self, verb: ChargerVerb, payload: bytes = b"") -> bytes:
        answer = self._talk.ask(verb, payload)
        if answer.result != DONE:
            text = f"{verb.name.lower()}: the controller says {answer.result}"
            raise RecorderRefusedError(text, result=answer.result)
        return answer.payload
