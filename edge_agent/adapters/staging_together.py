"""Many small files on their way to the dock's own disk at once.

A sync costs a small file more than its bytes do. Several files that are synced at the same time
share one commit of the file system; and their folders are synced once for all of them.
"""

import contextlib
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
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

    def stage(self, copies: Sequence[SmallCopy], *, read_back: bool) -> tuple[SmallOutcome, ...]:
        """Keep the contract of `Staging.stage_together`."""
        writing: list[Future[ReadBack]] = []
        try:
            writing.extend(
                self._threads.submit(self._write, copy, read_back=read_back) for copy in copies
            )
        finally:
            wait(writing)  # none of them works on when this returns
        outcomes = [_outcome(one) for one in writing]
        good = [
            copy
            for copy, outcome in zip(copies, outcomes, strict=True)
            if isinstance(outcome, ReadBack)
        ]
        try:
            durable.rename_all_no_replace(
                [(self._partial / one.file_id, self._files / one.file_id) for one in good]
            )
        except OSError as error:
            outcomes = [error if isinstance(one, ReadBack) else one for one in outcomes]
        for copy, outcome in zip(copies, outcomes, strict=True):
            if not isinstance(outcome, ReadBack):
                self._throw_away(copy)
        return tuple(outcomes)

    def _write(self, copy: SmallCopy, *, read_back: bool) -> ReadBack:
        for folder in (self._files, self._partial):
            (folder / copy.file_id).unlink(missing_ok=True)
        path = self._partial / copy.file_id
        fd = durable.create_exclusive(self._partial, copy.file_id)
        try:
            durable.write_all(fd, copy.content)
            durable.sync_file(fd)
            if not read_back:
                return ReadBack(compared=False, evicted=False)
            evicted = evict(fd, size_bytes=len(copy.content)) is Eviction.PROVED
            found = sha256(path.read_bytes()).hexdigest()
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
        if found != copy.sha256:
            raise CopyDiffersError(copy.file_id, written_sha256=copy.sha256, found_sha256=found)
        return ReadBack(compared=True, evicted=evicted)

    def _throw_away(self, copy: SmallCopy) -> None:
        # What is reported is the first error; whatever stays is thrown away by the next try.
        for folder in (self._files, self._partial):
            with contextlib.suppress(OSError):
                (folder / copy.file_id).unlink(missing_ok=True)


def _outcome(writing: Future[ReadBack]) -> SmallOutcome:
    try:
        return writing.result()
    except (CopyDiffersError, OSError) as error:
        return error
