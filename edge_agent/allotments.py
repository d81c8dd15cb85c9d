"""Room on our disk that was given to dockings under way, so that no two count on the same."""

import asyncio

from edge_agent.ingest.room import Room
from edge_agent.staging.slot import Staging
from protocol.identifiers import DockingId


class Allotments:
    """What each docking was given and has not filled yet; everything happens in one event loop.

    Attributes:
        planning: Held from looking for room until some of it was given.
        kept_for_marked_bytes: For marked recordings, above what staging keeps free in any case.
    """

    def __init__(self, *, kept_for_marked_bytes: int = 0) -> None:
        """Give nothing to anybody yet."""
        self.planning = asyncio.Lock()
        self.kept_for_marked_bytes = kept_for_marked_bytes
        self._given: dict[DockingId, int] = {}

    async def room(self, staging: Staging, *, but: DockingId | None = None) -> Room:
        """Return what is free and was given to nobody, *but* one docking not counted.

        Raises:
            OSError: Our disk failed.
        """
        # First what was given: what is filled while the disk is asked counts twice for a moment,
        # which keeps somebody waiting, and not nowhere, which has him run out of room.
        given = sum(size for docking, size in self._given.items() if docking != but)
        free_bytes, free_files = await asyncio.to_thread(
            lambda: (staging.free_bytes(), staging.free_files())
        )
        return Room(
            free_bytes=max(0, free_bytes - given),
            free_files=free_files,
            kept_for_marked_bytes=self.kept_for_marked_bytes,
        )

    def give(self, docking: DockingId, size_bytes: int) -> None:
        """Note how much a docking is going to write; it replaces what it was given before."""
        self._given[docking] = size_bytes

    def fill(self, docking: DockingId, size_bytes: int) -> None:
        """Note that a docking has done with a part of it: the disk counts that itself."""
        self._given[docking] = max(0, self._given.get(docking, 0) - size_bytes)

    def end(self, docking: DockingId) -> None:
        """Take back what a docking did not fill."""
        self._given.pop(docking, None)
