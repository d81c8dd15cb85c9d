"""What the frames of the Bayward recorder line protocol 1 say, both ways.

`parse_…` takes an answer's payload and `write_…` makes it; the dock uses the first, a simulator
and the vectors the second. Source: docs/recorder-protocol.md, "Verbs".
"""

import hmac
import struct
from collections.abc import Mapping
from datetime import datetime
from enum import IntEnum, unique
from types import MappingProxyType
from typing import Final

from edge_agent.drivers.device_text import DeviceText
from edge_agent.drivers.driver import (
    HIGHEST_BATTERY_PERCENT,
    Battery,
    ClockReading,
    DevicePassword,
    NetworkSettings,
    RecorderIdentity,
    Resolution,
)
from edge_agent.errors import MalformedAnswerError

CHALLENGE_BYTES: Final = 32
TYPE_CODE_BYTES: Final = 5
LOG_CHUNK_BYTES: Final = 1000
CLOCK_BYTES: Final = 14
_CONTEXT: Final = b"Bayward recorder line protocol 1 unlock\0"
_SESSION: Final = struct.Struct(">H")
_RESOLUTION: Final = struct.Struct(">HH")
_LOG_POSITION: Final = struct.Struct(">I")
_SHOWN_BYTES: Final = 32


@unique
class LineVerb(IntEnum):
    """Requests; the numbers are on the line."""

    IDENTIFY = 1
    READ_CHALLENGE = 2
    UNLOCK = 3
    READ_USER_INFORMATION = 4
    READ_CLOCK = 5
    SET_CLOCK = 6
    READ_BATTERY = 7
    READ_RESOLUTION = 8
    ENTER_DISK_MODE = 9
    LEAVE_DISK_MODE = 10
    SET_INDICATOR = 11
    READ_NETWORK_SETTINGS = 12
    READ_LOG = 13


@unique
class Result(IntEnum):
    """How a request went. 1 to 8 are those of the common C interface, the others ours."""

    CONNECTED = 1
    NOT_CONNECTED = 2
    PASSWORD_RIGHT = 3
    PASSWORD_WRONG = 4
    CLOCK_SET = 5
    CLOCK_FAILED = 6
    DISK_MODE_ENTERED = 7
    DISK_MODE_FAILED = 8
    DONE = 16
    UNSUPPORTED = 17
    LOCKED = 18
    MALFORMED_REQUEST = 19
    NOT_READY = 20
    FAILED = 21


# Each verb has one result that means success; DONE where none is named.
SUCCESS: Final[Mapping[LineVerb, Result]] = MappingProxyType(
    {
        LineVerb.IDENTIFY: Result.CONNECTED,
        LineVerb.UNLOCK: Result.PASSWORD_RIGHT,
        LineVerb.SET_CLOCK: Result.CLOCK_SET,
        LineVerb.ENTER_DISK_MODE: Result.DISK_MODE_ENTERED,
    }
)


def proof_of(password: DevicePassword, *, session: int, challenge: bytes) -> bytes:
    """Return the 32 bytes that prove that the dock knows the password, for this challenge only."""
    message = _CONTEXT + _SESSION.pack(session) + challenge
    return hmac.digest(password.reveal(), message, "sha256")


def parse_challenge(untrusted: bytes) -> bytes:
    """Return the 32 bytes to be answered.

    Raises:
        MalformedAnswerError: It has another size.
    """
    if len(untrusted) != CHALLENGE_BYTES:
        raise MalformedAnswerError(f"a challenge of {len(untrusted)} bytes")
    return untrusted


def parse_identity(untrusted: bytes) -> RecorderIdentity:
    """Return who answers: five bytes of type code, then serial, model and firmware.

    Raises:
        MalformedAnswerError: The fields do not fill the payload, or there is no serial number that
            can be shown.
    """
    type_code, rest = untrusted[:TYPE_CODE_BYTES], untrusted[TYPE_CODE_BYTES:]
    if len(type_code) != TYPE_CODE_BYTES:
        raise MalformedAnswerError(f"an identity of {len(untrusted)} bytes")
    serial, model, firmware = _texts(rest, count=3)
    return identity_of(serial=serial, type_code=type_code, model=model, firmware=firmware)


def identity_of(
    *, serial: bytes, type_code: bytes, model: bytes, firmware: bytes
) -> RecorderIdentity:
    """Return the identity that these fields say.

    Raises:
        MalformedAnswerError: There is no serial number that can be shown.
    """
    told = DeviceText.decode(serial)
    if not told.text or not told.is_printable:
        raise MalformedAnswerError(f"{serial[:_SHOWN_BYTES]!r} is no serial number")
    return RecorderIdentity(
        serial=told,
        type_code=DeviceText.decode(type_code),
        model=DeviceText.decode(model),
        firmware=DeviceText.decode(firmware),
    )


