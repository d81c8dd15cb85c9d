"""A recorder that has to be talked to before its volume appears.

Its serial port and its volume are one recorder: it is there as long as either is, and for a while
between them, when the one has left and the other has not come.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from edge_agent.adapters.presence import Arrived, Left, Presence
from edge_agent.drivers.dialog import StepReport
from edge_agent.errors import SourceVanishedError, VolumeMissingError
from edge_agent.ingest.told import Told
from edge_agent.ingest.volume import Volume
from edge_agent.one_thread import OneThread


class Talk(Protocol):
    """Has a recorder become a disk; see edge_agent.adapters.recorder_talk."""

    async def hold(self, port: Path, report: Callable[[StepReport], None]) -> Told:
        """Talk until the recorder has been told to become a disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TalkingPace:
    """How patient a bay is.

    Attributes:
        poll_s: Between two looks at the serial port.
        volume_s: A volume that does not come so long after it was promised never comes.
    """

    poll_s: float = 0.5
    volume_s: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Port:
    """What tells one serial port from another one under the same name."""

    path: Path
    device: int
    inode: int
    changed_ns: int


# A stage: a serial port is there, and no volume yet.
_TALKING: Final = object()


class TalkingPresence:
    """Looks after one bay with a control channel; keeps the contract of `Presence`."""

    def __init__(
        self,
        volumes: Presence,
        find_port: Callable[[], Path | None],
        talk: Talk,
        thread: OneThread,
        *,
        pace: TalkingPace | None = None,
    ) -> None:
        """Look at nothing yet.

        Args:
            volumes: Tells when the volume is there.
            find_port: Returns where the serial port is, if it is there; blocks.
            talk: With the recorder.
            thread: The bay's own.
            pace: How patient the bay is.
        """
        self._volumes = volumes
        self._find_port = find_port
        self._talk = talk
        self._thread = thread
        self._pace = pace or TalkingPace()
        self._port: _Port | None = None
        self._volume: Arrived | None = None
        self._told: Told | None = None
        self._is_expected = False
        self._changed, self._came = asyncio.Event(), asyncio.Event()
        self._shown: Arrived | object | None = None
        self._spent: _Port | None = None

    async def remember_content(self) -> None:
        """Take what is listed now as what there is."""
        await self._volumes.remember_content()

    def mount(self, *, read_limit_bytes_s: int | None = None) -> AbstractContextManager[Volume]:
        """Open the volume; blocking."""
        return self._volumes.mount(read_limit_bytes_s=read_limit_bytes_s)

    async def ready(self, report: Callable[[StepReport], None]) -> Told | None:
        """Have the volume appear, by talking to the recorder if it is not there.

        Raises:
            DriverError: The talk failed, or no volume came, or none that can be read.
            MountError: The volume is there and cannot be mounted.
            SourceVanishedError: The recorder left.
        """
        if self._volume is None:
            if self._port is None:
                raise SourceVanishedError("neither a serial port nor a volume")
            self._told = await self._talk.hold(self._port.path, report)
            self._is_expected = True
            try:
                async with asyncio.timeout(self._pace.volume_s):
                    await self._came.wait()
            except TimeoutError:
                text = f"no volume within {self._pace.volume_s:.0f} s after it was promised"
                raise VolumeMissingError(text) from None
            finally:
                self._is_expected = False
        if self._volume is not None and self._volume.problem is not None:
            code, text = self._volume.problem
            raise VolumeMissingError(f"{code}: {text}")
        await self._volumes.ready(report)
        return self._told

    async def changes(self) -> AsyncIterator[Arrived | Left]:
        """Yield Arrived and Left in turn, Arrived first; ends only when it is closed."""
        looking = asyncio.create_task(self._look_at_volumes(), name="volume behind a serial port")
        try:
            while True:
                for change in await self._look(looking):
                    yield change
        finally:
            looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await looking

    async def _look(self, looking: asyncio.Task[None]) -> Sequence[Arrived | Left]:
        """Return what has changed since the last look, after a while or when the volume changes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pace.poll_s):
                await self._changed.wait()
        if looking.done():
            looking.result()  # raises: that task has no end of its own
        self._changed.clear()
        before, self._port = self._port, await self._thread.run(self._find)
        shown, self._shown = self._shown, self._stage()
        if shown is self._shown:
            # Pulled and plugged in again between two looks.
            is_new = shown is _TALKING and before != self._port and self._port is not None
            return [Left(), Arrived()] if is_new else ()
        if shown is _TALKING and isinstance(self._shown, Arrived) and not self._shown.problem:
            return ()  # the volume that was waited for
        if not isinstance(self._shown, Arrived) and self._shown is not _TALKING:
            # What became a disk and is none any more is not asked again before it was pulled.
            self._spent, self._told = self._port if before == self._port else None, None
            return [Left()]
        arrived = self._shown if isinstance(self._shown, Arrived) else Arrived()
        return [arrived] if shown is None else [Left(), arrived]

    def _stage(self) -> "Arrived | object | None":
        """Return the volume, or that there is only a port to talk over, or nothing."""
        if self._volume is not None or isinstance(self._shown, Arrived):
            return self._volume
        is_new = self._port is not None and self._port != self._spent
        waits = self._shown is _TALKING and self._is_expected
        return _TALKING if is_new or waits else None

    def _find(self) -> "_Port | None":
        path = self._find_port()
        try:
            found = None if path is None else path.stat()
        except OSError:
            return None
        if path is None or found is None:
            return None
        return _Port(
            path=path, device=found.st_rdev, inode=found.st_ino, changed_ns=found.st_ctime_ns
        )

    async def _look_at_volumes(self) -> None:
        async for change in self._volumes.changes():
            self._volume = change if isinstance(change, Arrived) else None
            if isinstance(change, Arrived):
                self._came.set()
            else:
                self._came.clear()
            self._changed.set()
