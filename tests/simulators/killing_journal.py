"""A journal whose program is killed before or after one of its calls."""

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from edge_agent.adapters.journal import Journal


class KilledError(Exception):
    """The program ends here."""


@dataclass(slots=True)
class KillingJournal:
    """Passes calls on to *journal*; the one with number *kill_at* is the last.

    Attributes:
        after: Whether the last call still has its effect.
        only: Count calls of this name only.
        calls: How many were counted.
    """

    journal: Journal
    kill_at: int
    after: bool = False
    only: str | None = None
    calls: int = 0

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        call = getattr(self.journal, name)

        @functools.wraps(call)
        async def passed_on(*args: object, **kwargs: object) -> object:
            self.calls += self.only in {None, name}
            if self.calls > self.kill_at or (self.calls == self.kill_at and not self.after):
                raise KilledError
            result = await call(*args, **kwargs)
            if self.calls == self.kill_at:
                raise KilledError
            return result

        return passed_on
