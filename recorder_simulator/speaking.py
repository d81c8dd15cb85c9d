"""The recorder's end of both protocols: bytes from the dock in, what to answer out."""

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, Protocol

from edge_agent.drivers.driver import DevicePassword, Resolution, Verb
from edge_agent.drivers.line_frames import Frame, FrameDecoder, Kind, encode_frame
from edge_agent.drivers.line_messages import (
    SUCCESS,
    LineVerb,
    Result,
    parse_clock,
    proof_of,
    write_clock,
    write_identity,
    write_log_chunk,
    write_resolution,
    write_texts,
)
from edge_agent.drivers.socket_frames import (
    COMMAND,
    DATA,
    BodyDecoder,
    SocketVerb,
    encode_body,
    encode_data,
)
from edge_agent.errors import MalformedAnswerError
from recorder_simulator.recorder import SimulatedRecorder

# What a handler returns: a result, and the payload beside it.
Reply = tuple[Result, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request, and what can be sent for it.

    Attributes:
        verb: What was asked; None for what belongs to no verb, such as a challenge.
        perform: Does it, and returns the bytes of the answer.
        is_unlock: Whether it brings what proves the password.
        other: The bytes of a right answer to another request.
        saying: Returns the bytes of an answer with this result and nothing else.
    """

    verb: Verb | None
    perform: Callable[[], bytes]
    is_unlock: bool = False
    other: bytes
    saying: Callable[[Result], bytes]


class Speaker(Protocol):
    """The recorder's end of one protocol."""

    def hear(self, untrusted: bytes) -> list[Exchange]:
        """Return the requests that *untrusted* completes."""


_VERBS: Final[Mapping[LineVerb, Verb]] = MappingProxyType(
    {
        LineVerb.IDENTIFY: Verb.IDENTIFY,
        LineVerb.READ_USER_INFORMATION: Verb.READ_USER_INFORMATION,
        LineVerb.READ_CLOCK: Verb.READ_CLOCK,
        LineVerb.SET_CLOCK: Verb.SET_CLOCK,
        LineVerb.READ_BATTERY: Verb.READ_BATTERY,
        LineVerb.READ_RESOLUTION: Verb.READ_RESOLUTION,
        LineVerb.ENTER_DISK_MODE: Verb.ENTER_DISK_MODE,
        LineVerb.LEAVE_DISK_MODE: Verb.LEAVE_DISK_MODE,
        LineVerb.SET_INDICATOR: Verb.SET_INDICATOR,
        LineVerb.READ_NETWORK_SETTINGS: Verb.READ_NETWORK_SETTINGS,
        LineVerb.READ_LOG: Verb.EXPORT_LOG,
    }
)
_OPEN: Final = frozenset({LineVerb.IDENTIFY, LineVerb.READ_CHALLENGE, LineVerb.UNLOCK})


class LineSpeaker:
    """Speaks the Bayward recorder line protocol 1."""

    def __init__(self, recorder: SimulatedRecorder) -> None:
        self._recorder = recorder
        self._decoder = FrameDecoder()
        self._challenge: bytes | None = None

    def hear(self, untrusted: bytes) -> list[Exchange]:
        """Return the requests that *untrusted* completes."""
        frames = self._decoder.feed(untrusted)
        return [self._exchange(frame) for frame in frames if frame.kind is Kind.REQUEST]

    def _exchange(self, request: Frame) -> Exchange:
        def saying(result: Result, payload: bytes = b"") -> bytes:
            return encode_frame(replace(request, kind=Kind.ANSWER, result=result, payload=payload))

        other = replace(
            request, kind=Kind.ANSWER, result=Result.DONE, sequence=request.sequence ^ 1
        )
        verb = LineVerb(request.verb) if request.verb in tuple(LineVerb) else None
        return Exchange(
            verb=None if verb is None else _VERBS.get(verb),
            perform=lambda: saying(*self._reply(verb, request)),
            is_unlock=verb is LineVerb.UNLOCK,
            other=encode_frame(other),
            saying=saying,
        )

    def _reply(self, verb: LineVerb | None, request: Frame) -> Reply:
        if verb is None:
            return Result.UNSUPPORTED, b""
        if not self._recorder.is_unlocked and verb not in _OPEN:
            return Result.LOCKED, b""
        if verb is LineVerb.READ_CHALLENGE:
            self._challenge = self._recorder.challenge()
            return Result.DONE, self._challenge
        if verb is LineVerb.UNLOCK:
            return self._unlock(request)
        return _reply(self._recorder, verb, request.payload)

    def _unlock(self, request: Frame) -> Reply:
        """Each challenge is good for one try."""
        challenge, self._challenge = self._challenge, None
        password = self._recorder.script.password
        if challenge is None or password is None:
            return Result.FAILED, b""
        right = proof_of(
            DevicePassword(password.encode()), session=request.session, challenge=challenge
        )
        self._recorder.is_unlocked = hmac.compare_digest(right, request.payload)
        is_right = self._recorder.is_unlocked
        return Result.PASSWORD_RIGHT if is_right else Result.PASSWORD_WRONG, b""


def _reply(recorder: SimulatedRecorder, verb: LineVerb, payload: bytes) -> Reply:
    """Do what *verb* asks for."""
    if verb is LineVerb.SET_CLOCK:
        return _set_clock(recorder, payload)
    if verb is LineVerb.SET_INDICATOR:
        recorder.is_indicator_on = payload == b"\1"
        return Result.DONE, b""
    if verb in {LineVerb.ENTER_DISK_MODE, LineVerb.LEAVE_DISK_MODE}:
        recorder.is_disk = verb is LineVerb.ENTER_DISK_MODE
        return SUCCESS.get(verb, Result.DONE), b""
    told = _tell(recorder, verb, payload)
    if told is None:
        return Result.MALFORMED_REQUEST, b""
    return SUCCESS.get(verb, Result.DONE), told


def _tell(recorder: SimulatedRecorder, verb: LineVerb, payload: bytes) -> bytes | None:
    """Return what *verb* asks to know."""
    script = recorder.script
    if verb is LineVerb.READ_LOG:
        return write_log_chunk(script.log.encode("gbk"), payload)
    tell: dict[LineVerb, Callable[[], bytes]] = {
        LineVerb.IDENTIFY: lambda: write_identity(
            type_code=script.type_code.encode("gbk"),
            serial=script.serial.encode("gbk"),
            model=script.model.encode("gbk"),
            firmware=script.firmware.encode("gbk"),
        ),
        LineVerb.READ_USER_INFORMATION: lambda: script.user_information,
        LineVerb.READ_CLOCK: lambda: write_clock(recorder.clock),
        LineVerb.READ_BATTERY: lambda: bytes([script.battery_percent]),
        LineVerb.READ_RESOLUTION: lambda: write_resolution(
            Resolution(width_px=script.width_px, height_px=script.height_px)
        ),
        LineVerb.READ_NETWORK_SETTINGS: lambda: write_texts(
            script.wifi_name.encode("gbk"),
            script.access_point_name.encode("gbk"),
            script.server.encode("gbk"),
        ),
    }
    return tell[verb]()


def _set_clock(recorder: SimulatedRecorder, payload: bytes) -> Reply:
    try:
        local = parse_clock(payload).local
    except MalformedAnswerError:
        return Result.MALFORMED_REQUEST, b""
    if local is None:
        return Result.CLOCK_FAILED, b""
    recorder.set_clock(local)
    return Result.CLOCK_SET, b""


class SocketSpeaker:
    """Speaks the socket-framed protocol."""

    def __init__(self, recorder: SimulatedRecorder) -> None:
        self._recorder = recorder
        self._decoder = BodyDecoder()

    def hear(self, untrusted: bytes) -> list[Exchange]:
        """Return the requests that *untrusted* completes."""
        bodies = self._decoder.feed(untrusted)
        return [self._exchange(body) for body in bodies if body.startswith(COMMAND)]

    def _exchange(self, body: bytes) -> Exchange:
        letters = body[len(COMMAND) : len(COMMAND) + 4]
        payload = body[len(COMMAND) + 4 :]
        verb = next((one for one in SocketVerb if one.value == letters), None)
        line_verb = None if verb is None else LineVerb[verb.name]

        def saying(result: Result, told: bytes = b"") -> bytes:
            # The letters come back as they came, whatever they are.
            return encode_body(DATA + letters + b"%02d" % result + told)

        def perform() -> bytes:
            if verb is None or line_verb is None:
                return saying(Result.UNSUPPORTED)
            return saying(*self._in_digits(verb, line_verb, payload))

        other = SocketVerb.READ_CLOCK if verb is not SocketVerb.READ_CLOCK else SocketVerb.IDENTIFY
        return Exchange(
            verb=None if line_verb is None else _VERBS[line_verb],
            perform=perform,
            other=encode_data(other, Result.DONE),
            saying=saying,
        )

    def _in_digits(self, verb: SocketVerb, line_verb: LineVerb, payload: bytes) -> Reply:
        script = self._recorder.script
        if verb is SocketVerb.IDENTIFY:
            return Result.CONNECTED, (script.type_code + script.serial).encode("gbk")
        if verb is SocketVerb.READ_BATTERY:
            return Result.DONE, b"%03d" % script.battery_percent
        if verb is SocketVerb.READ_RESOLUTION:
            return Result.DONE, b"%05d%05d" % (script.width_px, script.height_px)
        return _reply(self._recorder, line_verb, payload)
