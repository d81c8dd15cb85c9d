"""The live page's state in this process: who changes it, and who waits for changes."""

import asyncio
import contextlib
from collections.abc import Callable

from server_agent.console.live import LiveModel
from server_agent.console.records import SiteFacts


class Board:
    """What is known now. Belongs to one event loop.

    Attributes:
        model: What the docks have said.
        facts: What the catalogue says beside it.
        version: Grows with every change.
        closed: The console stops: nobody is to wait any longer.
    """

    def __init__(self) -> None:
        self.model = LiveModel()
        self.facts = SiteFacts()
        self.version = 0
        self.closed = False
        self._change = asyncio.Event()

    def update_model(self, change: Callable[[LiveModel], LiveModel]) -> None:
        """Replace the model by what *change* makes of it."""
        after = change(self.model)
        if after is not self.model:
            self.model = after
            self._changed()

    def update_facts(self, facts: SiteFacts) -> None:
        """Replace the catalogue's facts."""
        self.facts = facts
        self._changed()

    def close(self) -> None:
        """Let all who wait go."""
        self.closed = True
        self._changed()

    async def wait_beyond(self, version: int, *, timeout_s: float) -> None:
        """Return when the version is beyond *version*, the board is closed, or time is up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.version <= version and not self.closed:
                    await self._change.wait()

    def _changed(self) -> None:
        self.version += 1
        self._change.set()
        self._change = asyncio.Event()
