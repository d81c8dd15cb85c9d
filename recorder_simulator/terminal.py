"""A simulated recorder on a pseudo-terminal: to the dock a serial port like any other."""

import contextlib
import errno
import os
import select
import sys
import time
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from recorder_simulator.volume import Volume

_READ_BYTES: Final = 4096
# How often a line that takes nothing is tried again.
_FULL_S: Final = 0.01


class OnTheLine(Protocol):
    """Whatever is at the other end of a line, over time; see `engine.Engine`."""

    def hear(self, untrusted: bytes, *, now_s: float) -> None:
        """Take bytes from the dock."""

    def say(self, *, now_s: float) -> bytes:
        """Return what is due."""

    def next_event_s(self, *, now_s: float) -> float | None:
        """When something will happen by itself; None if nothing will."""

    def is_connected(self, now_s: float) -> bool:
        """Whether its port is there."""

    def is_disk(self, now_s: float) -> bool:
        """Whether its volume is there."""

    def eject(self) -> None:
        """Have the volume go away."""


class Terminal:
    """A recorder, its port and its volume, until it is stopped."""

    def __init__(
        self,
        engine: OnTheLine,
        *,
        link: Path | None,
        volume: Volume | None,
        tell: Callable[[str], None],
    ) -> None:
        """Prepare; nothing appears yet.

        Args:
            engine: What it is and does.
            link: A link to the port, which has another name each time it appears.
            volume: What appears in disk mode.
            tell: Is told what happens, a line each.
        """
        self._engine = engine
        self._link = link
        self._volume = volume
        self._tell = tell
        self._unsent = b""
        self._ends: tuple[int, int] | None = None
        self._wake, self._waker = os.pipe()
        self._is_stopping = False

    def run(self) -> None:
        """Be a recorder until `stop`; then everything is as it was before.

        Raises:
            OSError: A folder cannot be moved, or the link not made.
        """
        try:
            while not self._is_stopping:
                self._step()
        finally:
            self._unplug()
            if self._volume is not None:
                self._volume.vanish()

    def stop(self) -> None:
        """End `run`, from a signal handler or another thread."""
        self._is_stopping = True
        os.write(self._waker, b"s")

    def eject(self) -> None:
        """Take the volume out, from a signal handler or another thread."""
        self._engine.eject()
        os.write(self._waker, b"e")

    def _step(self) -> None:
        now_s = time.monotonic()
        self._show(now_s)
        self._unsent = self._unsent or self._engine.say(now_s=now_s)
        master = self._send()
        next_s = self._engine.next_event_s(now_s=now_s)
        wait_s = None if next_s is None else max(0.0, next_s - time.monotonic())
        if self._unsent:
            wait_s = _FULL_S
        watched = [self._wake] if master is None else [self._wake, master]
        ready, _, _ = select.select(watched, [], [], wait_s)
        if self._wake in ready:
            os.read(self._wake, _READ_BYTES)
        if master is not None and master in ready:
            self._engine.hear(os.read(master, _READ_BYTES), now_s=time.monotonic())

    def _send(self) -> int | None:
        """Send what the line takes, and return our end of it, if there is a line."""
        if self._ends is None:
            self._unsent = b""
            return None
        with contextlib.suppress(BlockingIOError):
            self._unsent = self._unsent[os.write(self._ends[0], self._unsent) :]
        return self._ends[0]

    def _show(self, now_s: float) -> None:
        """Let port and volume be there, or not, as the recorder has it."""
        if self._engine.is_connected(now_s):
            self._plug_in()
        else:
            self._unplug()
        if self._volume is None:
            return
        if self._engine.is_disk(now_s) and not self._volume.is_present:
            self._volume.appear()
            self._tell("volume appeared")
        elif not self._engine.is_disk(now_s) and self._volume.is_present:
            self._volume.vanish()
            self._tell("volume gone")

    def _plug_in(self) -> None:
        if self._ends is not None:
            return
        if self._link is not None and self._link.exists() and not self._link.is_symlink():
            raise FileExistsError(errno.EEXIST, "not a link, and not replaced", str(self._link))
        # The recorder holds the dock's end open, too: else it would see a hang-up after each dock.
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        self._ends = master, slave
        path = os.ttyname(slave)
        if self._link is not None:
            beside = self._link.with_name(f".{self._link.name}.new")
            beside.unlink(missing_ok=True)
            beside.symlink_to(path)
            beside.replace(self._link)
        self._tell(f"port {path}")

    def _unplug(self) -> None:
        if self._ends is None:
            return
        if self._link is not None and self._link.is_symlink():
            self._link.unlink()
        for end in self._ends:
            os.close(end)
        self._ends = None
        self._unsent = b""
        self._tell("port gone")


def tell(line: str) -> None:
    """Print a line at once; when nobody reads any more, go on without."""
    try:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # The volume has to be put back all the same.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
