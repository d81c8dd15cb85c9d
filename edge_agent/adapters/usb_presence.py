"""When a recorder's disks appear at a bay's USB ports, and when they leave.

What is at the ports is looked at again and again; that the kernel told of something only makes
the next look come sooner. All looks and requests are in one thread that is the bay's own.
"""

import asyncio
import contextlib
import errno
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import pyudev
import structlog

from edge_agent.adapters.joined_volume import JoinedVolume
from edge_agent.adapters.presence import Arrived, Left
from edge_agent.adapters.usb_tree import Disk, UsbTree
from edge_agent.drivers.dialog import StepReport
from edge_agent.errors import SourceVanishedError
from edge_agent.mounting.errors import MountRefusedError, MountServiceError
from edge_agent.mounting.messages import Reply
from edge_agent.one_thread import OneThread

FLAPPING: Final = "E-BAY-104"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsbPace:
    """How patient a bay is.

    Attributes:
        poll_s: Between two looks, if the kernel tells nothing.
        settle_s: Disks that have not changed for so long are all there: partitions come last.
        retry_s: After a mount that failed; then after twice as long, up to *longest_retry_s*.
        flaps: So many arrivals within *flap_window_s* are a bad connector.
        calm_s: So long a bad connector has to hold before its recorder is mounted.
    """

    poll_s: float = 1.0
    settle_s: float = 0.3
    retry_s: float = 5.0
    longest_retry_s: float = 60.0
    flaps: int = 4
    flap_window_s: float = 60.0
    calm_s: float = 10.0


class Mounter(Protocol):
    """edge-mount, asked for one bay; see edge_agent.adapters.mount_client."""

    def mount(self) -> Reply:
        """Have what is in the bay mounted; MountServiceError if there is no answer."""

    def detach(self) -> Reply:
        """Have all mounts of the bay taken away; MountServiceError if there is no answer."""


