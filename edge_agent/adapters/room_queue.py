"""The bays that wait for room on the dock's disk: who is next, and when."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Final

from edge_agent.adapters.pulse import Pulse
from edge_agent.ingest.room import Need, Room, Waiting, next_in_turn
from protocol.identifiers import BayNumber

# Room that others made on the disk is noticed after this time.
_LOOK_PAUSE_S: Final = 30.0


class RoomQueue:
    """One queue of a dock; everything happens in one event loop.

    One bay goes on at a time, until it has been given its room: what it takes is not free for the
    next one.

    Attributes:
        freed: Beats when staged copies were removed.
    """

    def __init__(
        self, look: Callable[[], Awaitable[Room]], *, look_pause_s: float = _LOOK_PAUSE_S
    ) -> None:
        """Begin with nobody; *look* says how much room there is."""
        self.freed = Pulse()
        self._look = look
        self._look_pause_s = look_pause_s
        self._moved = Pulse()
        self._numbers = count()
        self._since: dict[BayNumber, int] = {}
        self._waiting: dict[BayNumber, Waiting] = {}
        self._going: BayNumber | None = None

    def room_freed(self) -> None:
        """Wake who waits: copies were removed."""
        self.freed.beat()
        self._moved.beat()

    def must_wait(self, bay: BayNumber) -> bool:
        """Return whether others have waited longer than *bay* for more than marked recordings."""
        return self._going != bay and any(other != bay for other in self._waiting)

    async def turn(self, bay: BayNumber, need: Need) -> None:
        """Wait until there is room for *need*, and nobody is before *bay*.

        Raises:
            OSError: Our disk failed.
        """
        since = self._since.setdefault(bay, next(self._numbers))
        self._waiting[bay] = Waiting(bay=bay, since=since, need=need)
        try:
            while True:
                moves = self._moved.beats
                if await self._is_next(bay):
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._look_pause_s):
                        await self._moved.beyond(moves)
        finally:
            del self._waiting[bay]

    def has_room(self, bay: BayNumber) -> None:
        """Let the next one go on: *bay* was given what it gets this time."""
        if self._going == bay:
            self._going = None
            self._moved.beat()

    def leave(self, bay: BayNumber) -> None:
        """Forget a bay: it waits for nothing any more."""
        self._since.pop(bay, None)
        self.has_room(bay)

    async def _is_next(self, bay: BayNumber) -> bool:
        room = await self._look()
        chosen = next_in_turn(self._waiting.values(), room)
        if self._going is not None or chosen is None or chosen.bay != bay:
            return False
        self._going = bay
        return True
