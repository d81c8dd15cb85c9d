"""The newest known value of something that may be long in answering: a disk that hangs, for one."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

import structlog

from edge_agent.adapters.disk_word import disk_failure

T = TypeVar("T")

_PATIENCE_S: Final = 2.0

_log = structlog.get_logger(__name__)


class Latest(Generic[T]):
    """Asks once at a time, and gives the last answer while the next one is not there."""

    def __init__(
        self, ask: Callable[[], Awaitable[T]], first: T, *, patience_s: float = _PATIENCE_S
    ) -> None:
        """Begin with *first*; wait so long for each answer."""
        self._ask = ask
        self._value = first
        self._patience_s = patience_s
        self._asking: asyncio.Future[T] | None = None

    async def value(self) -> T:
        """Return the value as it is, or as it was last: so, too, where the disk fails.

        Raises:
            Exception: What else asking raised.
        """
        if self._asking is None:
            self._asking = asyncio.ensure_future(self._ask())
        # Not cancelled: what hangs in a thread hangs on, and asking again would take another one.
        done, _ = await asyncio.wait({self._asking}, timeout=self._patience_s)
        if done:
            answered, self._asking = self._asking, None
            if answered is not None:
                self._note(answered)
        return self._value

    def _note(self, answered: asyncio.Future[T]) -> None:
        try:
            self._value = answered.result()
        except (OSError, sqlite3.Error) as error:
            if disk_failure(error) is None:
                raise
            _log.warning("what was asked last still counts", error=repr(error))
