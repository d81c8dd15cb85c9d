"""Recorders behind one USB upstream."""

import asyncio
from datetime import timedelta
from pathlib import Path

from edge_agent.adapters.journal import Journal
from edge_agent.ports import OutcomeKind
from tests.simulators.docking_site import MORNING, DockingSite, recording
from tests.simulators.memory_volume import MemoryVolume


class WatchedTurn:
    """A turn that counts how many have it."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self.holders = self.most_holders = self.turns = 0

    async def __aenter__(self) -> None:
        await self._lock.acquire()
        self.turns += 1
        self.holders += 1
        self.most_holders = max(self.most_holders, self.holders)

    async def __aexit__(self, *error: object) -> None:
        self.holders -= 1
        self._lock.release()


async def test_recorders_of_one_upstream_are_read_one_file_after_the_other(
    tmp_path: Path,
) -> None:
    """While one has the turn the other waits; both are read whole."""
    turn = WatchedTurn()
    other = recording(MORNING + timedelta(hours=1), clips=2, serial="0000018")
    async with Journal.open(tmp_path / "journal.sqlite") as journal:
        site = DockingSite(journal=journal, read_turn=turn)

        outcomes = await asyncio.gather(
            site.dock(MemoryVolume(files=recording(clips=2))),
            site.dock(MemoryVolume(files=other), bay=2),
        )

    assert {one.kind for one in outcomes} == {OutcomeKind.SEALED}
    assert (turn.most_holders, turn.turns) == (1, 4)
