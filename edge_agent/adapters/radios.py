"""The radios of a machine, each blocked by the kernel's own switch for them; blocking.

Source:
    Linux, include/uapi/linux/rfkill.h: `struct rfkill_event`, as of its first version.
"""

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_agent.guard.breaches import Breach, Kind

RFKILL: Final = Path("/dev/rfkill")
# idx, type, op, soft, hard
_EVENT: Final = struct.Struct("=IBBBB")
_ADD, _DEL, _CHANGE = range(3)
# Those that only receive, GPS (6) and FM (7), are left alone.
_SENDERS: Final = {
    1: "Wi-Fi",
    2: "Bluetooth",
    3: "ultra-wideband",
    4: "WiMAX",
    5: "cellular",
    8: "NFC",
}


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)


@dataclass(frozen=True, slots=True, kw_only=True)
class LookedAtRadios:
    """Which radios were on, and which of them still are."""

    found: tuple[Breach, ...] = ()
    left: tuple[Breach, ...] = ()


class Radios:
    """Keeps them off."""

    def __init__(self, path: Path = RFKILL, opened: Callable[[Path], int] = _opened) -> None:
        """Open nothing yet; a machine without radios has no such file.

        Args:
            path: The kernel's device.
            opened: Returns a descriptor of it for reading and writing, which does not block.
        """
        self._path = path
        self._opened = opened
        self._line: int | None = None
        self._on: dict[int, str] = {}

    def look(self, *, enforced: bool) -> LookedAtRadios:
        """Look at all; with *enforced* block those that are on."""
        try:
            if self._line is None:
                self._line = self._opened(self._path)
            self._hear(self._line)
            found = tuple(self._breaches())
            if enforced and found:
                for number in tuple(self._on):
                    with suppress(OSError):  # it has gone, or what is left of it is told
                        os.write(self._line, _EVENT.pack(number, 0, _CHANGE, 1, 0))
                self._hear(self._line)
        except FileNotFoundError:
            return LookedAtRadios()
        except OSError as error:
            self.close()
            text = f"{self._path}: {error.strerror}"
            unseen = (Breach(kind=Kind.CANNOT_LOOK, subject=str(self._path), text=text),)
            return LookedAtRadios(found=unseen, left=unseen)
        return LookedAtRadios(found=found, left=tuple(self._breaches()))

    def close(self) -> None:
        """Look no more, until the next look; what is blocked stays so."""
        if self._line is not None:
            os.close(self._line)
        self._line, self._on = None, {}

    def _hear(self, line: int) -> None:
        """Take what the kernel tells: all radios at first, then what changes."""
        while True:
            try:
                said = os.read(line, _EVENT.size)
            except BlockingIOError:
                return
            if len(said) != _EVENT.size:
                raise OSError(0, "it says what is no event")
            number, sort, what, soft, hard = _EVENT.unpack(said)
            if what == _DEL or soft or hard or sort not in _SENDERS:
                self._on.pop(number, None)
            elif what in {_ADD, _CHANGE}:
                self._on[number] = _SENDERS[sort]

    def _breaches(self) -> Iterator[Breach]:
        for number, sort in self._on.items():
            text = f"radio {number} ({sort}) is on"
            yield Breach(kind=Kind.RADIO_ON, subject=f"radio {number}", text=text)
