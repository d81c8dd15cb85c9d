"""The driver for the socket-framed protocol: a 4-byte length, then ``E12CMD…`` or ``E12DAT…``.

Only the framing is known of it. Which verbs there are and how they are written is defined here, as
little as the dialog needs: docs/recorder-protocol.md, "Socket frames". It has neither checksum nor
sequence numbers, and its passwords protect nothing, so none is ever sent.
"""

import struct
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, unique
from typing import Final

from edge_agent.drivers.driver import (
    HIGHEST_BATTERY_PERCENT,
    Battery,
    ClockReading,
    Link,
    RecorderIdentity,
    Resolution,
    Told,
    Unsupported,
    Verb,
)
from edge_agent.drivers.exchange import Exchange
from edge_agent.drivers.line_messages import (
    TYPE_CODE_BYTES,
    Result,
    identity_of,
    parse_clock,
    write_clock,
)
from edge_agent.drivers.user_information import UserInformation, parse_user_information
from edge_agent.errors import MalformedAnswerError, RecorderNotReadyError, RecorderRefusedError

COMMAND: Final = b"E12CMD"
DATA: Final = b"E12DAT"
_LENGTH: Final = struct.Struct(">I")
_NAME_BYTES: Final = 4
_RESULT_BYTES: Final = 2
# A choice: user information is the longest answer that there is.
MAX_BODY_BYTES: Final = 256
_SHORTEST_BODY_BYTES: Final = len(COMMAND) + _NAME_BYTES


@unique
class SocketVerb(Enum):
    """Requests; the four letters are on the line."""

    IDENTIFY = b"IDEN"
    READ_USER_INFORMATION = b"USER"
    READ_CLOCK = b"TIMR"
    SET_CLOCK = b"TIMS"
    READ_BATTERY = b"BATT"
    READ_RESOLUTION = b"RESO"
    ENTER_DISK_MODE = b"DISK"


_SUCCESS: Final = {
    SocketVerb.IDENTIFY: Result.CONNECTED,
    SocketVerb.SET_CLOCK: Result.CLOCK_SET,
    SocketVerb.ENTER_DISK_MODE: Result.DISK_MODE_ENTERED,
}


def encode_body(body: bytes) -> bytes:
    """Return *body* behind its length: 4 bytes, the most significant first.

    Raises:
        ValueError: It is shorter than a tag with a name, or longer than MAX_BODY_BYTES.
    """
    if not _SHORTEST_BODY_BYTES <= len(body) <= MAX_BODY_BYTES:
        raise ValueError(f"a body of {len(body)} bytes")
    return _LENGTH.pack(len(body)) + body


def encode_command(verb: SocketVerb, payload: bytes = b"") -> bytes:
    """Return the bytes of a request."""
    return encode_body(COMMAND + verb.value + payload)


def encode_data(verb: SocketVerb, result: int, payload: bytes = b"") -> bytes:
    """Return the bytes of an answer; *result* is written as two digits."""
    return encode_body(DATA + verb.value + b"%02d" % result + payload)


def parse_data(untrusted_body: bytes) -> tuple[bytes, int, bytes] | None:
    """Return an answer's verb, as its letters, result and payload; None if it is no answer."""
    head = len(DATA) + _NAME_BYTES
    digits = untrusted_body[head : head + _RESULT_BYTES]
    if not untrusted_body.startswith(DATA) or len(digits) != _RESULT_BYTES or not digits.isdigit():
        return None
    return untrusted_body[len(DATA) : head], int(digits), untrusted_body[head + _RESULT_BYTES :]


class BodyDecoder:
    """Bodies from pieces of any size; holds no more than one.

    There is no delimiter, so it looks for a plausible length with a tag behind it, byte by byte.
    """

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, untrusted: bytes) -> list[bytes]:
        """Return the bodies that *untrusted* completes, in order."""
        bodies: list[bytes] = []
        step = MAX_BODY_BYTES
        for start in range(0, len(untrusted), step):
            self._held += untrusted[start : start + step]
            self._take(bodies)
        return bodies

    def _take(self, bodies: list[bytes]) -> None:
        """Move what is complete from what is held, and drop what can be no beginning."""
        start = 0
        while start < len(self._held):
            end = _end_of(self._held, start)
            if end is None:
                start += 1
            elif end > len(self._held):
                break
            else:
                bodies.append(bytes(self._held[start + _LENGTH.size : end]))
                start = end
        del self._held[:start]


def _end_of(held: bytearray, start: int) -> int | None:
    """Return where the body ends that begins at *start*, as far as can be seen; None if none does.

    Beyond what is held means: more is needed to know.
    """
    tag = bytes(held[start + _LENGTH.size : start + _LENGTH.size + len(COMMAND)])
    if not (COMMAND.startswith(tag) or DATA.startswith(tag)):
        return None
    length = bytes(held[start : start + _LENGTH.size])
    if len(length) < _LENGTH.size:
        # All bytes of a length are 0 but the last, or the last two: MAX_BODY_BYTES is 256.
        return len(held) + 1 if not any(length[: _LENGTH.size - 2]) else None
    (size_bytes,) = _LENGTH.unpack(length)
    if not _SHORTEST_BODY_BYTES <= size_bytes <= MAX_BODY_BYTES:
        return None
    return start + _LENGTH.size + int(size_bytes)


