"""The catalogue's side of the custody log: entries in order, and what was signed last."""

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import chain, islice
from typing import Final

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from protocol.custody import ReceiptIssued, parse_entry
from protocol.errors import ProtocolError
from protocol.identifiers import ReceiptId
from server_agent.catalogue.tables import custody_checkpoint, custody_entries
from server_agent.errors import LogChangedError
from server_agent.ledger.custody import Logged

_ONLY_ROW: Final = 1
_TOGETHER: Final = 4_096


async def append_entries(connection: AsyncConnection, entries: Sequence[Logged]) -> None:
    """Add entries at the end of the log, in the transaction that is under way.

    One transaction writes at a time: no number is given twice, and none is left out.
    """
    if not entries:
        return
    first = await count_entries(connection)
    rows = [
        {
            "entry_index": index,
            "entry": one.entry,
            "salt": one.salt,
            "personal": one.personal,
            "receipt_id": one.receipt_id,
        }
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


async def load_receipt_entries(
    connection: AsyncConnection, ids: Collection[ReceiptId]
) -> dict[ReceiptId, tuple[int, bytes]]:
    """Return number and bytes of the entries of receipts; those that have none are left out."""
    columns = custody_entries.c
    query = select(columns.receipt_id, columns.entry_index, columns.entry)
    rows = await connection.execute(query.where(columns.receipt_id.in_(ids)))
    return {ReceiptId(row.receipt_id): (row.entry_index, row.entry) for row in rows}


def receipt_id_in(entry: bytes) -> ReceiptId | None:
    """Return whose receipt an entry is about; None if it is about something else."""
    try:
        found = parse_entry(entry)
    except ProtocolError:
        return None  # a later release's
    return found.receipt_id if isinstance(found, ReceiptIssued) else None


async def take_back_entries(
    connection: AsyncConnection,
    entries: Callable[[int], Iterator[bytes]],
    size: int,
    *,
    known: int,
) -> int:
    """Make the catalogue's entries begin with the log's, and return how many it lacked.

    What it has of its own comes behind them; what is taken back has no salt and no plain text.

    Args:
        connection: Writing.
        entries: Yields the log's entries from a number on.
        size: How many the log has.
        known: So many of the catalogue's were signed.

    Raises:
        LogChangedError: One of these is another one in the log.
    """
    index = custody_entries.c.entry_index
    query = select(custody_entries).order_by(index)
    rows = (await connection.execute(query)).mappings().all()
    common = 0
    for logged, row in zip(entries(0), rows, strict=False):
        if (row["entry_index"], row["entry"]) != (common, logged):
            break
        common += 1
    if common < min(known, len(rows)):
        raise LogChangedError(f"entry {common} of the catalogue is not what was logged")
    await connection.execute(delete(custody_entries).where(index >= common))
    lacking = (
        {
            "entry_index": number,
            "entry": entry,
            "salt": None,
            "personal": None,
            "receipt_id": receipt_id_in(entry),
        }
        for number, entry in enumerate(entries(common), start=common)
    )
    own = ({**row, "entry_index": number} for number, row in enumerate(rows[common:], start=size))
    both = chain(lacking, own)
    while batch := list(islice(both, _TOGETHER)):
        await connection.execute(insert(custody_entries), batch)
    return size - common


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
