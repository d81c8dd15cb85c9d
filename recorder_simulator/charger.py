"""A charger's controller at the other end of a line: what its lights say, and how it misbehaves.

Source: docs/charger-protocol.md. Whoever drives it says what time it is; nothing here waits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, unique
from random import Random
from typing import Final

from edge_agent.drivers.line_frames import Frame, FrameDecoder, Kind, encode_frame
from edge_agent.lights.charger import (
    ALONE_S,
    DONE,
    ChargerVerb,
    ChargeState,
    Controller,
    write_hello,
    write_slots,
)
from edge_agent.lights.signals import Signal, at_rest

_REFUSED: Final = 9
_NOISE_BYTES: Final = 64


@unique
class ChargerFault(Enum):
    """How a controller goes wrong."""

    SILENCE = "silence"  # no answer
    GARBAGE = "garbage"  # noise, then the answer
    HALF_FRAME = "half-frame"  # the first half of the answer
    WRONG_CHECKSUM = "wrong-checksum"  # the answer with one bit wrong
    WRONG_LENGTH = "wrong-length"  # an answer about one slot too few
    REFUSAL = "refusal"  # understood, and failed
    RESTART = "restart"  # the port goes away, and comes back after a second


@dataclass(slots=True, kw_only=True)
class Trouble:
    """A fault that is at the next *times* requests."""

    fault: ChargerFault
    times: int = 1_000_000


class ChargerEngine:
    """Hears, shows, and has answers to send."""

    def __init__(
        self,
        controller: Controller,
        slots: Sequence[tuple[ChargeState, int | None]],
        troubles: Sequence[Trouble],
        *,
        tell: Callable[[str], None],
    ) -> None:
        """*tell* is told each light that changes, a line each."""
        self._controller = controller
        self._slots = slots
        self._troubles = list(troubles)
        self._tell = tell
        self._lights = [Signal.EMPTY] * controller.slots
        self._decoder = FrameDecoder()
        self._unsaid = b""
        self._heard_s: float | None = None
        self._away_until_s: float | None = None
        self._chance = Random(0)  # noqa: S311 - the same noise each time is wanted

    def hear(self, untrusted: bytes, *, now_s: float) -> None:
        """Take bytes from the dock."""
        for frame in self._decoder.feed(untrusted):
            if frame.kind is Kind.REQUEST:
                self._heard_s = now_s
                self._unsaid += self._troubled(self._answer(frame), now_s)

    def say(self, *, now_s: float) -> bytes:
        """Return what is due; lights change by themselves when nobody asks any more."""
        alone_s = self._alone_at_s()
        if alone_s is not None and now_s >= alone_s:
            self._heard_s = None
            self._light([at_rest(signal) for signal in self._lights])
        said, self._unsaid = self._unsaid, b""
        return said

    def next_event_s(self, *, now_s: float) -> float | None:
        """When it comes back, or believes itself alone."""
        times = [one for one in (self._away_until_s, self._alone_at_s()) if one is not None]
        return min((one for one in times if one > now_s), default=None)

    def is_connected(self, now_s: float) -> bool:
        """Whether its port is there."""
        return self._away_until_s is None or now_s >= self._away_until_s

    def is_disk(self, now_s: float) -> bool:  # noqa: ARG002 - as a recorder's
        """Never."""
        return False

    def eject(self) -> None:
        """There is nothing to take out."""

    def _alone_at_s(self) -> float | None:
        return None if self._heard_s is None else self._heard_s + ALONE_S

    def _answer(self, request: Frame) -> Frame:
        result, payload = DONE, b""
        if request.verb == ChargerVerb.HELLO:
            payload = write_hello(self._controller)
        elif request.verb == ChargerVerb.SHOW and self._understands(request.payload):
            self._light([Signal(byte) for byte in request.payload])
            payload = write_slots(self._slots)
        else:
            result = _REFUSED
        return Frame(
            kind=Kind.ANSWER,
            session=request.session,
            sequence=request.sequence,
            verb=request.verb,
            result=result,
            payload=payload,
        )

    def _understands(self, payload: bytes) -> bool:
        return len(payload) == self._controller.slots and set(payload) <= set(Signal)

    def _light(self, lights: list[Signal]) -> None:
        for number, (before, now) in enumerate(zip(self._lights, lights, strict=True), start=1):
            if before is not now:
                self._tell(f"slot {number} {now.name.lower().replace('_', '-')}")
        self._lights = lights

    def _troubled(self, answer: Frame, now_s: float) -> bytes:
        trouble = next((one for one in self._troubles if one.times > 0), None)
        if trouble is None:
            return encode_frame(answer)
        trouble.times -= 1
        if trouble.fault is ChargerFault.RESTART:
            self._away_until_s = now_s + 1.0
            self._decoder = FrameDecoder()
            return b""
        return _mangled(trouble.fault, answer, self._chance)


def _mangled(fault: ChargerFault, answer: Frame, chance: Random) -> bytes:
    """Return what comes instead of an answer."""
    data = encode_frame(answer)
    middle = len(data) // 2
    return {
        ChargerFault.SILENCE: b"",
        ChargerFault.GARBAGE: chance.randbytes(_NOISE_BYTES) + data,
        ChargerFault.HALF_FRAME: data[:middle],
        ChargerFault.WRONG_CHECKSUM: data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        ChargerFault.WRONG_LENGTH: encode_frame(_with(answer, payload=answer.payload[:-2])),
        ChargerFault.REFUSAL: encode_frame(_with(answer, result=_REFUSED, payload=b"")),
    }[fault]


def _with(answer: Frame, *, payload: bytes, result: int = DONE) -> Frame:
    return Frame(
        kind=answer.kind,
        session=answer.session,
        sequence=answer.sequence,
        verb=answer.verb,
        result=result,
        payload=payload,
    )
