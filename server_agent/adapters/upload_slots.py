"""Whose turn it is to send a file, and which files are open.

Each file belongs to one request at a time, the latest: a dock whose connection broke comes back
before we notice, and would otherwise wait for our own timeout. The request that is overtaken loses
its connection; what it had received stays.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

from protocol.digest import Digests
from server_agent.adapters.incoming_file import IncomingFile

T = TypeVar("T")


class OvertakenError(Exception):
    """A later request is about the same file."""


async def in_thread(step: Callable[[], T]) -> T:
    """Run a blocking step in a thread, to its end even when we are cancelled meanwhile.

    Letting go of a file that a thread still writes or syncs would end in another file's number.
    """
    running = asyncio.ensure_future(asyncio.to_thread(step))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise


class Slot:
    """What is in memory of one file. Its methods are for whoever has the turn."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.latest: object = None
        self.cut_off: Callable[[], None] | None = None
        self.users = 0
        self._file: IncomingFile | None = None

    @property
    def is_open(self) -> bool:
        """Whether the file is open."""
        return self._file is not None

    @property
    def received_bytes(self) -> int:
        """How much was written; the file is open."""
        return self._opened().received_bytes

    @property
    def synced_bytes(self) -> int:
        """How much survives a power cut; the file is open."""
        return self._opened().synced_bytes

    @property
    def reserved_bytes(self) -> int:
        """Up to where the disk has room set aside; the file is open."""
        return self._opened().reserved_bytes

    def digests(self) -> Digests:
        """Return what was received hashes to; the file is open."""
        return self._opened().digests()

    async def open(self, path: Path, *, with_sm3: bool) -> bool:
        """Open what is there; return whether there is anything.

        Raises:
            OSError: Our disk failed.
        """
        if self._file is None:
            self._file = await in_thread(lambda: IncomingFile.resume(path, with_sm3=with_sm3))
        return self._file is not None

    async def create(self, path: Path, *, with_sm3: bool) -> None:
        """Create the file, empty.

        Raises:
            OSError: Our disk failed, or is full.
        """
        self._file = await in_thread(lambda: IncomingFile.create(path, with_sm3=with_sm3))

    async def reserve(self, size_bytes: int) -> None:
        """Set room aside so that the file can have *size_bytes*.

        Raises:
            OSError: Our disk failed, or is full.
        """
        file = self._opened()
        await in_thread(lambda: file.reserve(size_bytes))

    async def release(self) -> None:
        """Give back room that was set aside and not used; nothing if the file is not open.

        Raises:
            OSError: Our disk failed.
        """
        if self._file is not None:
            await in_thread(self._file.release)

    def write(self, chunk: bytes) -> None:
        """Add *chunk*; in the event loop, for a thread would cost more than the page cache does.

        Raises:
            OSError: Our disk failed; what it took before is still good.
        """
        try:
            self._opened().append(chunk)
        except OSError:
            self.close()
            raise

    async def sync(self) -> None:
        """Make durable what was received.

        Raises:
            OSError: Our disk failed; the file is discarded, for syncing it again would be answered
                wrongly.
        """
        file = self._opened()
        try:
            await in_thread(file.sync)
        except OSError:
            self._file = None
            with contextlib.suppress(OSError):  # what is reported is the first error
                await in_thread(file.discard)
            raise

    async def cut(self, size_bytes: int) -> None:
        """Drop what was received beyond *size_bytes*.

        Raises:
            OSError: Our disk failed.
        """
        file, self._file = self._opened(), None
        await in_thread(lambda: file.cut(size_bytes))

    async def discard(self) -> None:
        """Close and remove the file.

        Raises:
            OSError: Our disk failed.
        """
        file, self._file = self._opened(), None
        await in_thread(file.discard)

    def close(self) -> None:
        """Close the file; what was received stays."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _opened(self) -> IncomingFile:
        if self._file is None:
            raise RuntimeError("the file is not open: our bug")
        return self._file


class Slots:
    """The slots of the files that requests are about, and of some that requests were about."""

    def __init__(self, *, open_files: int) -> None:
        self._slots: OrderedDict[str, Slot] = OrderedDict()
        self._open_files = open_files

    @contextlib.asynccontextmanager
    async def turn(self, name: str, cut_off: Callable[[], None] | None) -> AsyncIterator[Slot]:
        """Have the turn for the length of the block, once whoever had it has lost its connection.

        Args:
            name: The upload's id.
            cut_off: Ends our own connection, for the next one who comes. None for work of the
                archive's own: no request overtakes it, so that no dock can keep it from being done.

        Raises:
            OvertakenError: A later request came while we waited; never with *cut_off* None.
        """
        slot = self._slots.setdefault(name, Slot())
        self._slots.move_to_end(name)
        token = slot.latest = object()
        if slot.cut_off is not None:
            slot.cut_off()
        slot.users += 1
        try:
            async with slot.turn:
                if cut_off is not None and slot.latest is not token:
                    raise OvertakenError(name)
                slot.cut_off = cut_off
                try:
                    yield slot
                finally:
                    slot.cut_off = None
        finally:
            slot.users -= 1
            self._close_idle(self._open_files)

    def close(self) -> None:
        """Close every file that no request is about."""
        self._close_idle(0)

    def _close_idle(self, keep: int) -> None:
        idle = [name for name, slot in self._slots.items() if slot.users == 0]
        for name in idle[: max(0, len(idle) - keep)]:
            self._slots.pop(name).close()
        for name in idle:
            if name in self._slots and not self._slots[name].is_open:
                del self._slots[name]
