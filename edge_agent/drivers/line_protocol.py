"""The driver for the Bayward recorder line protocol 1; docs/recorder-protocol.md is its text."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from edge_agent.drivers.driver import (
    MAX_LOG_BYTES,
    Battery,
    ClockReading,
    Link,
    NetworkSettings,
    RecorderIdentity,
    RecorderLog,
    Resolution,
    Told,
    Unsupported,
    Verb,
)
from edge_agent.drivers.frame_talk import FrameTalk
from edge_agent.drivers.line_messages import (
    SUCCESS,
    LineVerb,
    Result,
    parse_battery,
    parse_challenge,
    parse_clock,
    parse_identity,
    parse_log_chunk,
    parse_network_settings,
    parse_resolution,
    proof_of,
    write_clock,
    write_log_request,
)
from edge_agent.drivers.user_information import UserInformation, parse_user_information
from edge_agent.errors import (
    DriverError,
    MalformedAnswerError,
    PasswordMissingError,
    PasswordRefusedError,
    RecorderNotReadyError,
    RecorderRefusedError,
)

# A choice: all of a MiB at 115,200 bit/s takes 100 s.
LOG_TIMEOUT_S: Final = 150.0


@dataclass(frozen=True, slots=True)
class LineProtocolDriver:
    """Recorders that speak our own open protocol."""

    name: str = "line-protocol-1"
    baud: int | None = 115_200

    def open(self, link: Link) -> "LineSession":
        """Begin a conversation; nothing is sent yet."""
        return LineSession(link)


class LineSession:
    """One conversation; unlocks the recorder when it asks for that, once."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._talk = FrameTalk(link)
        self._is_password_refused = False

    def identify(self) -> Told[RecorderIdentity]:
        """Ask which recorder this is."""
        payload = self._ask(LineVerb.IDENTIFY)
        return Unsupported(verb=Verb.IDENTIFY) if payload is None else parse_identity(payload)

    def read_user_information(self) -> Told[UserInformation]:
        """Ask whose it is."""
        payload = self._ask(LineVerb.READ_USER_INFORMATION)
        if payload is None:
            return Unsupported(verb=Verb.READ_USER_INFORMATION)
        return parse_user_information(payload)

    def read_clock(self) -> Told[ClockReading]:
        """Ask what time it has."""
        payload = self._ask(LineVerb.READ_CLOCK)
        return Unsupported(verb=Verb.READ_CLOCK) if payload is None else parse_clock(payload)

    def set_clock(self, local: datetime) -> Told[None]:
        """Set its clock to *local*."""
        return self._do(LineVerb.SET_CLOCK, Verb.SET_CLOCK, write_clock(local))

    def read_battery(self) -> Told[Battery]:
        """Ask how full its battery is."""
        payload = self._ask(LineVerb.READ_BATTERY)
        return Unsupported(verb=Verb.READ_BATTERY) if payload is None else parse_battery(payload)

    def read_resolution(self) -> Told[Resolution]:
        """Ask what it records at."""
        payload = self._ask(LineVerb.READ_RESOLUTION)
        if payload is None:
            return Unsupported(verb=Verb.READ_RESOLUTION)
        return parse_resolution(payload)

    def enter_disk_mode(self) -> Told[None]:
        """Have it appear as a disk, soon."""
        return self._do(LineVerb.ENTER_DISK_MODE, Verb.ENTER_DISK_MODE)

    def leave_disk_mode(self) -> Told[None]:
        """Have its disk go away."""
        return self._do(LineVerb.LEAVE_DISK_MODE, Verb.LEAVE_DISK_MODE)

    def set_indicator(self, *, on: bool) -> Told[None]:
        """Light the lamp by which a person finds it, or put it out."""
        return self._do(LineVerb.SET_INDICATOR, Verb.SET_INDICATOR, bytes([on]))

    def read_network_settings(self) -> Told[NetworkSettings]:
        """Ask by which networks it would connect by itself."""
        payload = self._ask(LineVerb.READ_NETWORK_SETTINGS)
        if payload is None:
            return Unsupported(verb=Verb.READ_NETWORK_SETTINGS)
        return parse_network_settings(payload)

    def export_log(self) -> Told[RecorderLog]:
        """Take its log, as far as it comes in time."""
        deadline_s = self._link.monotonic_s() + LOG_TIMEOUT_S
        content = bytearray()
        while len(content) < MAX_LOG_BYTES and self._link.monotonic_s() < deadline_s:
            payload = self._ask(LineVerb.READ_LOG, write_log_request(len(content)))
            if payload is None:
                return Unsupported(verb=Verb.EXPORT_LOG)
            size_bytes, chunk = parse_log_chunk(payload)
            content += chunk
            if len(content) >= size_bytes:
                return _log(content, is_complete=len(content) == size_bytes)
            if not chunk:
                break
        return _log(content, is_complete=False)

    def _do(self, verb: LineVerb, told: Verb, payload: bytes = b"") -> Told[None]:
        answer = self._ask(verb, payload)
        if answer:
            raise MalformedAnswerError(f"{told.value}: {len(answer)} bytes where none belong")
        return Unsupported(verb=told) if answer is None else None

    def _ask(self, verb: LineVerb, payload: bytes = b"") -> bytes | None:
        """Return the payload of a successful answer; None if the recorder lacks the verb."""
        answer = self._talk.ask(verb, payload)
        if answer.result == Result.LOCKED:
            self._unlock()
            answer = self._talk.ask(verb, payload)
        if answer.result == SUCCESS.get(verb, Result.DONE):
            return answer.payload
        if answer.result == Result.UNSUPPORTED:
            return None
        raise _refusal(verb, answer.result)

    def _unlock(self) -> None:
        if self._link.password is None:
            raise PasswordMissingError("the recorder is locked, and there is no password for it")
        if self._is_password_refused:
            raise PasswordRefusedError("the password was refused before; it is not tried again")
        answer = self._talk.ask(LineVerb.READ_CHALLENGE)
        if answer.result != Result.DONE:
            raise _refusal(LineVerb.READ_CHALLENGE, answer.result)
        proof = proof_of(
            self._link.password,
            session=self._link.session_number,
            challenge=parse_challenge(answer.payload),
        )
        answer = self._talk.ask(LineVerb.UNLOCK, proof)
        if answer.result == Result.PASSWORD_WRONG:
            self._is_password_refused = True
            raise PasswordRefusedError("the recorder refuses the password")
        if answer.result != Result.PASSWORD_RIGHT:
            raise _refusal(LineVerb.UNLOCK, answer.result)


def _refusal(verb: LineVerb, result: int) -> DriverError:
    if result == Result.NOT_READY:
        return RecorderNotReadyError(f"{verb.name}: not ready")
    name = Result(result).name if result in tuple(Result) else "no code of ours"
    return RecorderRefusedError(f"{verb.name}: result {result} ({name})", result=result)


def _log(content: bytearray, *, is_complete: bool) -> RecorderLog:
    return RecorderLog(content=bytes(content[:MAX_LOG_BYTES]), is_complete=is_complete)


DRIVER: Final = LineProtocolDriver()
