"""A simulated recorder as a serial port within one process, on a time that only it moves."""

import errno
from datetime import UTC, datetime, timedelta
from typing import Final

from recorder_simulator.engine import Engine
from recorder_simulator.script import Script

# 8N1: ten bits a byte.
_BIT_S: Final = 1 / 115_200
_MORNING: Final = datetime(2026, 11, 21, 1, 30, tzinfo=UTC)


class SimulatedTime:
    """A clock that goes on when something waits for it."""

    def __init__(self, began_utc: datetime = _MORNING) -> None:
        self._began_utc = began_utc
        self._elapsed_s = 0.0

    def monotonic_s(self) -> float:
        """Return the seconds since it began."""
        return self._elapsed_s

    def utc(self) -> datetime:
        """Return what a clock on the wall would show."""
        return self._began_utc + timedelta(seconds=self._elapsed_s)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self._elapsed_s += seconds


class SimulatedPort:
    """A port with a recorder behind it; keeps the contract of SerialPort.

    Attributes:
        written: All that the dock wrote.
    """

    def __init__(self, script: Script, time: SimulatedTime) -> None:
        self.engine = Engine(script, utc=time.utc)
        self.written = bytearray()
        self._time = time
        self._arrived = bytearray()
        self._is_open = True

    def read(self, size: int, timeout_s: float) -> bytes:
        """Return 1 to *size* bytes as soon as there are any; b"" when the time is up."""
        deadline_s = self._time.monotonic_s() + timeout_s
        self._receive()
        while not self._arrived:
            now_s = self._time.monotonic_s()
            next_s = self.engine.next_event_s(now_s=now_s)
            if next_s is None or next_s > deadline_s:
                self._time.sleep(max(0.0, deadline_s - now_s))
                return b""
            self._time.sleep(next_s - now_s)
            self._receive()
        data = bytes(self._arrived[:size])
        del self._arrived[:size]
        self._time.sleep(len(data) * 10 * _BIT_S)
        return data

    def write(self, data: bytes) -> None:
        """Hand all of *data* to the recorder."""
        self._check()
        self.written += data
        self._time.sleep(len(data) * 10 * _BIT_S)
        self.engine.hear(data, now_s=self._time.monotonic_s())

    def close(self) -> None:
        """Let go of the port; again is harmless."""
        self._is_open = False

    def reopen(self) -> None:
        """Open the port again after it had gone away.

        Raises:
            OSError: It is not back yet.
        """
        if not self.engine.is_connected(self._time.monotonic_s()):
            raise OSError(errno.ENOENT, "no such port")
        self._arrived.clear()
        self._is_open = True

    def _receive(self) -> None:
        self._check()
        self._arrived += self.engine.say(now_s=self._time.monotonic_s())

    def _check(self) -> None:
        if not self.engine.is_connected(self._time.monotonic_s()):
            self._is_open = False  # a port that came back is another one
        if not self._is_open:
            raise OSError(errno.EIO, "the port is gone")
