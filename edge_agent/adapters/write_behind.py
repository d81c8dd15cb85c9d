"""Writes that go on while the next bytes are read and hashed, and the reading back behind them.

Two threads belong to a slot while it takes a large file: one writes whole blocks; the other syncs
what was written, tells so, and reads it back from the disk, far behind the first. A third hashes
what was read back. A small file needs none of them.
"""

import contextlib
import errno
import hashlib
import mmap
import os
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, NamedTuple, Self

from runtime import durable
from runtime.eviction import Eviction, evict
from runtime.threads import started
from runtime.uncached import (
    ALIGNMENT_BYTES,
    BLOCK_BYTES,
    DiskMode,
    new_block,
    open_for_reading,
    read_block,
    write_block,
)

# Of blocks that nobody uses: so much memory stays with a dock that has nothing to do.
_MOST_FREE: Final = 32
# Blocks that wait to be written, or to be hashed, beside the one that is being filled.
_AHEAD: Final = 2


class Blocks:
    """Blocks of memory, used again and again by all slots of a disk; so many and no more.

    A slot holds one while it waits for its recorder; every other one is on its way through a thread
    that needs no more of them, and comes back. So with one more than slots, all of them go on.
    A few are kept while nobody needs them; the rest goes back to the machine.
    """

    def __init__(self, most: int = 32) -> None:
        """Make none yet; *most* is at least one more than there are slots at a time."""
        self._left = threading.Semaphore(most)
        # The last one used first: it is still in the processor's cache.
        self._free: deque[mmap.mmap] = deque()

    def take(self) -> mmap.mmap:
        """Return a block, once there is one; what is in it is of no meaning.

        Raises:
            OSError: With ENOMEM: there is no memory for it.
        """
        self._left.acquire()
        with contextlib.suppress(IndexError):
            return self._free.pop()
        try:
            return new_block()
        except OSError:
            self._left.release()
            raise

    def give_back(self, block: mmap.mmap) -> None:
        """Let others have a block that nobody looks at any more."""
        if len(self._free) < _MOST_FREE:
            self._free.append(block)
        else:
            block.close()
        self._left.release()


class _Full(NamedTuple):
    """A block to be written."""

    block: mmap.mmap
    offset_bytes: int


class _Mark(NamedTuple):
    """Where everything was handed over; *then* is called when that is durable.

    Attributes:
        final_bytes: What stands before this is never written again.
    """

    final_bytes: int
    then: Callable[[], None]


