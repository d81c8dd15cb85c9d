"""USB port paths: by which way a connector is plugged into this machine.

``1-1.4.2`` is bus 1, its first port, the fourth port of the hub there, the second of the hub there.
A connector for USB 3 has two of them, one on each bus: whichever speed a recorder speaks shows on
one. (Linux, Documentation/ABI/stable/sysfs-bus-usb.)
"""

import re
from typing import Annotated, Final, NewType

from msgspec import Meta

PortPath = NewType("PortPath", str)

# Seven tiers at most, the root and the device among them (USB 2.0, section 4.1.1).
_PATTERN: Final = r"[1-9][0-9]{0,2}-[1-9][0-9]{0,2}(\.[1-9][0-9]{0,2}){0,5}"
_PORT: Final = re.compile(_PATTERN)

PortField = Annotated[str, Meta(pattern=f"^{_PATTERN}$", max_length=32)]


def parse_port(untrusted: str) -> PortPath | None:
    """Return the port path that a text is; None if it is none."""
    return PortPath(untrusted) if _PORT.fullmatch(untrusted) else None


def is_below(port: str, other: str) -> bool:
    """Return whether *port* is *other*, or hangs on a hub that is plugged in there."""
    return port == other or port.startswith(f"{other}.")


def order_of(port: str) -> tuple[int, ...]:
    """Return by what port paths are sorted: 1-9 before 1-10."""
    return tuple(map(int, re.split(r"[-.]", port)))
