"""When a volume appears in a folder, and when it leaves.

The folder is looked at again and again. That something changes beside it only makes the next look
come sooner: of mounts the kernel's file notices say nothing. All looks are in one thread that is
the bay's own: a volume that hangs holds up nobody else.
"""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from edge_agent.adapters.directory_volume import DirectoryVolume
from edge_agent.adapters.presence import Arrived, Left
from edge_agent.drivers.dialog import StepReport
from edge_agent.errors import IngestError
from edge_agent.ingest.volume import RawEntry
from edge_agent.one_thread import OneThread

# As many as a docking lists.
_MOST_ENTRIES: Final = 200_000
# Of its time, a bay spends no more than a tenth on listing a volume again.
_LISTING_SHARE: Final = 10
_HASH_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class _Volume:
    """What tells one mounted volume from another; numbers alone are used again."""

    device: int
    inode: int
    changed_ns: int
    mount: str


class DirectoryPresence:
    """Looks after one folder, which need not exist."""

    def __init__(
        self,
        root: Path,
        thread: OneThread,
        *,
        is_relied_on: Callable[[], bool],
        poll_s: float = 0.5,
        content_s: float = 3.0,
    ) -> None:
        """Look at nothing yet.

        Args:
            root: The folder.
            thread: The bay's own, for all looks.
            is_relied_on: Whether what was read counts as all there is: then what is listed is
                compared, too.
            poll_s: Between two looks whether there is a volume.
            content_s: At least this long between two looks at all that is listed.
        """
        self._root = root
        self._thread = thread
        self._is_relied_on = is_relied_on
        self._poll_s = poll_s
        self._content_s = content_s
        self._content: bytes | None = None
        self._content_due_s = 0.0

    async def remember_content(self) -> None:
        """Take what is listed now as what there is; to be called before it is read."""
        self._content = await self._look_at_content()

    async def ready(self, report: Callable[[StepReport], None]) -> None:
        """Nothing: a folder is there or not."""

    def mount(
        self, *, read_limit_bytes_s: int | None = None
    ) -> contextlib.AbstractContextManager[DirectoryVolume]:
        """Open the folder as a volume; blocking."""
        return DirectoryVolume.mount(self._root, read_limit_bytes_s=read_limit_bytes_s)

    async def changes(self) -> AsyncIterator[Arrived | Left]:
        """Yield Arrived and Left in turn, Arrived first; ends only when it is closed."""
        hint = asyncio.Event()
        present: _Volume | None = None
        async with _hints(self._root.parent, hint):
            while True:
                hint.clear()
                found = await self._thread.run(partial(_volume_at, self._root))
                if present is not None and (found != present or await self._has_other_content()):
                    present = None
                    yield Left()
                if found is not None and present is None:
                    present = found
                    yield Arrived()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_s):
                        await hint.wait()

    async def _has_other_content(self) -> bool:
        is_due = asyncio.get_running_loop().time() >= self._content_due_s
        if self._content is None or not is_due or not self._is_relied_on():
            return False
        return await self._look_at_content() != self._content

    async def _look_at_content(self) -> bytes | None:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        content = await self._thread.run(partial(_content_of, self._root))
        taken_s = loop.time() - started_s
        self._content_due_s = loop.time() + max(self._content_s, _LISTING_SHARE * taken_s)
        return content


def _volume_at(root: Path) -> _Volume | None:
    """Return which folder with content is there; None if there is none, or it cannot be listed."""
    try:
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        with os.scandir(fd) as entries:
            if next(entries, None) is None:
                return None
        found = os.fstat(fd)
        return _Volume(
            device=found.st_dev,
            inode=found.st_ino,
            changed_ns=found.st_ctime_ns,
            mount=_mount_of(fd),
        )
    except OSError:
        return None
    finally:
        os.close(fd)


def _mount_of(fd: int) -> str:
    """Return the line of proc(5) that names the mount, whatever its number looks like."""
    lines = Path(f"/proc/self/fdinfo/{fd}").read_text(encoding="ascii").splitlines()
    return next((line for line in lines if line.startswith("mnt_id:")), "")


def _content_of(root: Path) -> bytes | None:
    """Return a digest of all names, sizes and times, in any order; None if it cannot be listed."""
    total = 0
    try:
        with DirectoryVolume.mount(root) as volume:
            for entry in islice(volume.entries(), _MOST_ENTRIES):
                total += int.from_bytes(_digest_of(entry))
    except (IngestError, OSError):
        return None
    return (total % (1 << (8 * _HASH_BYTES))).to_bytes(_HASH_BYTES)


def _digest_of(entry: RawEntry) -> bytes:
    facts = f"{entry.kind.value} {entry.size_bytes} {entry.mtime_ns} ".encode("ascii")
    return hashlib.blake2b(facts + entry.path, digest_size=_HASH_BYTES).digest()


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
