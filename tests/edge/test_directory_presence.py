import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from demo.docking import DirectoryDock
from edge_agent.adapters.directory_presence import Arrived, DirectoryPresence, Left


@pytest.fixture
def recorder(tmp_path: Path) -> Path:
    folder = tmp_path / "recorder"
    folder.mkdir()
    (folder / "a").write_bytes(b"x")
    return folder


Changes = AsyncGenerator[Arrived | Left, None]


def watch(bay: Path, *, poll_s: float = 0.01) -> Changes:
    return cast("Changes", DirectoryPresence(bay, poll_s=poll_s).changes())


@pytest.fixture
async def changes(tmp_path: Path) -> AsyncIterator[Changes]:
    found = watch(tmp_path / "bay")
    yield found
    await found.aclose()


async def after(changes: Changes) -> Arrived | Left:
    return await asyncio.wait_for(anext(changes), timeout=60)


async def test_a_recorder_comes_and_goes(changes: Changes, recorder: Path, tmp_path: Path) -> None:
    """Each insertion is an arrival, each pull a leaving, any number of times."""
    for _ in range(3):
        DirectoryDock().insert(recorder, tmp_path / "bay")
        assert await after(changes) == Arrived()
        DirectoryDock().pull(tmp_path / "bay")
        assert await after(changes) == Left()


async def test_a_recorder_that_was_there_before(
    changes: Changes, recorder: Path, tmp_path: Path
) -> None:
    """What is docked when the agent starts arrives."""
    DirectoryDock().insert(recorder, tmp_path / "bay")

    assert await after(changes) == Arrived()


async def test_an_empty_folder_is_an_empty_bay(changes: Changes, tmp_path: Path) -> None:
    """A mount point with nothing mounted is no recorder; its first file is."""
    bay = tmp_path / "bay"
    bay.mkdir()
    coming = asyncio.ensure_future(anext(changes))
    done, _ = await asyncio.wait({coming}, timeout=0.1)
    assert not done

    (bay / "a").write_bytes(b"x")

    assert await asyncio.wait_for(coming, timeout=60) == Arrived()


async def test_a_swapped_recorder_left_and_arrived(
    changes: Changes, recorder: Path, tmp_path: Path
) -> None:
    """Another folder under the same name is another recorder."""
    bay = tmp_path / "bay"
    DirectoryDock().insert(recorder, bay)
    assert await after(changes) == Arrived()

    bay.rename(tmp_path / "away")
    DirectoryDock().insert(recorder, bay)

    assert await after(changes) == Left()
    assert await after(changes) == Arrived()


async def test_a_change_beside_the_bay_is_a_hint(recorder: Path, tmp_path: Path) -> None:
    """With hints, an arrival is seen long before the folder would be looked at again."""
    changes = watch(tmp_path / "bay", poll_s=600)
    coming = asyncio.ensure_future(anext(changes))
    await asyncio.wait({coming}, timeout=0.1)

    # The first look may come before or after this; a hint comes after it in any case.
    DirectoryDock().insert(recorder, tmp_path / "bay")

    assert await asyncio.wait_for(coming, timeout=60) == Arrived()
    await changes.aclose()


async def test_without_a_parent_folder_it_looks_again(recorder: Path, tmp_path: Path) -> None:
    """Where nothing can be watched, looking again and again is enough."""
    bay = tmp_path / "later/bay"
    changes = watch(bay)
    coming = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0)

    DirectoryDock().insert(recorder, bay)

    assert await asyncio.wait_for(coming, timeout=60) == Arrived()
    await changes.aclose()
