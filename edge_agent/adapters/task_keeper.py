"""Keeping one part of the agent from taking the others down."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from edge_agent.adapters.disk_word import DISK_FULL, disk_failure, is_full
from edge_agent.adapters.notice_store import Notice, NoticeStore

# A part of the agent failed in a way that nobody foresaw: our bug.
PART_FAILED: Final = "E-APP-701"

_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0

# The same failure is told again after this time.
_QUIET_S: Final = 3600.0
_MOST_TOLD: Final = 100

_log = structlog.get_logger(__name__)


async def keep_running(
    name: str,
    run: Callable[[], Awaitable[None]],
    notices: NoticeStore,
    *,
    give_up_ballast: Callable[[], None] = lambda: None,
    first_pause_s: float = _FIRST_PAUSE_S,
) -> None:
    """Run a part of the agent again when it fails, until cancelled: recorders are read meanwhile.

    A full disk stops no part for good: each makes room for the others, or waits for it.

    Args:
        name: For the log and the alert; each different failure raises one, once an hour.
        run: The part; it never returns.
        notices: Where the alert goes.
        give_up_ballast: Blocking; called when the disk is full.
        first_pause_s: Before the second start; then twice as long each time, up to a minute.

    Raises:
        OSError, sqlite3.Error: From the part: the dock's own disk or journal failed.
    """
    loop = asyncio.get_running_loop()
    pause_s = first_pause_s
    told_s: dict[str, float] = {}
    while True:
        started_s = loop.time()
        try:
            return await run()
        except Exception as error:
            fatal = disk_failure(error)
            if fatal is not None and not is_full(fatal):
                raise fatal from error
            _log.exception("a part of the agent failed", part=name)
            if fatal is not None:
                await asyncio.to_thread(give_up_ballast)
            if _is_news(repr(error), told_s, now_s=loop.time()):
                await _tell(name, error, notices)
        if loop.time() - started_s > _LONGEST_PAUSE_S:
            pause_s = first_pause_s
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


async def _tell(name: str, error: Exception, notices: NoticeStore) -> None:
    code, text = PART_FAILED, f"{name} failed and was started again: {error!r}"
    if is_full(error):
        code, text = DISK_FULL, f"the dock's disk is full: {name} failed, and is tried again"
    try:
        await notices.raise_alert(Notice(code=code, text=text, facts={"part": name}))
    except sqlite3.OperationalError as again:
        if not is_full(again):
            raise
        _log.exception("no room for an alert", code=code)


def _is_news(what: str, told_s: dict[str, float], *, now_s: float) -> bool:
    """Return whether *what* was not told within the hour, and note that it is told now."""
    for known in [known for known, at_s in told_s.items() if now_s - at_s >= _QUIET_S]:
        del told_s[known]
    if what in told_s or len(told_s) >= _MOST_TOLD:
        return False
    told_s[what] = now_s
    return True
