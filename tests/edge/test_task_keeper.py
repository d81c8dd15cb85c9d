import asyncio
import errno
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge_agent.adapters.disk_word import DISK_FULL, disk_failure
from edge_agent.adapters.journal import Journal
from edge_agent.adapters.notice_store import NoticeStore, plain_text
from edge_agent.adapters.task_keeper import PART_FAILED, keep_running
from tests.simulators.full_database import full_database
from tests.simulators.sealed_manifests import DOCK, NOW


@pytest.fixture
async def notices(tmp_path: Path) -> AsyncIterator[NoticeStore]:
    async with Journal.open(tmp_path / "journal.sqlite") as journal:
        yield NoticeStore(journal, dock=DOCK, clock=lambda: NOW)


class Part:
    """Fails as often as it is told to, then works until cancelled."""

    def __init__(self, *failures: BaseException) -> None:
        self.failures = list(failures)
        self.working = asyncio.Event()

    async def run(self) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.working.set()
        await asyncio.Event().wait()


async def test_a_part_that_fails_is_started_again(notices: NoticeStore) -> None:
    """Whatever it fails with, a part runs again, and a person hears of it once an hour."""
    part = Part(*[ValueError("one")] * 3, ConnectionError("one"), ValueError("one"))
    running = asyncio.create_task(keep_running("uplink", part.run, notices, first_pause_s=0))
    await part.working.wait()
    running.cancel()
    await asyncio.wait({running})

    alerts = await notices.undelivered_alerts()
    assert [alert.code for alert in alerts] == [PART_FAILED] * 2
    assert {alert.text.partition(": ")[2] for alert in alerts} == {
        "ValueError('one')",
        "ConnectionError('one')",
    }
    assert alerts[0].facts == {"part": "uplink"}


@pytest.mark.parametrize(
    "failure",
    [
        OSError(5, "our disk"),
        sqlite3.OperationalError("disk full"),
        ExceptionGroup("tasks", [ValueError(), ExceptionGroup("more", [OSError(5, "our disk")])]),
    ],
)
async def test_a_failing_disk_stops_the_agent(notices: NoticeStore, failure: Exception) -> None:
    """Our own disk's failure is never waited out, however deep in a group it is."""
    part = Part(failure)

    with pytest.raises((OSError, sqlite3.Error)):
        await keep_running("uplink", part.run, notices)

    assert not await notices.undelivered_alerts()


@pytest.mark.parametrize(
    "bug",
    [sqlite3.IntegrityError("twice"), sqlite3.ProgrammingError("?"), sqlite3.InterfaceError("?")],
)
async def test_our_own_bugs_are_no_disk_failure(notices: NoticeStore, bug: Exception) -> None:
    """What the journal says about a statement of ours stops one part, not the agent."""
    part = Part(bug, ExceptionGroup("tasks", [bug]))
    running = asyncio.create_task(keep_running("bay 1", part.run, notices, first_pause_s=0))
    await part.working.wait()
    running.cancel()
    await asyncio.wait({running})

    assert disk_failure(bug) is None


async def test_a_full_disk_stops_no_part_for_good(notices: NoticeStore) -> None:
    """The ballast goes, and the part runs again: what it does may make room."""
    given_up: list[bool] = []
    part = Part(OSError(errno.ENOSPC, "full"), ExceptionGroup("tasks", [full_database()]))
    running = asyncio.create_task(
        keep_running(
            "freeing",
            part.run,
            notices,
            give_up_ballast=lambda: given_up.append(True),
            first_pause_s=0,
        )
    )
    await part.working.wait()
    running.cancel()
    await asyncio.wait({running})

    assert given_up == [True, True]
    assert {alert.code for alert in await notices.undelivered_alerts()} == {DISK_FULL}


@pytest.mark.parametrize(
    ("text", "plain"),
    [("a\0b", "a\\x00b"), ("\udcff", "\\udcff"), ("x" * 9, "xxxxx"), ("回执", "回执")],
)
def test_texts_are_made_plain(text: str, plain: str) -> None:
    """What no JSON reader or database takes is shown by its escape, and nothing is too long."""
    assert plain_text(text, 7)[: len(plain)] == plain
    assert len(plain_text(text, 5)) <= 5
