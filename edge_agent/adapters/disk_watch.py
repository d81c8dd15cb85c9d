"""Whether the dock's own disk takes what is written to it: not read-only, not failing, not hanging.

A few bytes are written and synced every few seconds, into a file of their own.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from edge_agent.adapters.disk_word import is_full
from edge_agent.adapters.notice_store import Notice, NoticeStore
from edge_agent.adapters.pulse import Pulse
from edge_agent.ports import DISK_REFUSES
from runtime import durable

# The dock's disk has not answered for a while.
DISK_SILENT: Final = "E-STG-308"

_NAME: Final = ".alive"
_BLOCK: Final = bytes(4096)

Problem = tuple[str, str]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchPace:
    """How often the disk is tried.

    Attributes:
        pause_s: Between two tries.
        silent_s: A try that takes longer is no answer. Disks under the load of a full dock take a
            second or two; a disk that spins up again takes ten.
    """

    pause_s: float = 5.0
    silent_s: float = 15.0


class DiskWatch:
    """Watches the disk of some folders; `run` is its only task.

    Attributes:
        problem: What is wrong with the disk: a code, and the words.
        mended: Beats whenever nothing is wrong any more.
    """

    def __init__(
        self,
        folders: Collection[Path],
        *,
        show: Callable[[Problem | None], None],
        pace: WatchPace | None = None,
    ) -> None:
        """Watch what is in *folders* each time; *show* is called with each change of `problem`."""
        self.problem: Problem | None = None
        self.mended = Pulse()
        self._folders = folders
        self._show = show
        self._pace = pace or WatchPace()
        self._asked_s: float | None = None
        self._since_s = 0.0

    @property
    def silence_s(self) -> float:
        """For how long the disk has not answered."""
        return 0.0 if self._asked_s is None else asyncio.get_running_loop().time() - self._asked_s

    async def run(self, notices: NoticeStore) -> None:
        """Watch, until cancelled; tell afterwards what was wrong: before, no alert can be kept."""
        while True:
            was, since_s = self.problem, self._since_s
            await self.look()
            if was is not None and self.problem is None:
                lasted_s = int(asyncio.get_running_loop().time() - since_s)
                await _tell(notices, was, lasted_s)
            await asyncio.sleep(self._pace.pause_s)

    async def look(self) -> Problem | None:
        """Try the disk once, however long that takes; return what is wrong with it."""
        loop = asyncio.get_running_loop()
        self._asked_s = loop.time()
        trying = loop.run_in_executor(None, _try_all, tuple(self._folders))
        try:
            done, _ = await asyncio.wait({trying}, timeout=self._pace.silent_s)
            if not done:
                self._find((DISK_SILENT, f"no answer in {self._pace.silent_s:.0f} s"))
                await asyncio.wait({trying})
        finally:
            self._asked_s = None
        error = trying.result()
        self._find(None if error is None else (DISK_REFUSES, str(error)))
        return self.problem

    def _find(self, problem: Problem | None) -> None:
        before, self.problem = self.problem, problem
        if problem == before:
            return
        if before is None:
            self._since_s = asyncio.get_running_loop().time()
        if problem is None:
            _log.warning("the dock's disk is well again", was=before)
        else:
            _log.error("the dock's disk", code=problem[0], problem=problem[1])
        self._show(problem)
        if problem is None:
            self.mended.beat()


def _try_all(folders: Collection[Path]) -> OSError | None:
    """Write to each folder, and return what the disk says; that it is full is not our business."""
    for folder in folders:
        try:
            _try(folder)
        except OSError as error:
            if not is_full(error):
                return error
    return None


def _try(folder: Path) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(folder / _NAME, flags, 0o600)
    try:
        os.pwrite(fd, _BLOCK, 0)
        durable.sync_file(fd)
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)


async def _tell(notices: NoticeStore, problem: Problem, lasted_s: int) -> None:
    code, text = problem
    notice = Notice(code=code, text=f"for {lasted_s} s: {text}", facts={"seconds": str(lasted_s)})
    await notices.raise_alert(notice)