class UsbPresence:
    """Looks after the ports of one bay; keeps the contract of `Presence`."""

    def __init__(
        self,
        ports: Sequence[str],
        thread: OneThread,
        *,
        tree: UsbTree,
        client: Mounter,
        folder: Path,
        pace: UsbPace | None = None,
        hints: Callable[[asyncio.Event], contextlib.AbstractContextManager[None]] | None = None,
    ) -> None:
        """Look at nothing yet.

        Args:
            ports: All paths of the bay's connector.
            thread: The bay's own.
            tree: Where disks are looked for.
            client: Of edge-mount, for this bay.
            folder: Where edge-mount mounts this bay's volumes.
            pace: How patient the bay is.
            hints: Sets the event when the kernel tells of a device; by default its own uevents.
        """
        self._ports = ports
        self._thread = thread
        self._tree = tree
        self._client = client
        self._folder = folder
        self._pace = pace or UsbPace()
        self._hints = hints or kernel_hints
        self._roots: tuple[Path, ...] = ()
        self._left_out = 0
        self._arrivals: deque[float] = deque(maxlen=self._pace.flaps)

    async def remember_content(self) -> None:
        """Nothing: what is mounted read-only from a disk does not change under us."""

    async def ready(self, report: Callable[[StepReport], None]) -> None:
        """Have the disks mounted again if edge-mount, started anew, has taken the mounts away.

        Raises:
            MountRefusedError: They cannot be.
        """
        del report  # nobody has to be asked
        if not self._roots or await self._thread.run(self._is_mounted):
            return
        problem = await self._mount()
        if problem is not None:
            raise MountRefusedError(f"{problem[0]}: {problem[1]}")

    def mount(
        self, *, read_limit_bytes_s: int | None = None
    ) -> contextlib.AbstractContextManager[JoinedVolume]:
        """Open what edge-mount has mounted; blocking."""
        if not self._roots:
            raise SourceVanishedError("no volume")
        return JoinedVolume.mount(
            self._roots, left_out=self._left_out, read_limit_bytes_s=read_limit_bytes_s
        )

    async def changes(self) -> AsyncIterator[Arrived | Left]:
        """Yield Arrived and Left in turn, Arrived first; ends only when it is closed."""
        hint = asyncio.Event()
        with self._hints(hint):
            try:
                while True:
                    disks = await self._settled(hint)
                    problem = await self._take_in()
                    yield Arrived(problem=problem)
                    while problem and await self._is_mounted_later(disks, hint, problem):
                        yield Left()
                        problem = None
                        yield Arrived()
                    if problem is None:
                        await self._until_other_than(disks, hint)
                    self._roots = ()
                    await self._detach()
                    yield Left()
            finally:
                self._roots = ()
                await asyncio.shield(self._detach())

    async def _settled(self, hint: asyncio.Event) -> tuple[Disk, ...]:
        """Return the disks at the ports once there are some, and no more come."""
        seen: tuple[Disk, ...] = ()
        while True:
            hint.clear()
            found = await self._look()
            if found and found == seen:
                return found
            seen = found
            await self._wait(hint, None if found else self._pace.poll_s)

    async def _take_in(self) -> tuple[str, str] | None:
        """Have what has come mounted; return why it is not, None if it is."""
        pace, now_s = self._pace, asyncio.get_running_loop().time()
        self._arrivals.append(now_s)
        span_s = now_s - self._arrivals[0]
        if len(self._arrivals) == pace.flaps and span_s < pace.flap_window_s:
            text = f"it came {pace.flaps} times within {span_s:.0f} s: the connector does not hold"
            return FLAPPING, text
        return await self._mount()

    async def _is_mounted_later(
        self, disks: tuple[Disk, ...], hint: asyncio.Event, problem: tuple[str, str]
    ) -> bool:
        """Try to mount, ever more seldom; return False when the disks have left before."""
        pause_s = self._pace.calm_s if problem[0] == FLAPPING else self._pace.retry_s
        while not await self._until_other_than(disks, hint, timeout_s=pause_s):
            if await self._mount() is None:
                return True
            pause_s = min(2 * pause_s, self._pace.longest_retry_s)
        return False

    async def _until_other_than(
        self, disks: tuple[Disk, ...], hint: asyncio.Event, *, timeout_s: float | None = None
    ) -> bool:
        """Return True when other disks are at the ports, or False when the time is up."""
        loop = asyncio.get_running_loop()
        deadline_s = None if timeout_s is None else loop.time() + timeout_s
        while deadline_s is None or loop.time() < deadline_s:
            hint.clear()
            if await self._look() != disks:
                return True
            left_s = self._pace.poll_s if deadline_s is None else deadline_s - loop.time()
            await self._wait(hint, max(0.0, min(self._pace.poll_s, left_s)))
        return False

    def _is_mounted(self) -> bool:
        # It removes the folder with the mount.
        return all(root.is_dir() for root in self._roots)

    async def _look(self) -> tuple[Disk, ...]:
        return await self._thread.run(partial(self._tree.disks_at, self._ports))

    async def _mount(self) -> tuple[str, str] | None:
        try:
            reply = await self._thread.run(self._client.mount)
        except MountServiceError as error:
            return error.code, str(error)
        if reply.code is not None:
            return reply.code, reply.text
        if reply.text:
            _log.warning("not all of a recorder is mounted", text=reply.text)
        self._roots, self._left_out = _roots(self._folder, reply), reply.left_out
        return None

    async def _detach(self) -> None:
        try:
            reply = await self._thread.run(self._client.detach)
            reason = reply.text if reply.code is not None else None
        except MountServiceError as error:
            reason = str(error)
        if reason is not None:
            # Mounting begins with detaching what is left.
            _log.warning("not detached", reason=reason)

    async def _wait(self, hint: asyncio.Event, timeout_s: float | None) -> None:
        """Wait for a hint; None for as long as disks take to settle, hint or no hint."""
        if timeout_s is None:
            await asyncio.sleep(self._pace.settle_s)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await hint.wait()


def _roots(folder: Path, reply: Reply) -> tuple[Path, ...]:
    return tuple(folder / volume.name for volume in reply.volumes)


@contextlib.contextmanager
def kernel_hints(hint: asyncio.Event) -> Iterator[None]:
    """Set *hint* whenever the kernel tells that a block device came or went."""
    monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="kernel")
    monitor.filter_by(subsystem="block")
    monitor.start()
    loop = asyncio.get_running_loop()

    def told() -> None:
        try:
            while monitor.poll(timeout=0) is not None:
                pass
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # so many that some are lost: one look shows all
                raise
        hint.set()

    loop.add_reader(monitor.fileno(), told)
    try:
        yield
    finally:
        loop.remove_reader(monitor.fileno())
