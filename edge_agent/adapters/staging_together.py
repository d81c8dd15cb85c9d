"""Many small files on their way to the dock's own disk at once.

A sync costs a small file more than its bytes do. So all are written first, and then synced at the
same time: they share one commit of the file system. Their folders are synced once for all of them.
"""

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from hashlib import sha256
from pathlib import Path
from typing import Final

from edge_agent.errors import CopyDiffersError
from edge_agent.staging.slot import ReadBack, SmallCopy, SmallOutcome
from runtime import durable
from runtime.eviction import Eviction, evict

# More of them wait for one another.
_AT_ONCE: Final = 8


class TogetherStaging:
    """Copies files below ``partial/`` and gives them their names in ``files/``."""

    def __init__(self, partial_folder: Path, files_folder: Path) -> None:
        self._partial = partial_folder
        self._files = files_folder
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="staging-small")
        # More than one batch makes no disk faster, and holds that many more files open.
        self._turn = threading.Lock()

    def stage(self, copies: Sequence[SmallCopy], *, read_back: bool) -> tuple[SmallOutcome, ...]:
        """Keep the contract of `Staging.stage_together`."""
        with self._turn:
            batch = [_Small(copy, self._partial, self._files) for copy in copies]
            try:
                for one in batch:
                    one.write()
                wait([self._threads.submit(one.sync) for one in batch])
                if read_back:
                    for one in batch:
                        one.read_back()
            finally:
                for one in batch:
                    one.close()
            self._name([one for one in batch if one.failure is None])
            for one in batch:
                one.clear_away()
            return tuple(one.failure or one.proof for one in batch)

    def _name(self, batch: Sequence["_Small"]) -> None:
        try:
            durable.rename_all_no_replace([(one.partial, one.sealed) for one in batch])
        except OSError as error:
            for one in batch:
                one.failure = error


class _Small:
    """One file of a batch; once it has failed, nothing more is done with it."""

    def __init__(self, copy: SmallCopy, partial_folder: Path, files_folder: Path) -> None:
        self.partial = partial_folder / copy.file_id
        self.sealed = files_folder / copy.file_id
        self.proof = ReadBack(compared=False, evicted=False)
        self.failure: CopyDiffersError | OSError | None = None
        self._copy = copy
        self._fd: int | None = None

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

    def read_back(self) -> None:
        with self._failing():
            if self._fd is not None and self.failure is None:
                evicted = evict(self._fd, size_bytes=len(self._copy.content)) is Eviction.PROVED
                found = sha256(self.partial.read_bytes()).hexdigest()
                os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
                if found != self._copy.sha256:
                    raise CopyDiffersError(
                        self._copy.file_id, written_sha256=self._copy.sha256, found_sha256=found
                    )
                self.proof = ReadBack(compared=True, evicted=evicted)

    def close(self) -> None:
        if self._fd is not None:
            # What was synced is there; what was not has failed already.
            with contextlib.suppress(OSError):
                os.close(self._fd)

    def clear_away(self) -> None:
        """Delete what failed; whatever stays is thrown away by the next try."""
        if self.failure is not None:
            for path in (self.sealed, self.partial):
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except (CopyDiffersError, OSError) as error:
            self.failure = error