def write_identity(*, type_code: bytes, serial: bytes, model: bytes, firmware: bytes) -> bytes:
    """Return the payload that `parse_identity` takes."""
    if len(type_code) != TYPE_CODE_BYTES:
        raise ValueError(f"a type code of {len(type_code)} bytes")
    return type_code + write_texts(serial, model, firmware)


def parse_clock(untrusted: bytes) -> ClockReading:
    """Return the clock; 14 digits that are no time are a reading, too.

    Raises:
        MalformedAnswerError: It is not 14 ASCII digits.
    """
    if len(untrusted) != CLOCK_BYTES or not untrusted.isdigit():
        raise MalformedAnswerError(f"{untrusted[:_SHOWN_BYTES]!r} is no time")
    numbers = [int(untrusted[start : start + 2]) for start in range(4, CLOCK_BYTES, 2)]
    month, day, hour, minute, second = numbers
    try:
        local = datetime(int(untrusted[:4]), month, day, hour, minute, second)  # noqa: DTZ001 - a recorder's clock has no zone
    except ValueError:
        local = None
    return ClockReading(untrusted_text=untrusted, local=local)


def write_clock(local: datetime) -> bytes:
    """Return ``YYYYMMDDhhmmss``; strftime would not pad years before 1000."""
    return (
        f"{local.year:04}{local.month:02}{local.day:02}"
        f"{local.hour:02}{local.minute:02}{local.second:02}"
    ).encode("ascii")


def parse_battery(untrusted: bytes) -> Battery:
    """Return how full the battery is.

    Raises:
        MalformedAnswerError: Not one byte from 0 to 100.
    """
    if len(untrusted) != 1 or untrusted[0] > HIGHEST_BATTERY_PERCENT:
        raise MalformedAnswerError(f"{untrusted[:_SHOWN_BYTES]!r} is no charge in percent")
    return Battery(charge_percent=untrusted[0])


def parse_resolution(untrusted: bytes) -> Resolution:
    """Return width and height.

    Raises:
        MalformedAnswerError: Not two numbers of two bytes, or one is 0.
    """
    if len(untrusted) != _RESOLUTION.size:
        raise MalformedAnswerError(f"a resolution of {len(untrusted)} bytes")
    width_px, height_px = _RESOLUTION.unpack(untrusted)
    if not width_px or not height_px:
        raise MalformedAnswerError(f"{width_px} × {height_px} is no resolution")
    return Resolution(width_px=width_px, height_px=height_px)


def write_resolution(resolution: Resolution) -> bytes:
    """Return the payload that `parse_resolution` takes."""
    return _RESOLUTION.pack(resolution.width_px, resolution.height_px)


def parse_network_settings(untrusted: bytes) -> NetworkSettings:
    """Return Wi-Fi name, access point name and server.

    Raises:
        MalformedAnswerError: The fields do not fill the payload.
    """
    wifi_name, access_point_name, server = map(DeviceText.decode, _texts(untrusted, count=3))
    return NetworkSettings(wifi_name=wifi_name, access_point_name=access_point_name, server=server)


def write_log_request(offset_bytes: int) -> bytes:
    """Return the payload that asks for the log from *offset_bytes* on."""
    return _LOG_POSITION.pack(offset_bytes)


def parse_log_chunk(untrusted: bytes) -> tuple[int, bytes]:
    """Return how long the whole log is, in bytes, and a chunk of it.

    Raises:
        MalformedAnswerError: There is no size, or the chunk is too long.
    """
    if not _LOG_POSITION.size <= len(untrusted) <= _LOG_POSITION.size + LOG_CHUNK_BYTES:
        raise MalformedAnswerError(f"a piece of log of {len(untrusted)} bytes")
    (size_bytes,) = _LOG_POSITION.unpack_from(untrusted)
    return size_bytes, untrusted[_LOG_POSITION.size :]


def write_log_chunk(log: bytes, untrusted_request: bytes) -> bytes | None:
    """Return the payload that `parse_log_chunk` takes; None if the request is none."""
    if len(untrusted_request) != _LOG_POSITION.size:
        return None
    (offset_bytes,) = _LOG_POSITION.unpack(untrusted_request)
    return _LOG_POSITION.pack(len(log)) + log[offset_bytes : offset_bytes + LOG_CHUNK_BYTES]


def write_texts(*texts: bytes) -> bytes:
    """Return texts, each behind one byte with its length.

    Raises:
        ValueError: One is longer than 255 bytes.
    """
    return b"".join(bytes([len(text)]) + text for text in texts)


def _texts(untrusted: bytes, *, count: int) -> list[bytes]:
    texts: list[bytes] = []
    start = 0
    for _ in range(count):
        if start >= len(untrusted):
            raise MalformedAnswerError(f"{len(texts)} fields where {count} belong")
        end = start + 1 + untrusted[start]
        texts.append(untrusted[start + 1 : end])
        start = end
    if start != len(untrusted):
        raise MalformedAnswerError(f"{count} fields of {start} bytes in {len(untrusted)}")
    return texts
