"""A recorder at the other end of a line, over time: what it sends when, and when it is there.

Whoever drives it says what time it is; nothing here waits. The same seed and the same requests at
the same times give the same bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Final

from edge_agent.drivers.line_messages import Result
from recorder_simulator.recorder import SimulatedRecorder
from recorder_simulator.script import Fault, FaultKind, Script
from recorder_simulator.speaking import Exchange, LineSpeaker, SocketSpeaker, Speaker

_NOISE_BYTES: Final = 64
_FLOOD_BYTES: Final = 4096
_SAID: Final = {
    FaultKind.PASSWORD_REFUSED: Result.PASSWORD_WRONG,
    FaultKind.REFUSAL: Result.FAILED,
    FaultKind.UNSUPPORTED: Result.UNSUPPORTED,
    FaultKind.NOT_READY: Result.NOT_READY,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Due:
    at_s: float
    data: bytes


class Engine:
    """Hears, and has things to send."""

    def __init__(self, script: Script, *, utc: Callable[[], datetime]) -> None:
        self._chance = Random(script.seed)  # noqa: S311 - the same noise each time is wanted
        self.recorder = SimulatedRecorder(script, utc=utc, chance=self._chance)
        self._script = script
        self._faults_left = [fault.times for fault in script.faults]
        self._due: list[_Due] = []
        self._is_flooding = False
        self._away_until_s: float | None = None
        self._disk_at_s: float | None = None
        self._speaker = self._new_speaker()

    def hear(self, untrusted: bytes, *, now_s: float) -> None:
        """Take bytes from the dock."""
        if not self.is_connected(now_s):
            return
        for exchange in self._speaker.hear(untrusted):
            self._answer(exchange, now_s)
        if self.recorder.is_disk and self._disk_at_s is None:
            self._disk_at_s = now_s + self._script.disk_mode_after_s
        elif not self.recorder.is_disk:
            self._disk_at_s = None

    def say(self, *, now_s: float) -> bytes:
        """Return what is due; during a flood there always is something."""
        if not self.is_connected(now_s):
            return b""
        due = [one for one in self._due if one.at_s <= now_s]
        self._due = [one for one in self._due if one.at_s > now_s]
        said = b"".join(one.data for one in due)
        return said + self._chance.randbytes(_FLOOD_BYTES) if self._is_flooding else said

    def next_event_s(self, *, now_s: float) -> float | None:
        """When something will happen by itself; None if nothing will."""
        if self._is_flooding and self.is_connected(now_s):
            return now_s
        times = [one.at_s for one in self._due]
        times += [one for one in (self._away_until_s, self._disk_at_s) if one is not None]
        return min((one for one in times if one > now_s), default=None)

    def is_connected(self, now_s: float) -> bool:
        """Whether its port is there."""
        return self._away_until_s is None or now_s >= self._away_until_s

    def is_disk(self, now_s: float) -> bool:
        """Whether its volume is there."""
        return self._disk_at_s is not None and now_s >= self._disk_at_s

    def eject(self) -> None:
        """Have the volume go away, as when it is taken out."""
        self.recorder.is_disk = False
        self._disk_at_s = None

    def _answer(self, exchange: Exchange, now_s: float) -> None:
        fault = self._fault_of(exchange)
        if fault is None:
            self._later(exchange.perform(), now_s)
        elif fault.kind in _SAID:
            self._later(exchange.saying(_SAID[fault.kind]), now_s)
        elif fault.kind is FaultKind.OTHER_ANSWER:
            self._later(exchange.other, now_s)
        elif fault.kind is FaultKind.FLOOD:
            self._is_flooding = True
        elif fault.kind is FaultKind.RE_ENUMERATION:
            exchange.perform()
            self._plug_in_anew(now_s + fault.seconds)
        elif fault.kind is not FaultKind.SILENCE:
            self._mangle(fault, exchange.perform(), now_s)

    def _mangle(self, fault: Fault, answer: bytes, now_s: float) -> None:
        """Send an answer that is right but for how it is sent."""
        if fault.kind is FaultKind.GARBAGE:
            self._later(self._chance.randbytes(_NOISE_BYTES) + answer, now_s)
        elif fault.kind is FaultKind.HALF_FRAME:
            self._later(answer[: len(answer) // 2], now_s)
        elif fault.kind is FaultKind.LATE_ANSWER:
            self._later(answer, now_s + fault.seconds)
        elif fault.kind is FaultKind.SLOW_BYTES:
            for index, byte in enumerate(answer):
                self._later(bytes([byte]), now_s + index * fault.seconds)
        else:
            middle = len(answer) // 2
            self._later(_flipped(answer, middle), now_s)

    def _fault_of(self, exchange: Exchange) -> Fault | None:
        for index, fault in enumerate(self._script.faults):
            fits = fault.verb is None or fault.verb is exchange.verb
            if fault.kind is FaultKind.PASSWORD_REFUSED:
                fits = exchange.is_unlock
            if fits and self._faults_left[index] > 0:
                self._faults_left[index] -= 1
                return fault
        return None

    def _plug_in_anew(self, at_s: float) -> None:
        self._due.clear()
        self._is_flooding = False
        self._away_until_s = at_s
        self.recorder.plug_in_anew()
        self._speaker = self._new_speaker()

    def _later(self, data: bytes, at_s: float) -> None:
        self._due.append(_Due(at_s=at_s, data=data))

    def _new_speaker(self) -> Speaker:
        if self._script.protocol == "line":
            return LineSpeaker(self.recorder)
        return SocketSpeaker(self.recorder)


def _flipped(data: bytes, index: int) -> bytes:
    return data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]
