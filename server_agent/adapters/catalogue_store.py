"""The catalogue's database: opened, migrated, written by one connection, read by others.

All that is of SQLite alone stands here: how a connection is set up. PostgreSQL needs none of it.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from importlib.resources import as_file, files
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from server_agent.errors import CatalogueNewerError

_SQLITE: Final = "sqlite"
_READERS: Final = 4
_BUSY_TIMEOUT_MS: Final = 30_000


class CatalogueStore:
    """An open catalogue; from `open_catalogue`.

    One task writes at a time, on one connection: SQLite allows no more, and two connections that
    checkpoint at once have lost data (sqlite.org/wal.html, the WAL-reset bug before 3.51.3).
    """

    def __init__(self, writer: AsyncEngine, reader: AsyncEngine) -> None:
        self._writer = writer
        self._reader = reader
        self._turn = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """One transaction, committed durably when the block ends, undone when it raises.

        Not to be entered again from within the block.
        """
        async with self._turn, self._writer.begin() as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A view of what is committed; it does not wait for whoever writes."""
        async with self._reader.connect() as connection:
            yield connection


@contextlib.asynccontextmanager
async def open_catalogue(url: URL) -> AsyncIterator[CatalogueStore]:
    """Open a catalogue for the length of the block, brought to this release's tables.

    Raises:
        CatalogueNewerError: A newer release has migrated it.
        sqlalchemy.exc.SQLAlchemyError: The database cannot be opened.
    """
    writer = _engine(url, connections=1, begin="BEGIN IMMEDIATE")
    if url.get_backend_name() == _SQLITE:
        event.listen(writer.sync_engine, "connect", _empty_log)
    reader = _engine(url, connections=_READERS, begin="BEGIN")
    try:
        async with writer.begin() as connection:
            await connection.run_sync(migrate)
        yield CatalogueStore(writer, reader)
    finally:
        await reader.dispose()
        await writer.dispose()


def migrate(connection: Connection) -> None:
    """Bring a database to this release's tables, within the transaction that is under way.

    Raises:
        CatalogueNewerError: It has a version that this release has never heard of.
    """
    with as_file(files("server_agent.catalogue") / "migrations") as scripts:
        config = Config(attributes={"connection": connection})
        # Alembic's own interpolation would trip over a "%" in a path.
        config.set_main_option("script_location", str(scripts).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        found = set(MigrationContext.configure(connection).get_current_heads())
        if not found <= known:
            raise CatalogueNewerError(f"version {', '.join(sorted(found - known))}")
        command.upgrade(config, "head")


def _engine(url: URL, *, connections: int, begin: str) -> AsyncEngine:
    engine = create_async_engine(url, pool_size=connections, max_overflow=0)
    if url.get_backend_name() == _SQLITE:
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", lambda one: one.exec_driver_sql(begin))
    return engine


def _prepare_sqlite(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
    del entry
    # Python's driver begins a transaction only before it changes rows: what is read before would
    # not be of it, and creating tables would not be undone. So we begin by ourselves.
    connection.isolation_level = None
    cursor = connection.cursor()
    # FULL: with NORMAL a power cut takes back rows that were committed, and acknowledged.
    for pragma in (
        f"busy_timeout={_BUSY_TIMEOUT_MS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _empty_log(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
    """Bring what the write-ahead log holds into the database itself, durably.

    After a failed sync the log's pages count as clean and may never reach the disk; a program that
    starts then still reads them, and what it commits behind them would be lost with them.
    """
    del entry
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        [(busy, _, _)] = cursor.fetchall()
    except sqlite3.OperationalError as error:
        # A full archive still answers, and lets footage be watched; the next start tries again.
        if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
            raise
    else:
        if busy:
            raise sqlite3.OperationalError("somebody reads the catalogue without end")
    finally:
        cursor.close()