@dataclass(frozen=True, slots=True)
class SocketFramesDriver:
    """Recorders that speak the socket protocol, over the serial port of their USB gadget."""

    name: str = "socket-frames"
    baud: int | None = 115_200

    def open(self, link: Link) -> "SocketSession":
        """Begin a conversation; nothing is sent yet."""
        return SocketSession(link)


class SocketSession:
    """One conversation.

    An answer that comes after its time and within the next request for the same verb is taken for
    that request's: the protocol has nothing to tell them apart. What came before a request is
    thrown away.
    """

    def __init__(self, link: Link) -> None:
        self._exchange = Exchange(link)

    def identify(self) -> Told[RecorderIdentity]:
        """Ask which recorder this is: type code and serial number."""
        payload = self._ask(SocketVerb.IDENTIFY)
        if payload is None:
            return Unsupported(verb=Verb.IDENTIFY)
        type_code, serial = payload[:TYPE_CODE_BYTES], payload[TYPE_CODE_BYTES:]
        return identity_of(serial=serial, type_code=type_code, model=b"", firmware=b"")

    def read_user_information(self) -> Told[UserInformation]:
        """Ask whose it is."""
        payload = self._ask(SocketVerb.READ_USER_INFORMATION)
        if payload is None:
            return Unsupported(verb=Verb.READ_USER_INFORMATION)
        return parse_user_information(payload)

    def read_clock(self) -> Told[ClockReading]:
        """Ask what time it has."""
        payload = self._ask(SocketVerb.READ_CLOCK)
        return Unsupported(verb=Verb.READ_CLOCK) if payload is None else parse_clock(payload)

    def set_clock(self, local: datetime) -> Told[None]:
        """Set its clock to *local*."""
        payload = self._ask(SocketVerb.SET_CLOCK, write_clock(local))
        return Unsupported(verb=Verb.SET_CLOCK) if payload is None else None

    def read_battery(self) -> Told[Battery]:
        """Ask how full its battery is: three digits."""
        payload = self._ask(SocketVerb.READ_BATTERY)
        if payload is None:
            return Unsupported(verb=Verb.READ_BATTERY)
        charge_percent = _number(payload, digits=3)
        if charge_percent > HIGHEST_BATTERY_PERCENT:
            raise MalformedAnswerError(f"a charge of {charge_percent} percent")
        return Battery(charge_percent=charge_percent)

    def read_resolution(self) -> Told[Resolution]:
        """Ask what it records at: twice five digits."""
        payload = self._ask(SocketVerb.READ_RESOLUTION)
        if payload is None:
            return Unsupported(verb=Verb.READ_RESOLUTION)
        return _resolution(payload)

    def enter_disk_mode(self) -> Told[None]:
        """Have it appear as a disk, soon."""
        payload = self._ask(SocketVerb.ENTER_DISK_MODE)
        return Unsupported(verb=Verb.ENTER_DISK_MODE) if payload is None else None

    def leave_disk_mode(self) -> Unsupported:
        """There is no such request; it leaves disk mode when it is taken out."""
        return Unsupported(verb=Verb.LEAVE_DISK_MODE)

    def set_indicator(self, *, on: bool) -> Unsupported:  # noqa: ARG002 - RecorderSession's signature
        """There is no such request."""
        return Unsupported(verb=Verb.SET_INDICATOR)

    def read_network_settings(self) -> Unsupported:
        """There is no such request."""
        return Unsupported(verb=Verb.READ_NETWORK_SETTINGS)

    def export_log(self) -> Unsupported:
        """There is no such request."""
        return Unsupported(verb=Verb.EXPORT_LOG)

    def _ask(self, verb: SocketVerb, payload: bytes = b"") -> bytes | None:
        """Return the payload of a successful answer; None if the recorder lacks the verb."""
        result, answer = self._talk(verb, payload)
        if result == _SUCCESS.get(verb, Result.DONE):
            return answer
        if result == Result.UNSUPPORTED:
            return None
        if result == Result.NOT_READY:
            raise RecorderNotReadyError(f"{verb.name}: not ready")
        raise RecorderRefusedError(f"{verb.name}: result {result}", result=result)

    def _talk(self, verb: SocketVerb, payload: bytes) -> tuple[int, bytes]:
        self._exchange.send(encode_command(verb, payload))
        decoder = BodyDecoder()
        for piece in self._exchange.pieces():
            for body in decoder.feed(piece):
                parsed = parse_data(body)
                if parsed is not None and parsed[0] == verb.value:
                    return parsed[1], parsed[2]
        raise AssertionError("pieces ends only with an error")


def _number(untrusted: bytes, *, digits: int) -> int:
    if len(untrusted) != digits or not untrusted.isdigit():
        raise MalformedAnswerError(f"{untrusted[:32]!r} is no number of {digits} digits")
    return int(untrusted)


def _resolution(untrusted: bytes) -> Resolution:
    width_px, height_px = (_number(part, digits=5) for part in (untrusted[:5], untrusted[5:]))
    if not width_px or not height_px:
        raise MalformedAnswerError(f"{width_px} × {height_px} is no resolution")
    return Resolution(width_px=width_px, height_px=height_px)


DRIVER: Final = SocketFramesDriver()
