"""The catalogue's database: durable, one writer, readers that do not wait."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.event import listen, remove
from sqlalchemy.exc import IntegrityError

from server_agent.adapters.catalogue_store import CatalogueStore, open_catalogue
from server_agent.catalogue.tables import docks, groups

TIMEOUT_S = 30.0


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[CatalogueStore]:
    async with open_catalogue(make_url(f"sqlite+aiosqlite:///{tmp_path / 'c'}")) as opened:
        yield opened


async def add_dock(store: CatalogueStore, dock: str) -> None:
    async with store.writing() as connection:
        row = {"dock": dock, "head_sequence": 1, "head_sha256": "ab"}
        await connection.execute(insert(docks), row)


async def docks_of(store: CatalogueStore) -> list[str]:
    async with store.reading() as connection:
        return list((await connection.execute(select(docks.c.dock))).scalars())


@pytest.mark.parametrize("which", ["writing", "reading"])
async def test_connections_are_set_up_for_power_cuts(store: CatalogueStore, which: str) -> None:
    """Every connection syncs each commit, keeps a write-ahead log, and checks foreign keys."""
    async with getattr(store, which)() as connection:
        found = {
            name: (await connection.execute(text(f"PRAGMA {name}"))).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }

    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


async def test_what_is_written_is_read(store: CatalogueStore) -> None:
    """A transaction that ended is seen by whoever reads next."""
    await add_dock(store, "dock-01")

    assert await docks_of(store) == ["dock-01"]


async def test_a_transaction_that_raises_leaves_nothing(store: CatalogueStore) -> None:
    """Either all of a transaction is there, or none of it."""

    async def fail_half_way() -> None:
        async with store.writing() as connection:
            row = {"dock": "dock-01", "head_sequence": 1, "head_sha256": "ab"}
            await connection.execute(insert(docks), row)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_half_way()

    assert await docks_of(store) == []


async def test_readers_do_not_wait_for_the_writer(store: CatalogueStore) -> None:
    """While somebody writes, others see what was committed before."""
    await add_dock(store, "dock-01")
    async with asyncio.timeout(TIMEOUT_S), store.writing() as connection:
        await connection.execute(text("DELETE FROM docks"))

        assert await docks_of(store) == ["dock-01"]


async def test_writers_take_turns(store: CatalogueStore) -> None:
    """Transactions that are asked for at once all happen, one after the other."""
    async with asyncio.TaskGroup() as tasks:
        for number in range(20):
            tasks.create_task(add_dock(store, f"dock-{number}"))

    assert len(await docks_of(store)) == 20


async def test_a_row_without_its_parent_is_refused(store: CatalogueStore) -> None:
    """A group cannot belong to a manifest that is not there."""
    with pytest.raises(IntegrityError):
        async with store.writing() as connection:
            await connection.execute(
                text(
                    "INSERT INTO groups (manifest_id, dock, recorder, recorded_on, marked,"
                    " complete, existing) VALUES ('x', 'd', 'r', '2026-01-01', 0, 1, 0)"
                )
            )

    async with store.reading() as connection:
        assert (await connection.execute(select(groups))).all() == []


async def test_a_catalogue_is_opened_again(tmp_path: Path) -> None:
    """What was written is there after the program has ended and started again."""
    url = make_url(f"sqlite+aiosqlite:///{tmp_path / 'c'}")
    async with open_catalogue(url) as store:
        await add_dock(store, "dock-01")

    async with open_catalogue(url) as store:
        assert await docks_of(store) == ["dock-01"]


async def test_a_first_start_that_is_cut_short_leaves_nothing(tmp_path: Path) -> None:
    """Either all tables are made or none: the next start finds nothing half done."""
    url = make_url(f"sqlite+aiosqlite:///{tmp_path / 'c'}")

    def cut_short(*event: Any) -> None:
        if "CREATE TABLE files" in event[2]:
            raise KeyboardInterrupt

    listen(Engine, "before_cursor_execute", cut_short)
    try:
        with pytest.raises(KeyboardInterrupt):
            async with open_catalogue(url):
                pass
    finally:
        remove(Engine, "before_cursor_execute", cut_short)

    async with open_catalogue(url) as store:
        await add_dock(store, "dock-01")
