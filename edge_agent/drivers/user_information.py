"""User information in the two layouts that recorders use, text in GBK.

Source: the C interfaces of the GA/T 947 family; see docs/recorder-protocol.md.
"""

from dataclasses import dataclass
from enum import Enum, unique
from typing import Final

from edge_agent.drivers.device_text import DeviceText
from edge_agent.errors import MalformedAnswerError


@unique
class Layout(Enum):
    """The widths of the five fields, in bytes; the sum tells the layouts apart."""

    PADDED = (7, 6, 32, 12, 32)
    TERMINATED = (8, 7, 33, 13, 33)

    @property
    def size_bytes(self) -> int:
        """89 or 94."""
        return sum(self.value)


_NAMES: Final = ("serial", "user_number", "user_name", "unit_number", "unit_name")
_BY_SIZE: Final = {layout.size_bytes: layout for layout in Layout}


@dataclass(frozen=True, slots=True, kw_only=True)
class UserInformation:
    """Whose recorder it is, by its own word; the serial number cannot be written."""

    layout: Layout
    serial: DeviceText
    user_number: DeviceText
    user_name: DeviceText
    unit_number: DeviceText
    unit_name: DeviceText

    @property
    def raw(self) -> bytes:
        """The exact bytes that were parsed."""
        fields = (self.serial, self.user_number, self.user_name, self.unit_number, self.unit_name)
        return b"".join(field.raw for field in fields)


def parse_user_information(untrusted: bytes) -> UserInformation:
    """Return the five fields.

    Raises:
        MalformedAnswerError: Neither 89 nor 94 bytes.
    """
    layout = _BY_SIZE.get(len(untrusted))
    if layout is None:
        raise MalformedAnswerError(f"user information has {len(untrusted)} bytes, not 89 or 94")
    fields: list[DeviceText] = []
    start = 0
    for width in layout.value:
        fields.append(DeviceText.decode(untrusted[start : start + width]))
        start += width
    serial, user_number, user_name, unit_number, unit_name = fields
    return UserInformation(
        layout=layout,
        serial=serial,
        user_number=user_number,
        user_name=user_name,
        unit_number=unit_number,
        unit_name=unit_name,
    )


def write_user_information(
    layout: Layout, fields: tuple[bytes, bytes, bytes, bytes, bytes]
) -> bytes:
    """Return the fields, padded with NUL; for simulators and vectors.

    Raises:
        ValueError: A field does not fit; a terminated one needs room for its NUL.
    """
    room = 1 if layout is Layout.TERMINATED else 0
    for name, field, width in zip(_NAMES, fields, layout.value, strict=True):
        if len(field) > width - room:
            raise ValueError(f"{name}: {field!r} is longer than {width - room} bytes")
    return b"".join(
        field.ljust(width, b"\0") for field, width in zip(fields, layout.value, strict=True)
    )
