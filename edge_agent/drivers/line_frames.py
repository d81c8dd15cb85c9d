"""Frames of the Bayward recorder line protocol 1: bytes to frames and back.

A frame is packed with consistent overhead byte stuffing, so that a zero byte is never part of one
and always ends one: whatever was garbled before a zero byte, what follows it is understood.
Source: docs/recorder-protocol.md, "Frames".
"""

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum, unique
from typing import Final

VERSION: Final = 1
MAX_PAYLOAD_BYTES: Final = 1024
_HEADER: Final = struct.Struct(">BBHHBB")
_CRC: Final = struct.Struct(">I")
_DELIMITER: Final = b"\0"
# Stuffing: a group is a length byte and up to 254 bytes.
_GROUP_BYTES: Final = 254
MAX_FRAME_BYTES: Final = _HEADER.size + MAX_PAYLOAD_BYTES + _CRC.size
MAX_STUFFED_BYTES: Final = MAX_FRAME_BYTES + MAX_FRAME_BYTES // _GROUP_BYTES + 1


@unique
class Kind(IntEnum):
    """Which way a frame goes: an echo of a request is no answer."""

    REQUEST = 1
    ANSWER = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One request or answer.

    Attributes:
        session: 0 to 65,535; the dock takes another one for each conversation.
        sequence: 0 to 65,535; the dock counts up, an answer repeats its request's.
        verb: 0 to 255; an answer repeats its request's.
        result: 0 to 255; 0 in a request.
        payload: At most MAX_PAYLOAD_BYTES.
    """

    kind: Kind
    session: int
    sequence: int
    verb: int
    result: int = 0
    payload: bytes = b""


def encode_frame(frame: Frame) -> bytes:
    """Return the bytes on the line: a zero byte, the stuffed frame, a zero byte.

    The first zero byte ends whatever noise the line had before.

    Raises:
        ValueError: The payload is too long, or a number is out of its range.
    """
    if len(frame.payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"a payload of {len(frame.payload)} bytes")
    try:
        header = _HEADER.pack(
            VERSION, frame.kind, frame.session, frame.sequence, frame.verb, frame.result
        )
    except struct.error as error:
        raise ValueError(str(error)) from None
    content = header + frame.payload
    return _DELIMITER + stuff(content + _CRC.pack(zlib.crc32(content))) + _DELIMITER


def stuff(content: bytes) -> bytes:
    """Return *content* without zero bytes: each group begins with its own length plus one.

    A group of 254 bytes is not followed by a zero byte, any shorter one is, but for the last.
    """
    stuffed = bytearray()
    groups = content.split(_DELIMITER)
    for group in groups[:-1]:
        _append_run(stuffed, group)
    _append_run(stuffed, groups[-1])
    return bytes(stuffed)


def _append_run(stuffed: bytearray, run: bytes) -> None:
    """Append bytes without a zero, and the zero behind them that the last length stands for."""
    while len(run) >= _GROUP_BYTES:
        stuffed.append(_GROUP_BYTES + 1)
        stuffed += run[:_GROUP_BYTES]
        run = run[_GROUP_BYTES:]
    stuffed.append(len(run) + 1)
    stuffed += run


def unstuff(untrusted: bytes) -> bytes | None:
    """Return what was stuffed; None if nothing can have been stuffed to this."""
    content = bytearray()
    start = 0
    while start < len(untrusted):
        length = untrusted[start]
        end = start + length
        if length == 0 or end > len(untrusted) or 0 in untrusted[start + 1 : end]:
            return None
        content += untrusted[start + 1 : end]
        start = end
        if length <= _GROUP_BYTES and start < len(untrusted):
            content.append(0)
    return bytes(content)


def parse_frame(untrusted_stuffed: bytes) -> Frame | None:
    """Return the frame between two zero bytes; None if it is damaged or of another version."""
    content = unstuff(untrusted_stuffed)
    if content is None or not _HEADER.size + _CRC.size <= len(content) <= MAX_FRAME_BYTES:
        return None
    checked, crc = content[: -_CRC.size], content[-_CRC.size :]
    if _CRC.pack(zlib.crc32(checked)) != crc:
        return None
    version, kind, session, sequence, verb, result = _HEADER.unpack_from(checked)
    if version != VERSION or kind not in tuple(Kind):
        return None
    return Frame(
        kind=Kind(kind),
        session=session,
        sequence=sequence,
        verb=verb,
        result=result,
        payload=checked[_HEADER.size :],
    )


class FrameDecoder:
    """Frames from pieces of any size; holds no more than one frame.

    Attributes:
        damaged_frames: How many times something stood between two zero bytes that is no frame.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self._is_too_long = False
        self.damaged_frames = 0

    def feed(self, untrusted: bytes) -> list[Frame]:
        """Return the frames that *untrusted* completes, in order."""
        frames: list[Frame] = []
        *ended, rest = untrusted.split(_DELIMITER)
        for piece in ended:
            self._hold(piece)
            if (frame := self._end()) is not None:
                frames.append(frame)
        self._hold(rest)
        return frames

    def _hold(self, piece: bytes) -> None:
        if len(self._held) + len(piece) > MAX_STUFFED_BYTES:
            self._is_too_long = True
            self._held.clear()
        elif not self._is_too_long:
            self._held += piece

    def _end(self) -> Frame | None:
        """Take what stands before a zero byte; nothing there is no damage."""
        held, is_too_long = bytes(self._held), self._is_too_long
        self._held.clear()
        self._is_too_long = False
        frame = None if is_too_long else parse_frame(held)
        if frame is None and (held or is_too_long):
            self.damaged_frames += 1
        return frame
