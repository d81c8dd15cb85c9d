"""Being alive while the dock's own disk is not: the watchdog's word, and the wait for a disk."""

import asyncio
import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from edge_agent.adapters.bay_board import BayBoard
from edge_agent.adapters.bay_face import BayFace, empty_bay
from edge_agent.adapters.control_socket import Snapshot, serve_control
from edge_agent.adapters.disk_watch import DiskWatch, Problem
from edge_agent.adapters.vitals import Vitals
from edge_agent.config import EdgeConfig
from protocol.identifiers import DockId, parse_dock
from runtime.service import keep_watchdog, notify

# A disk that stalls is waited for: kernels ask it again for minutes before they give up. When it
# has said nothing for so long, only a new start may help.
_LONGEST_SILENCE_S: Final = 600.0
_THREADS_PAUSE_S: Final = 10.0
_DISK_PAUSE_S: Final = 5.0

_log = structlog.get_logger(__name__)


def utc_now() -> datetime:
    """Return the time, aware."""
    return datetime.now(UTC)


def empty_board(config: EdgeConfig, dock: DockId) -> BayBoard:
    """Return what a dock shows with nothing in its bays."""
    return BayBoard(empty_bay(dock, bay.number, utc_now) for bay in config.bays)


async def wait_for_disk(config: EdgeConfig, stop: asyncio.Event) -> bool:
    """Say why nothing is done, and return when the disk takes something again, or at the stop.

    Returns:
        Whether there was anything to wait for: False if the disk is well, so the fault is not its.
    """
    folders = [config.storage.journal.parent]
    dock = parse_dock(config.dock)
    board = empty_board(config, dock)
    faces = [BayFace(dock, bay.number, board, utc_now) for bay in config.bays]
    vitals = Vitals(dock=dock, bays=len(config.bays), clock=utc_now, free_bytes=lambda: 0)

    def show(problem: Problem | None) -> None:
        for face in faces if problem else ():
            face.show_problem(problem)

    watch = DiskWatch(folders, show=show)

    async def snapshot() -> Snapshot:
        problem = ": ".join(watch.problem or ())
        return Snapshot(dock=vitals.will(), bays=board.bays(), problem=problem or None)

    # A disk that hangs holds up nothing but the look at it: who asks is answered, and the stop
    # that is asked for comes.
    async with serve_control(config.control.socket, board=board, snapshot=snapshot):
        keeping = asyncio.create_task(stay_alive(stop, watch), name="watchdog")
        looking = asyncio.create_task(_look_until_well(config, watch, folders), name="disk")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        notify("READY=1")
        try:
            await asyncio.wait({looking, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return not looking.done() or looking.result()
        finally:
            for task in (keeping, looking, stopping):
                task.cancel()
            await asyncio.wait({keeping, looking, stopping})


async def _look_until_well(config: EdgeConfig, watch: DiskWatch, folders: list[Path]) -> bool:
    """Return once each folder that there is takes something: whether one did not at first."""
    was_ill = False
    while True:
        while await watch.look() is not None:
            was_ill = True
            await asyncio.sleep(_DISK_PAUSE_S)
        staging = config.storage.staging
        if staging in folders or await asyncio.to_thread(_is_missing, staging):
            return was_ill
        folders.append(staging)


def _is_missing(folder: Path) -> bool:
    """Whether it was not made yet; what cannot be told is for the look at its disk to tell."""
    try:
        folder.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


async def stay_alive(stop: asyncio.Event, watch: DiskWatch) -> None:
    """Be alive as long as disk and threads answer: all our own disk's work is done in them."""
    watchdog = asyncio.create_task(keep_watchdog(stop), name="watchdog pings")
    try:
        while not (stop.is_set() or watchdog.done()):
            if watch.silence_s > _LONGEST_SILENCE_S or not await _threads_answer():
                # systemd starts us again; what was committed is there.
                _log.critical("the dock's own disk does not answer any more")
                return
            await asyncio.wait({watchdog}, timeout=_THREADS_PAUSE_S)
    finally:
        watchdog.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watchdog


async def _threads_answer() -> bool:
    try:
        async with asyncio.timeout(_LONGEST_SILENCE_S):
            await asyncio.to_thread(int)
    except TimeoutError:
        return False
    return True
