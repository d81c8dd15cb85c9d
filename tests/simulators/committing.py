"""Commit rows to the journal, or to the catalogue; as a program, until the disk fails.

``python -m tests.simulators.committing journal|catalogue FILE NUMBER...`` ends, at the first
failure or when all is committed, as if it were killed: nothing is closed.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Final

from sqlalchemy.engine import make_url

from edge_agent.adapters.journal import Journal
from server_agent.adapters.catalogue_store import open_catalogue

_TABLE: Final = "CREATE TABLE IF NOT EXISTS probe (number INTEGER)"
_ROW: Final = "INSERT INTO probe VALUES (?)"
_ROWS: Final = "SELECT number FROM probe ORDER BY number"


End = Callable[[bool], None]


def _close(succeeded: bool) -> None:  # noqa: FBT001 - a callback
    """End in order."""


@contextlib.asynccontextmanager
async def _ending(at_end: End) -> AsyncIterator[None]:
    try:
        yield
    except BaseException:
        at_end(False)  # noqa: FBT003 - likewise
        raise
    at_end(True)  # noqa: FBT003 - likewise


async def commit_to_journal(
    path: Path, numbers: Iterable[int] = (), *, at_end: End = _close
) -> list[int]:
    """Commit each number by itself, and return all that there are.

    *at_end* is called, with whether nothing failed, before the journal is closed.
    """
    async with Journal.open(path) as journal, _ending(at_end):
        for number in numbers:
            async with journal.transaction() as connection:
                await connection.execute(_TABLE)
                await connection.execute(_ROW, (number,))
        async with journal.transaction() as connection:
            rows = await connection.execute_fetchall(_ROWS)
    return [number for (number,) in rows]


async def commit_to_catalogue(
    path: Path, numbers: Iterable[int] = (), *, at_end: End = _close
) -> list[int]:
    """Likewise."""
    url = make_url(f"sqlite+aiosqlite:///{path}")
    async with open_catalogue(url) as store, _ending(at_end):
        for number in numbers:
            async with store.writing() as connection:
                await connection.exec_driver_sql(_TABLE)
                await connection.exec_driver_sql(_ROW, (number,))
        async with store.reading() as connection:
            rows = (await connection.exec_driver_sql(_ROWS)).scalars().all()
    return [*rows]


COMMIT: Final = {"journal": commit_to_journal, "catalogue": commit_to_catalogue}


def _exit(succeeded: bool) -> None:  # noqa: FBT001 - a callback
    os._exit(0 if succeeded else 1)


if __name__ == "__main__":
    asyncio.run(COMMIT[sys.argv[1]](Path(sys.argv[2]), map(int, sys.argv[3:]), at_end=_exit))
