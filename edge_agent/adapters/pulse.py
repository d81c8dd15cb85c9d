"""Waking whoever waits for a change, without losing one that happens in between."""

import asyncio


class Pulse:
    """Counts beats; everything happens in one event loop."""

    def __init__(self) -> None:
        self.beats = 0
        self._next = asyncio.Event()

    def beat(self) -> None:
        """Wake everybody who waits."""
        self.beats += 1
        self._next.set()
        self._next = asyncio.Event()

    async def beyond(self, beats: int) -> int:
        """Return the number of beats as soon as it is higher than *beats*."""
        while self.beats <= beats:
            await self._next.wait()
        return self.beats
