import os
import sqlite3
from collections.abc import Callable
from errno import EDQUOT, EIO, ENOSPC
from pathlib import Path

import pytest

from edge_agent.adapters.ballast import BALLAST_BYTES, Ballast
from edge_agent.adapters.disk_word import is_full
from tests.simulators.full_database import full_database

Space = Callable[[int], None]


@pytest.fixture
def ballast(tmp_path: Path) -> Ballast:
    return Ballast(tmp_path / "journal.sqlite")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite.ballast"


@pytest.fixture
def leave(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Space:
    """Let the disk have so many free bytes."""
    real = os.statvfs(tmp_path)

    def set_free(free_bytes: int) -> None:
        found = os.statvfs_result((real[0], 1, *real[2:4], free_bytes, *real[5:]))
        monkeypatch.setattr(os, "statvfs", lambda _path: found)

    return set_free


def test_ballast_takes_room_while_there_is_plenty(
    ballast: Ballast, file: Path, leave: Space
) -> None:
    """With plenty of room it is there, and takes its room for real; again is harmless."""
    leave(BALLAST_BYTES * 4)
    ballast.settle()
    ballast.settle()

    assert file.stat().st_blocks * 512 >= BALLAST_BYTES


def test_ballast_is_given_up_when_room_runs_out(ballast: Ballast, file: Path, leave: Space) -> None:
    """Without room beside it the file goes, and comes back only when there is plenty again."""
    leave(BALLAST_BYTES * 4)
    ballast.settle()
    leave(BALLAST_BYTES - 1)
    ballast.settle()
    assert not file.exists()

    leave(BALLAST_BYTES * 4 - 1)
    ballast.settle()
    assert not file.exists()


def test_ballast_can_be_given_up_twice(ballast: Ballast, file: Path) -> None:
    """Whoever hears of the full disk first gives it up; the others find it gone."""
    file.write_bytes(b"")
    ballast.give_up()
    ballast.give_up()

    assert not file.exists()


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (full_database(), True),
        (OSError(ENOSPC, "full"), True),
        (OSError(EDQUOT, "full"), True),
        (ExceptionGroup("tasks", [ExceptionGroup("more", [OSError(ENOSPC, "full")])]), True),
        (OSError(EIO, "broken"), False),
        (sqlite3.OperationalError("database is locked"), False),
        (ValueError(), False),
    ],
)
def test_a_full_disk_is_told_from_a_broken_one(error: Exception, *, full: bool) -> None:
    """Only where room would help is the disk full."""
    assert is_full(error) is full
