"""One file on its way to the dock's own disk; see write_behind.py for what goes on meanwhile."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from edge_agent.adapters.staging_way import Way
from edge_agent.adapters.write_behind import ReadBehind, WriteBehind
from edge_agent.errors import CopyDiffersError
from edge_agent.staging.slot import ReadBack
from runtime import durable
from runtime.eviction import evict
from runtime.reading import read_chunks
from runtime.uncached import ALIGNMENT_BYTES, set_mode


class DiskSlot:
    """A file under ``partial/`` that is being written; keeps the contract of `StagingSlot`."""

    def __init__(
        self,
        partial: Path,
        *,
        sealed: Path,
        size_bytes: int,
        stored_bytes: int | None,
        way: Way,
    ) -> None:
        """Take a file.

        Args:
            partial: Where it is until it is sealed.
            sealed: Where it is then.
            size_bytes: Room to reserve.
            stored_bytes: How much of an existing one to go on after; None makes a new one.
            way: How bytes go to this disk.

        Raises:
            FileNotFoundError: It does not exist, or holds less than *stored_bytes*.
            OSError: Our disk failed.
        """
        self._partial = partial
        self._sealed = sealed
        self._size_bytes = size_bytes
        self._way = way
        self._poisoned = False
        self._fd: int | None = None
        self._begin(stored_bytes)

    @property
    def stored_bytes(self) -> int:
        """How much it holds."""
        return self._stored_bytes

    def stored(self, *, offset_bytes: int) -> Iterator[memoryview]:
        """Read back what it holds, from the disk as far as the kernel lets go of its memory."""
        fd = self._writable()
        with self._poisoning():
            self._writer.drain()
        evict(fd, size_bytes=self._stored_bytes)
        rest_bytes = self._stored_bytes - offset_bytes
        with self._partial.open("rb", buffering=0) as file:
            file.seek(offset_bytes)
            for chunk in read_chunks(file.fileno()):
                if rest_bytes <= 0:
                    return
                yield chunk[:rest_bytes]
                rest_bytes -= len(chunk)

    def append(self, chunk: bytes | memoryview) -> None:
        """Take *chunk*, and write it soon."""
        self._writable()
        with self._poisoning():
            self._writer.append(chunk)
        self._stored_bytes += len(chunk)

    def sync(self) -> None:
        """Make all that was appended durable, and the file's name."""
        self._sync_content()
        self._sync_name()

    def sync_behind(self, then: Callable[[], None]) -> None:
        """Make it durable while more is appended, and call *then* in another thread."""
        self._writable()
        self._sync_name()
        with self._poisoning():
            self._writer.mark(self._reader.follow, then)

    def restart(self) -> None:
        """Throw away what it holds, and begin anew in another file."""
        self.discard()
        self._begin(None)
        self._poisoned = False

    def seal(self, *, sha256: str, read_back: bool) -> ReadBack:
        """Sync, read back, compare, give the file its name, sync both folders."""
        self._sync_content()
        proof = ReadBack(compared=False, evicted=False)
        if read_back:
            proof = self._read_back(sha256)
        self._let_threads_go()
        with self._poisoning():
            durable.rename_no_replace(self._partial, self._sealed)
        self._close_file()
        return proof

    def close(self) -> None:
        """Keep what was synced, and give the room back that was reserved for more."""
        try:
            self._let_threads_go()
            if self._fd is not None:
                give_room_back(self._fd)
        finally:
            self._close_file()

    def discard(self) -> None:
        """Delete the file."""
        # Closing writes nothing that matters any more; whatever it says is about lost content.
        with contextlib.suppress(OSError):
            self.close()
        self._partial.unlink(missing_ok=True)

    def _begin(self, stored_bytes: int | None) -> None:
        self._stored_bytes = stored_bytes or 0
        # What is held already was noted in the journal, so the name was made durable before.
        self._has_durable_name = bool(stored_bytes)
        if stored_bytes is None:
            self._partial.unlink(missing_ok=True)
            fd = durable.create_exclusive(
                self._partial.parent, self._partial.name, preallocate_bytes=self._size_bytes
            )
            head = b""
        else:
            fd, head = _cut(self._partial, stored_bytes, size_bytes=self._size_bytes)
        way = self._way
        try:
            set_mode(fd, way.mode)
            self._writer = WriteBehind(
                fd, head=head, offset_bytes=self._stored_bytes, mode=way.mode, blocks=way.blocks
            )
        except OSError:
            _let_go(fd)
            raise
        self._fd = fd
        self._reader = ReadBehind(
            fd, self._partial, mode=way.mode, blocks=way.blocks, early=way.reads_back_early
        )

    def _sync_content(self) -> None:
        fd = self._writable()
        with self._poisoning():
            self._writer.drain()
            self._reader.settle()
            durable.sync_file(fd)

    def _sync_name(self) -> None:
        if not self._has_durable_name:
            with self._poisoning():
                durable.sync_directory(self._partial.parent)
            self._has_durable_name = True

    def _read_back(self, sha256: str) -> ReadBack:
        with self._poisoning():
            found, evicted = self._reader.finish()
        if found != sha256:
            self._poisoned = True
            raise CopyDiffersError(self._partial.name, written_sha256=sha256, found_sha256=found)
        return ReadBack(compared=True, evicted=evicted)

    def _close_file(self) -> None:
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)

    def _let_threads_go(self) -> None:
        self._writer.stop()
        self._reader.stop()

    @contextlib.contextmanager
    def _poisoning(self) -> Iterator[None]:
        try:
            yield
        except Exception:
            self._poisoned = True
            raise

    def _writable(self) -> int:
        if self._reader.failure is not None:
            self._poisoned = True
            raise self._reader.failure
        if self._fd is None or self._poisoned:
            raise OSError(errno.EIO, "an earlier write or sync failed, or the slot is closed")
        return self._fd


def give_room_back(fd: int) -> None:
    """Leave an unfinished copy the room that its bytes take, and no more."""
    os.ftruncate(fd, os.fstat(fd).st_size)


def _cut(path: Path, stored_bytes: int, *, size_bytes: int) -> tuple[int, bytes]:
    """Open a file for writing after its first *stored_bytes*, and return its last unaligned ones.

    Raises:
        FileNotFoundError: There is none, or it has not as many.
        OSError: Our disk failed; with ENOSPC there is no room for *size_bytes*.
    """
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        _check_size(fd, path, stored_bytes)
        os.ftruncate(fd, stored_bytes)
        durable.extend_reservation(fd, size_bytes)
        head_bytes = stored_bytes % ALIGNMENT_BYTES
        return fd, os.pread(fd, head_bytes, stored_bytes - head_bytes)
    except BaseException:
        _let_go(fd)
        raise


def _let_go(fd: int) -> None:
    """Close what could not be begun; room that was set aside for it in vain is given back."""
    try:
        with contextlib.suppress(OSError):  # what is reported is the first error
            give_room_back(fd)
    finally:
        os.close(fd)


def _check_size(fd: int, path: Path, stored_bytes: int) -> None:
    if os.fstat(fd).st_size < stored_bytes:
        raise FileNotFoundError(errno.ENOENT, "it holds less than it should", str(path))
