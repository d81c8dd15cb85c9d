"""The simulator as a program, and a dock's end of its line."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from edge_agent.adapters.pyserial_port import PyserialPort
from edge_agent.drivers.driver import DevicePassword, Link, RecorderDriver, RecorderSession
from edge_agent.drivers.line_protocol import DRIVER as LINE

PROGRAM = (sys.executable, "-m", "recorder_simulator")


class Program:
    """A simulator that runs, and what it prints."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.path = Path(self.next_line().removeprefix("port "))

    def next_line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait()


@contextlib.contextmanager
def running(*arguments: str, program: tuple[str, ...] = PROGRAM) -> Iterator[Program]:
    """Run a simulator for the time of a with block."""
    with subprocess.Popen([*program, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Program(process)
        finally:
            process.terminate()


@contextlib.contextmanager
def talking(
    path: Path,
    driver: RecorderDriver = LINE,
    *,
    password: bytes | None = None,
    answer_timeout_s: float = 10.0,
) -> Iterator[RecorderSession]:
    """Talk with whatever is at *path*, as a dock does."""
    assert driver.baud is not None
    with PyserialPort.open(path, baud=driver.baud) as port:
        yield driver.open(
            Link(
                port=port,
                monotonic_s=time.monotonic,
                session_number=time.monotonic_ns() % 65_536,
                password=None if password is None else DevicePassword(password),
                answer_timeout_s=answer_timeout_s,
            )
        )
