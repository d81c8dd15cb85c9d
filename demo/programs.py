"""Real programs as children: started, watched, ended by their own process ids."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

_TAIL_LINES: Final = 15
_STOP_TIMEOUT_S: Final = 30
_POLL_S: Final = 0.05


class DemoError(Exception):
    """Something the demo needs is not there or did not work; the text says what to do."""


def free_port(preferred: int = 0) -> int:
    """Return *preferred* if it is free on loopback, else a port that is."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            return free_port()
        port: int = probe.getsockname()[1]
        return port


def find_tool(name: str) -> str:
    """Return the path of a stock tool; mosquitto lives where users have no PATH to."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if found is None:
        raise DemoError(f"{name} is not installed; run: scripts/system-packages demo")
    return found


def run_tool(arguments: Sequence[str], *, stdin: str | None = None) -> str:
    """Run a program to its end and return what it printed.

    Raises:
        DemoError: It ended with another status than 0; its last lines are quoted.
    """
    done = subprocess.run(
        arguments, input=stdin, capture_output=True, text=True, check=False, timeout=120
    )
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).splitlines()[-_TAIL_LINES:]
        raise DemoError(f"{' '.join(arguments)} ended with {done.returncode}:\n" + "\n".join(lines))
    return done.stdout


def ours(program: str, *arguments: str) -> list[str]:
    """Return the command line of one of our own programs, as set-up installed it."""
    return [str(Path(sys.executable).with_name(program)), *arguments]


class Program:
    """One child in a session of its own, its output in a log file."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path) -> None:
        self.name = name
        self.arguments = list(arguments)
        self.log = log
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the program; what it prints is appended to its log."""
        with self.log.open("ab") as output:
            self._child = subprocess.Popen(
                self.arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id of the running child."""
        if self._child is None:
            raise DemoError(f"{self.name} was not started")
        return self._child.pid

    def running(self) -> bool:
        """Whether the child is there and has not ended."""
        return self._child is not None and self._child.poll() is None

    def wait_until(self, ready: Callable[[], bool], *, timeout_s: float = 60) -> None:
        """Return when *ready* is true.

        Raises:
            DemoError: The program ended, or the time was up; its last lines are quoted.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            if not self.running():
                raise DemoError(f"{self.name} ended by itself:\n{self.last_lines()}")
            if time.monotonic() > deadline:
                raise DemoError(
                    f"{self.name} is not ready after {timeout_s:.0f} s:\n{self.last_lines()}"
                )
            time.sleep(_POLL_S)

    def wait_until_ended(self, *, timeout_s: float = 60) -> int:
        """Return the exit status of a child that ends by itself.

        Raises:
            DemoError: It was not started, or does not end in time.
        """
        if self._child is None:
            raise DemoError(f"{self.name} was not started")
        try:
            return self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise DemoError(f"{self.name} does not end:\n{self.last_lines()}") from None

    def last_lines(self) -> str:
        """Return the end of the log."""
        if not self.log.exists():
            return "(it printed nothing)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])

    def kill(self) -> None:
        """End the child as a power cut would: at once."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def stop(self) -> int | None:
        """Ask the child to end, and return its exit status; after 30 s it is killed."""
        if self._child is None:
            return None
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
        try:
            return self._child.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._child.returncode


def port_answers(port: int) -> bool:
    """Whether something listens on loopback *port*."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
