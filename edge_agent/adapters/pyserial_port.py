"""A serial port of this machine; blocking, to be used in one thread."""

import contextlib
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import serial

from edge_agent.errors import PortFailedError

# The longest request at the slowest speed that drivers use takes a fraction of this.
_WRITE_TIMEOUT_S: Final = 5.0


class PyserialPort:
    """A port that nobody else can open meanwhile: 8N1, no flow control.

    DTR and RTS go up when it is opened, as the kernel has it, and stay up: a USB gadget may talk
    to nobody else, and one that resets at a change sees one change.
    """

    def __init__(self, device: serial.Serial) -> None:
        self._device = device

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path, *, baud: int) -> Iterator["PyserialPort"]:
        """Open the port for the time of a with block.

        Raises:
            PortFailedError: There is no such port, it is in use, or it is no serial port. Not the
                OSError of reading and writing, which a driver turns into the same error.
        """
        try:
            port = cls(_opened(path, baud))
        except OSError as error:
            raise PortFailedError(str(error), request_sent=False) from error
        try:
            yield port
        finally:
            port.close()

    def read(self, size: int, timeout_s: float) -> bytes:
        """Return 1 to *size* bytes as soon as there are any; b"" when the time is up."""
        with _os_errors():
            self._device.timeout = timeout_s
            first = self._device.read(1)
            if not first:
                return b""
            waiting = min(self._device.in_waiting, size - 1)
            return first + self._device.read(waiting) if waiting else first

    def write(self, data: bytes) -> None:
        """Write all of *data*, and wait until the kernel has it."""
        with _os_errors():
            self._device.write(data)

    def close(self) -> None:
        """Let go of the port; again is harmless."""
        # What is gone already has nothing more to lose.
        with contextlib.suppress(OSError):
            self._device.close()


def _opened(path: Path, baud: int) -> serial.Serial:
    device = serial.Serial()
    device.port = str(path)
    device.baudrate = baud
    device.bytesize, device.parity, device.stopbits = 8, serial.PARITY_NONE, 1
    device.xonxoff = device.rtscts = device.dsrdtr = False
    device.exclusive = True
    device.write_timeout = _WRITE_TIMEOUT_S
    device.timeout = 0
    with _os_errors():
        device.open()
    return device


@contextlib.contextmanager
def _os_errors() -> Iterator[None]:
    """Let only OSError out: a port that vanishes makes the library raise others, too."""
    try:
        yield
    except (TypeError, ValueError, termios.error) as error:
        # A file descriptor that is gone, or settings that the device refuses.
        raise OSError(str(error)) from error
