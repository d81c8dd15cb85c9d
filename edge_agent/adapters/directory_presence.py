"""When a volume appears in a folder, and when it leaves.

The folder is looked at again and again. That something changes beside it only makes the next look
come sooner: of mounts the kernel's file notices say nothing.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

_Volume = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A volume with content is in the folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """The volume that was there is gone, or another one is in its place."""


class DirectoryPresence:
    """Looks after one folder, which need not exist."""

    def __init__(self, root: Path, *, poll_s: float = 0.5) -> None:
        self._root = root
        self._poll_s = poll_s

    async def changes(self) -> AsyncIterator[Arrived | Left]:
        """Yield Arrived and Left in turn, Arrived first; ends only when it is closed."""
        hint = asyncio.Event()
        present: _Volume | None = None
        async with _hints(self._root.parent, hint):
            while True:
                hint.clear()
                found = await asyncio.to_thread(_volume_at, self._root)
                if present is not None and found != present:
                    present = None
                    yield Left()
                if found is not None and present is None:
                    present = found
                    yield Arrived()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_s):
                        await hint.wait()


def _volume_at(root: Path) -> _Volume | None:
    """Return which folder with content is there; None if there is none, or it cannot be listed."""
    try:
        with os.scandir(root) as entries:
            if next(entries, None) is None:
                return None
        found = root.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


class _Hint(FileSystemEventHandler):
    def __init__(self, hint: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
        self._hint = hint
        self._loop = loop

    def on_any_event(self, event: FileSystemEvent) -> None:
        del event  # that something happened is all that counts
        self._loop.call_soon_threadsafe(self._hint.set)


@contextlib.asynccontextmanager
async def _hints(folder: Path, hint: asyncio.Event) -> AsyncIterator[None]:
    observer = Observer()
    # Our own looking would be a hint, too, if opening were one.
    observer.schedule(
        _Hint(hint, asyncio.get_running_loop()),
        str(folder),
        event_filter=[DirCreatedEvent, DirDeletedEvent, DirMovedEvent],
    )
    try:
        await asyncio.to_thread(observer.start)
    except OSError:
        # The folder is missing or there are too many watches: looking will do.
        yield
        return
    try:
        yield
    finally:
        observer.stop()
        await asyncio.to_thread(observer.join)
