import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import cast

import pytest

from demo.docking import DirectoryDock
from edge_agent.adapters.directory_presence import DirectoryPresence
from edge_agent.adapters.presence import Arrived, Left
from edge_agent.one_thread import OneThread


@pytest.fixture
def recorder(tmp_path: Path) -> Path:
    folder = tmp_path / "recorder"
    folder.mkdir()
    (folder / "a").write_bytes(b"x")
    return folder


Changes = AsyncGenerator[Arrived | Left, None]


def watch(bay: Path, *, poll_s: float = 0.01) -> tuple[DirectoryPresence, Changes]:
    presence = DirectoryPresence(
        bay, OneThread("bay-1"), is_relied_on=lambda: True, poll_s=poll_s, content_s=0
    )
    return presence, cast("Changes", presence.changes())


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[tuple[DirectoryPresence, Changes]]:
    presence, found = watch(tmp_path / "bay")
    yield presence, found
    await found.aclose()


@pytest.fixture
def presence(watched: tuple[DirectoryPresence, Changes]) -> DirectoryPresence:
    return watched[0]


@pytest.fixture
def changes(watched: tuple[DirectoryPresence, Changes]) -> Changes:
    return watched[1]


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
    _, changes = watch(tmp_path / "bay", poll_s=600)
    coming = asyncio.ensure_future(anext(changes))
    await asyncio.wait({coming}, timeout=0.1)

    # The first look may come before or after this; a hint comes after it in any case.
    DirectoryDock().insert(recorder, tmp_path / "bay")

    assert await asyncio.wait_for(coming, timeout=60) == Arrived()
    await changes.aclose()


async def test_without_a_parent_folder_it_looks_again(recorder: Path, tmp_path: Path) -> None:
    """Where nothing can be watched, looking again and again is enough."""
    bay = tmp_path / "later/bay"
    _, changes = watch(bay)
    coming = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0)

    DirectoryDock().insert(recorder, bay)

    assert await asyncio.wait_for(coming, timeout=60) == Arrived()
    await changes.aclose()


def swap(bay: Path, name: str) -> None:
    """Put other content into the very same folder: device and inode stay."""
    shutil.rmtree(bay / "DCIM", ignore_errors=True)
    (bay / "a").unlink(missing_ok=True)
    (bay / name).write_bytes(b"x")


async def test_numbers_that_are_used_again_are_another_recorder(
    changes: Changes, recorder: Path, tmp_path: Path
) -> None:
    """A volume that took over device and inode of the one before is seen as another one."""
    DirectoryDock().insert(recorder, tmp_path / "bay")
    assert await after(changes) == Arrived()

    swap(tmp_path / "bay", "b")

    assert await after(changes) == Left()
    assert await after(changes) == Arrived()


def add(clip: Path) -> None:
    (clip.parent / "2.MP4").write_bytes(b"new")


def lengthen(clip: Path) -> None:
    clip.write_bytes(b"longer")


def touch(clip: Path) -> None:
    os.utime(clip, (1, 1))


@pytest.mark.parametrize("change", [add, lengthen, touch, Path.unlink])
async def test_other_content_is_another_recorder(
    presence: DirectoryPresence,
    changes: Changes,
    recorder: Path,
    tmp_path: Path,
    change: Callable[[Path], object],
) -> None:
    """A file deep in a recorder that was read comes, goes or changes: it has to be read again."""
    clip = tmp_path / "bay/DCIM/100/1.MP4"
    (recorder / "DCIM/100").mkdir(parents=True)
    (recorder / "DCIM/100/1.MP4").write_bytes(b"x")
    DirectoryDock().insert(recorder, tmp_path / "bay")
    assert await after(changes) == Arrived()
    await presence.remember_content()

    change(clip)

    assert await after(changes) == Left()
    assert await after(changes) == Arrived()


async def test_the_same_content_stays(
    presence: DirectoryPresence, changes: Changes, recorder: Path, tmp_path: Path
) -> None:
    """A recorder that nobody touches is one recorder, however often it is listed."""
    DirectoryDock().insert(recorder, tmp_path / "bay")
    assert await after(changes) == Arrived()
    await presence.remember_content()

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.3):
            pytest.fail(f"{await anext(changes)} of a recorder that stands still")
