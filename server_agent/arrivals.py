"""What has to be looked at, each thing once however often it is named."""

import asyncio


class Arrivals(asyncio.Queue[int]):
    """Numbers in the order in which they were first named; one that waits already stays there."""

    def _init(self, maxsize: int) -> None:
        del maxsize
        self._queue: dict[int, None] = {}

    def _put(self, item: int) -> None:
        self._queue[item] = None

    def _get(self) -> int:
        first = next(iter(self._queue))
        del self._queue[first]
        return first
