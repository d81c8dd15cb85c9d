"""Ports that a technician has opened for a while: a file each, which only root can write.

They are below /run: a machine that is switched off has none. How long one lasts is told by the
clock that counts from the machine's start: who sets the time makes none last longer.
"""

import os
import time
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta

from edge_agent.mounting.port_paths import PortField, PortPath, parse_port
from protocol import strict_json
from protocol.errors import ProtocolError
from protocol.manifest import UtcTime
from protocol.strict_json import Message

MOST_MINUTES: Final = 240
_MAX_BYTES: Final = 4_096
_MOST: Final = 16


class Opening(Message, frozen=True, kw_only=True):
    """A port, and whatever hangs on a hub there, that lets everything in until a time.

    Attributes:
        until_boot_s: By the clock that counts from the machine's start.
        until: The same, as it was known to whoever opened it; for people.
        by: Who opened it, in a word.
    """

    port: PortField
    until_boot_s: Annotated[int, Meta(ge=0)]
    until: UtcTime
    by: Annotated[str, Meta(min_length=1, max_length=64)]


class Openings:
    """The files; blocking."""

    def __init__(self, folder: Path) -> None:
        """*folder* and its files are believed where they are the own user's, who is root."""
        self._folder = folder

    def read(self) -> tuple[Opening, ...]:
        """Return all that there are, also those that are over; sorted by port."""
        try:
            names = os.listdir(self._folder)  # noqa: PTH208 - names are wanted
        except OSError:
            return ()
        ports = sorted(filter(None, map(parse_port, names)))
        found = (self._read(port) for port in ports[:_MOST])
        return tuple(one for one in found if one is not None)

    def is_over(self, opening: Opening) -> bool:
        """Return whether its time is up."""
        return self._left_s(opening) <= 0 or self._left_s(opening) > MOST_MINUTES * 60

    def open(self, port: PortPath, *, minutes: int, by: str, now: datetime) -> Opening:
        """Open a port; 0 minutes close it with the next look.

        Raises:
            OSError: It cannot be noted.
        """
        opening = Opening(
            port=port,
            until_boot_s=int(_boot_s()) + minutes * 60,
            until=now + timedelta(minutes=minutes),
            by=by,
        )
        self._folder.mkdir(mode=0o755, exist_ok=True)
        making = self._folder / f".{port}"
        making.write_bytes(strict_json.encode(opening))
        making.replace(self._folder / port)
        return opening

    def forget(self, opening: Opening) -> None:
        """Take away one that is over, unless its port was opened again meanwhile."""
        with suppress(OSError):
            if self._read(opening.port) == opening:
                (self._folder / opening.port).unlink()

    @staticmethod
    def _left_s(opening: Opening) -> float:
        return opening.until_boot_s - _boot_s()

    def _read(self, name: str) -> Opening | None:
        try:
            with (self._folder / name).open("rb") as file:
                if os.fstat(file.fileno()).st_uid != os.geteuid():
                    return None
                said = strict_json.parse(file.read(_MAX_BYTES), Opening, max_bytes=_MAX_BYTES)
        except (OSError, ProtocolError):
            return None
        return said if said.port == name else None


def _boot_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
