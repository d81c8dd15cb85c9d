import asyncio
import errno
import threading
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest

from edge_agent.adapters import disk_watch
from edge_agent.adapters.disk_watch import DISK_SILENT, DiskWatch, Problem, WatchPace
from edge_agent.adapters.journal import Journal
from edge_agent.adapters.notice_store import NoticeStore
from edge_agent.ports import DISK_REFUSES
from tests.simulators.sealed_manifests import DOCK, NOW


@pytest.fixture
async def notices(tmp_path: Path) -> AsyncIterator[NoticeStore]:
    async with Journal.open(tmp_path / "journal.sqlite") as journal:
        yield NoticeStore(journal, dock=DOCK, clock=lambda: NOW)


class Disk:
    """Answers as it is told to; asked from threads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error: int | None = None
        self.answers = threading.Event()
        self.answers.set()
        monkeypatch.setattr(disk_watch, "_try", self._try)

    def _try(self, _folder: Path) -> None:
        self.answers.wait()
        if self.error is not None:
            raise OSError(self.error, "our disk")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


class Shown:
    """What was shown, and a wait for it."""

    def __init__(self) -> None:
        self.problems: list[Problem | None] = []
        self._news = asyncio.Event()

    def show(self, problem: Problem | None) -> None:
        self.problems.append(problem)
        self._news.set()

    async def until(self, count: int) -> list[str | None]:
        while len(self.problems) < count:
            self._news.clear()
            await self._news.wait()
        return [problem and problem[0] for problem in self.problems]


def sizes(folder: Path) -> list[int]:
    return [path.stat().st_size for path in folder.iterdir()]


def watching(shown: Shown, folders: Collection[Path] = (Path("any"),)) -> DiskWatch:
    pace = WatchPace(pause_s=0, silent_s=0.01)
    return DiskWatch(folders, show=shown.show, pace=pace)


async def test_a_disk_that_takes_bytes_is_well(tmp_path: Path) -> None:
    """Nothing is shown, and one small file is all that stays."""
    shown = Shown()
    watch = watching(shown, [tmp_path])

    await watch.look()
    await watch.look()

    assert watch.problem is None
    assert not shown.problems
    assert sizes(tmp_path) == [4096]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EIO])
async def test_a_disk_that_refuses_is_shown_until_it_is_mended(disk: Disk, number: int) -> None:
    """It is told once, and who waits for a mended disk is woken once."""
    shown = Shown()
    watch = watching(shown)
    disk.error = number
    await watch.look()
    await watch.look()
    beats = watch.mended.beats
    disk.error = None
    await watch.look()

    assert await shown.until(2) == [DISK_REFUSES, None]
    assert (beats, watch.mended.beats) == (0, 1)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
async def test_a_full_disk_is_no_broken_one(disk: Disk, number: int) -> None:
    """That there is no room is found, and said, by whoever needs some."""
    disk.error = number
    shown = Shown()

    await watching(shown).look()

    assert not shown.problems


async def test_a_silent_disk_is_shown_while_it_is_silent(disk: Disk) -> None:
    """It is asked once, not again and again: each question would hold up a thread."""
    shown = Shown()
    watch = watching(shown)
    disk.answers.clear()
    looking = asyncio.create_task(watch.look())
    silent = await shown.until(1)
    silence_s = watch.silence_s
    disk.answers.set()
    await looking

    assert silent == [DISK_SILENT]
    assert silence_s > 0
    assert await shown.until(2) == [DISK_SILENT, None]
    assert watch.silence_s == 0


async def test_what_was_wrong_is_told_when_it_is_over(disk: Disk, notices: NoticeStore) -> None:
    """Before that the journal takes no alert: it is on the same disk."""
    shown = Shown()
    watch = watching(shown)
    disk.error = errno.EROFS
    running = asyncio.create_task(watch.run(notices))
    await shown.until(1)
    disk.error = None
    await shown.until(2)
    while not (alerts := await notices.undelivered_alerts()):
        pass
    running.cancel()
    await asyncio.wait({running})

    assert [alert.code for alert in alerts] == [DISK_REFUSES]
