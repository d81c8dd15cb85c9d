"""The catalogue's side of the custody log: entries in order, and what was signed last."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from server_agent.catalogue.tables import custody_checkpoint, custody_entries
from server_agent.ledger.custody import Logged

_ONLY_ROW: Final = 1


async def append_entries(connection: AsyncConnection, entries: Sequence[Logged]) -> None:
    """Add entries at the end of the log, in the transaction that is under way.

    One transaction writes at a time: no number is given twice, and none is left out.
    """
    if not entries:
        return
    first = await count_entries(connection)
    rows = [
        {"entry_index": index, "entry": one.entry, "salt": one.salt, "personal": one.personal}
        for index, one in enumerate(entries, start=first)
    ]
    await connection.execute(insert(custody_entries), rows)


async def count_entries(connection: AsyncConnection) -> int:
    """Return how many entries there are."""
    last = (await connection.execute(select(func.max(custody_entries.c.entry_index)))).scalar()
    return 0 if last is None else last + 1


async def load_entries(connection: AsyncConnection, *, first: int, limit: int) -> list[bytes]:
    """Return entries from *first* on, in order, up to one that is not there."""
    index = custody_entries.c.entry_index
    query = select(index, custody_entries.c.entry).where(index >= first)
    rows = (await connection.execute(query.order_by(index).limit(limit))).all()
    return [row.entry for at, row in enumerate(rows, start=first) if row.entry_index == at]


async def load_signed(connection: AsyncConnection) -> bytes | None:
    """Return the checkpoint that was signed last."""
    note: bytes | None = (
        await connection.execute(select(custody_checkpoint.c.note))
    ).scalar_one_or_none()
    return note


async def record_signed(connection: AsyncConnection, note: bytes) -> None:
    """Keep the checkpoint that is signed now."""
    row = {"checkpoint_id": _ONLY_ROW, "note": note}
    changed = await connection.execute(update(custody_checkpoint).values(row))
    if changed.rowcount == 0:
        await connection.execute(insert(custody_checkpoint), row)
