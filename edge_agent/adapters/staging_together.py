"""Many small files on their way to the dock's own disk at once.

A sync costs a small file more than its bytes do. So all are written first, and then synced at the
same time: they share one commit of the file system. Their folders are synced once for all of them.
"""

import contextlib
import errno
import os
import threading
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

from edge_agent.errors import CopyDiffersError
from edge_agent.staging.slot import ReadBack, SmallCopy, SmallOutcome
from runtime import durable
from runtime.eviction import Eviction, evict
from runtime.threads import started

# More of them wait for one another.
_AT_ONCE: Final = 8


class TogetherStaging:
    """Copies files below ``partial/`` and gives them their names in ``files/``."""

    def __init__(self, partial_folder: Path, files_folder: Path) -> None:
        self._partial = partial_folder
        self._files = files_folder
        # More than one batch makes no disk faster, and holds that many more files open.
        self._turn = threading.Lock()

    def stage(self, copies: Sequence[SmallCopy], *, read_back: bool) -> tuple[SmallOutcome, ...]:
        """Keep the contract of `Staging.stage_together`."""
        with self._turn:
            batch = [_Small(copy, self._partial, self._files) for copy in copies]
            try:
                for one in batch:
                    one.write()
                _sync_all(batch)
                if read_back:
                    for one in batch:
                        one.read_back()
            finally:
                for one in batch:
                    one.close()
            self._name([one for one in batch if isinstance(one.outcome, ReadBack)])
            for one in batch:
                one.clear_away()
            return tuple(one.outcome for one in batch)

    def _name(self, batch: Sequence["_Small"]) -> None:
        try:
            durable.rename_all_no_replace([(one.partial, one.sealed) for one in batch])
        except OSError as error:
            for one in batch:
                one.failure = error


def _sync_all(batch: Sequence["_Small"]) -> None:
    """Sync all files, some at a time; as many threads as the system has are enough."""
    todo: SimpleQueue[_Small] = SimpleQueue()
    for one in batch:
        todo.put(one)

    def work() -> None:
        with contextlib.suppress(Empty):
            while True:
                todo.get_nowait().sync()

    threads: list[threading.Thread] = []
    try:
        with contextlib.suppress(OSError):
            more = min(_AT_ONCE, len(batch)) - 1
            threads.extend(started(work, "staging-small") for _ in range(more))
        work()
    finally:
        for thread in threads:
            thread.join()


class _Small:
    """One file of a batch, not durable before `sync`; once it has failed, nothing more is done."""

    def __init__(self, copy: SmallCopy, partial_folder: Path, files_folder: Path) -> None:
        self.partial = partial_folder / copy.file_id
        self.sealed = files_folder / copy.file_id
        self._proof = ReadBack(compared=False, evicted=False)
        self.failure: CopyDiffersError | OSError | None = None
        self._copy = copy
        self._fd: int | None = None
        self._is_synced = False

    @property
    def outcome(self) -> SmallOutcome:
        """What is proved of it; a file that nobody came to sync is no copy."""
        if self.failure is None and not self._is_synced:
            return OSError(errno.EIO, "it was not synced")
        return self.failure or self._proof

    def write(self) -> None:
        with self._failing():
            for path in (self.sealed, self.partial):
                path.unlink(missing_ok=True)
            self._fd = durable.create_exclusive(self.partial.parent, self.partial.name)
            durable.write_all(self._fd, self._copy.content)
            durable.begin_writing(self._fd)

    def sync(self) -> None:
        with self._failing():
            if self._fd is not None and self.failure is None:
                durable.sync_file(self._fd)
                self._is_synced = True

    def read_back(self) -> None:
        with self._failing():
            if self._fd is not None and self._is_synced:
                evicted = evict(self._fd, size_bytes=len(self._copy.content)) is Eviction.PROVED
                found = sha256(self.partial.read_bytes()).hexdigest()
                os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
                if found != self._copy.sha256:
                    raise CopyDiffersError(
                        self._copy.file_id, written_sha256=self._copy.sha256, found_sha256=found
                    )
                self._proof = ReadBack(compared=True, evicted=evicted)

    def close(self) -> None:
        if self._fd is not None:
            fd, self._fd = self._fd, None
            # What was synced is there; what was not has failed already.
            with contextlib.suppress(OSError):
                os.close(fd)

    def clear_away(self) -> None:
        """Delete what failed; whatever stays is thrown away by the next try."""
        if not isinstance(self.outcome, ReadBack):
            for path in (self.sealed, self.partial):
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except (CopyDiffersError, OSError) as error:
            self.failure = error
