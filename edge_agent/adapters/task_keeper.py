"""Keeping one part of the agent from taking the others down."""

import asyncio
import socket
import sqlite3
import ssl
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from edge_agent.adapters.notice_store import Notice, NoticeStore

# A part of the agent failed in a way that nobody foresaw: our bug.
PART_FAILED: Final = "E-APP-701"

_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0

_NETWORK: Final = (ConnectionError, TimeoutError, socket.gaierror, ssl.SSLError)

_log = structlog.get_logger(__name__)


async def keep_running(
    name: str,
    run: Callable[[], Awaitable[None]],
    notices: NoticeStore,
    *,
    first_pause_s: float = _FIRST_PAUSE_S,
) -> None:
    """Run a part of the agent again when it fails, until cancelled: recorders are read meanwhile.

    Args:
        name: For the log and the alert; the first failure raises one.
        run: The part; it never returns.
        notices: Where the alert goes.
        first_pause_s: Before the second start; then twice as long each time, up to a minute.

    Raises:
        OSError, sqlite3.Error: From the part: the dock's own disk or journal failed.
    """
    pause_s, told = first_pause_s, False
    while True:
        try:
            return await run()
        except Exception as error:
            fatal = disk_failure(error)
            if fatal is not None:
                raise fatal from error
            _log.exception("a part of the agent failed", part=name)
            if not told:
                told = True
                text = f"{name} failed and was started again: {error!r}"
                await notices.raise_alert(Notice(code=PART_FAILED, text=text, facts={"part": name}))
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def disk_failure(error: BaseException) -> OSError | sqlite3.Error | None:
    """Return what our own disk or journal said, if that is in *error*; a network is no disk."""
    if isinstance(error, _NETWORK):
        return None
    if isinstance(error, OSError | sqlite3.Error):
        return error
    if isinstance(error, BaseExceptionGroup):
        found = (disk_failure(inner) for inner in error.exceptions)
        return next((one for one in found if one is not None), None)
    return None