class WriteBehind:
    """Writes one file block by block; an error of its threads is raised by the next call."""

    def __init__(
        self, fd: int, *, head: bytes, offset_bytes: int, mode: DiskMode, blocks: Blocks
    ) -> None:
        """Go on at *offset_bytes*.

        Args:
            fd: Open for writing in *mode*; closed by nobody here.
            head: What stands between the block's beginning and *offset_bytes*, in the file.
            offset_bytes: How much the file holds.
            mode: How blocks go to this disk.
            blocks: Memory.
        """
        self._fd = fd
        self._mode = mode
        self._blocks = blocks
        self._block: mmap.mmap | None = blocks.take()
        self._filled_bytes = len(head)
        self._begin_bytes = offset_bytes - len(head)
        self._written_bytes = len(head)  # of the block that is being filled
        self._block[: len(head)] = head
        self._room = threading.Semaphore(_AHEAD)
        self._todo: SimpleQueue[_Full | _Mark | threading.Event | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None
        self._on_mark: Callable[[int, Callable[[], None]], None] | None = None

    def append(self, chunk: bytes | memoryview) -> None:
        """Take a copy of *chunk*; it is on its way to the disk when its block is full."""
        rest = memoryview(chunk).cast("B")
        while rest:
            block = self._current()
            part = rest[: BLOCK_BYTES - self._filled_bytes]
            block[self._filled_bytes : self._filled_bytes + len(part)] = part
            self._filled_bytes += len(part)
            rest = rest[len(part) :]
            if self._filled_bytes == BLOCK_BYTES:
                self._hand_over(block)

    def mark(
        self, on_mark: Callable[[int, Callable[[], None]], None], then: Callable[[], None]
    ) -> None:
        """Call *on_mark* once all that was appended was written.

        Args:
            on_mark: Called with how much of the file is never written again, and with *then*; in
                the order of the marks.
            then: Handed on.
        """
        self._on_mark = on_mark
        self._write_rest()
        if self._thread is None:
            on_mark(self._begin_bytes, then)
        else:
            self._todo.put(_Mark(self._begin_bytes, then))

    def drain(self) -> None:
        """Return when all that was appended was written; the file ends exactly there."""
        if self._thread is not None:
            reached = threading.Event()
            self._todo.put(reached)
            reached.wait()
        end_bytes = self._write_rest()
        if self._mode is DiskMode.DIRECT and end_bytes % ALIGNMENT_BYTES:
            os.ftruncate(self._fd, end_bytes)

    def stop(self) -> None:
        """End the thread; what waits is still written, unless that failed before."""
        if self._thread is not None:
            self._todo.put(None)
            self._thread.join()
            self._thread = None
        if self._block is not None:
            self._blocks.give_back(self._block)
            self._block = None

    def _current(self) -> mmap.mmap:
        if self._failure is not None:
            raise self._failure
        if self._block is None:
            raise RuntimeError("written to after its end: our bug")
        return self._block

    def _hand_over(self, block: mmap.mmap) -> None:
        if self._thread is None:
            self._thread = started(self._write_all, "staging-write")
        self._room.acquire()
        # It has another owner from here on, whatever comes of the next one.
        self._block = None
        self._todo.put(_Full(block, self._begin_bytes))
        self._begin_bytes += BLOCK_BYTES
        self._filled_bytes = self._written_bytes = 0
        self._block = self._blocks.take()

    def _write_rest(self) -> int:
        """Write what there is of the last block; it is written again when it is full."""
        block = self._current()
        if self._filled_bytes > self._written_bytes:
            self._written_bytes = size_bytes = self._filled_bytes
            if self._mode is DiskMode.DIRECT:
                size_bytes = -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
            block[self._filled_bytes : size_bytes] = bytes(size_bytes - self._filled_bytes)
            with memoryview(block) as whole, whole[:size_bytes] as part:
                write_block(self._fd, part, self._begin_bytes, self._mode)
        return self._begin_bytes + self._filled_bytes

    def _write_all(self) -> None:
        """In the thread: whatever fails, take all that comes, for somebody waits until it is."""
        while (todo := self._todo.get()) is not None:
            try:
                if self._failure is None:
                    self._do(todo)
            except Exception as error:  # noqa: BLE001 -- raised by the next call
                self._failure = error
            finally:
                if isinstance(todo, threading.Event):
                    todo.set()
                elif isinstance(todo, _Full):
                    self._blocks.give_back(todo.block)
                    self._room.release()

    def _do(self, todo: _Full | _Mark | threading.Event) -> None:
        if isinstance(todo, _Full):
            with memoryview(todo.block) as whole:
                write_block(self._fd, whole, todo.offset_bytes, self._mode)
        elif isinstance(todo, _Mark) and self._on_mark is not None:
            self._on_mark(todo.final_bytes, todo.then)


class ReadBehind:
    """Syncs what was written of one file, and reads it back from the disk, in order, once."""

    def __init__(self, fd: int, path: Path, *, mode: DiskMode, blocks: Blocks, early: bool) -> None:
        """Follow a file.

        Args:
            fd: Open for writing; closed by nobody here.
            path: Of the same file.
            mode: How blocks come from this disk.
            blocks: Memory.
            early: Whether to read back what was synced before the end is there.
        """
        self._fd = fd
        self._path = path
        self._mode = mode
        self._blocks = blocks
        self._early = early
        self._evicted = True
        self._reading_fd = -1
        self._read_bytes = 0
        self._digest = hashlib.sha256()
        self._marks: SimpleQueue[_Mark | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_ending = threading.Event()
        self.failure: Exception | None = None

    def follow(self, final_bytes: int, then: Callable[[], None]) -> None:
        """Sync all that was written, call *then*, and read back up to *final_bytes*, soon."""
        if self._thread is None:
            self._thread = started(self._follow_all, "staging-read-back")
        self._marks.put(_Mark(final_bytes, then))

    def settle(self) -> None:
        """Return when all that `follow` was told is durable; what is left to read back can wait.

        Raises:
            OSError: Our disk failed, now or before.
        """
        self._end_thread()
        if self.failure is not None:
            raise self.failure

    def finish(self) -> tuple[str, bool]:
        """Read the rest back, the file being synced whole and written no more.

        Returns:
            The SHA-256 of the file as it stands on the disk, and whether the kernel proved that
            none of it came from memory.

        Raises:
            OSError: Our disk failed.
        """
        self.settle()
        size_bytes = os.fstat(self._fd).st_size
        self._evict(size_bytes)
        self._read_to(size_bytes, lambda: None)
        if self._read_bytes != size_bytes:
            raise OSError(errno.EIO, f"only {self._read_bytes} of {size_bytes} bytes can be read")
        return self._digest.hexdigest(), self._evicted

    def stop(self) -> None:
        """End the thread; what it was told is durable then, unless that failed."""
        self._end_thread()
        if self._reading_fd >= 0:
            # Once: after an error, too, the number may be another file's by now.
            fd, self._reading_fd = self._reading_fd, -1
            os.close(fd)

    def _end_thread(self) -> None:
        if self._thread is not None:
            self._is_ending.set()
            self._marks.put(None)
            self._thread.join()
            self._thread = None
            self._is_ending.clear()

    def _follow_all(self) -> None:
        while (mark := self._marks.get()) is not None:
            try:
                if self.failure is None:
                    end_bytes = self._sync(mark)
                    if self._early and end_bytes > self._read_bytes:
                        self._evict(end_bytes)
                        self._read_to(end_bytes, self._further)
            except Exception as error:  # noqa: BLE001 -- raised by the next call
                self.failure = error

    def _sync(self, mark: _Mark) -> int:
        """Make durable what a mark is about; return up to where it may be read back."""
        durable.sync_file(self._fd)
        mark.then()
        return mark.final_bytes

    def _further(self) -> int | None:
        """A mark that came while we were reading is not kept waiting: what it tells is durable."""
        try:
            mark = self._marks.get_nowait()
        except Empty:
            return None
        if mark is None:
            self._marks.put(None)
            return None
        return self._sync(mark)

    def _read_to(self, end_bytes: int, further: Callable[[], int | None]) -> None:
        """Read and hash on from where the last reading ended; it was evicted up to *end_bytes*."""
        with _HashBehind(self._digest, self._blocks) as hashing:
            while self._read_bytes < end_bytes and not self._is_ending.is_set():
                if not self._read_one(hashing, end_bytes):
                    return  # it is shorter than it was
                if (later := further()) is not None and later > end_bytes:
                    end_bytes = later
                    self._evict(end_bytes)

    def _read_one(self, hashing: "_HashBehind", end_bytes: int) -> int:
        if self._reading_fd < 0:
            self._reading_fd = open_for_reading(self._path, self._mode)
        block = hashing.free_block()
        try:
            with memoryview(block) as whole:
                size_bytes = read_block(self._reading_fd, whole, self._read_bytes, self._mode)
        except BaseException:
            self._blocks.give_back(block)
            raise
        size_bytes = min(size_bytes, end_bytes - self._read_bytes)
        hashing.put(block, size_bytes)
        self._read_bytes += size_bytes
        return size_bytes

    def _evict(self, end_bytes: int) -> None:
        self._evicted &= evict(self._fd, size_bytes=end_bytes) is Eviction.PROVED


class _HashBehind:
    """Hashes blocks in a thread of its own, while the next ones are read.

    What fails there is raised at the end of the block of `with`, if nothing else was.
    """

    def __init__(self, digest: "hashlib._Hash", blocks: Blocks) -> None:
        self._digest = digest
        self._blocks = blocks
        self._room = threading.Semaphore(_AHEAD)
        self._todo: SimpleQueue[tuple[mmap.mmap, int] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._thread is not None:
            self._todo.put(None)
            self._thread.join()
        if self._failure is not None and kind is None:
            raise self._failure

    def free_block(self) -> mmap.mmap:
        """Return a block to be filled and put."""
        self._room.acquire()
        return self._blocks.take()

    def put(self, block: mmap.mmap, size_bytes: int) -> None:
        """Hash the first *size_bytes* of *block*, in order."""
        if size_bytes < BLOCK_BYTES and self._thread is None:
            self._hash(block, size_bytes)
            return
        if self._thread is None:
            try:
                self._thread = started(self._hash_all, "staging-hash")
            except OSError:
                self._blocks.give_back(block)
                raise
        self._todo.put((block, size_bytes))

    def _hash_all(self) -> None:
        while (todo := self._todo.get()) is not None:
            try:
                self._hash(*todo)
            except Exception as error:  # noqa: BLE001 -- raised by the next call
                self._failure = error

    def _hash(self, block: mmap.mmap, size_bytes: int) -> None:
        try:
            with memoryview(block) as whole, whole[:size_bytes] as part:
                self._digest.update(part)
        finally:
            self._blocks.give_back(block)
            self._room.release()
