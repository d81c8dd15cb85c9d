"""The catalogue's side of the custody log: entries in order, and what was signed last."""

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice, takewhile
from typing import Final

from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from protocol.custody import ReceiptIssued, parse_entry
from protocol.errors import ProtocolError
from protocol.identifiers import ReceiptId
from server_agent.adapters.upload_slots import in_thread
from server_agent.catalogue.tables import custody_checkpoint, custody_entries
from server_agent.errors import LogChangedError
from server_agent.ledger.custody import Logged

_ONLY_ROW: Final = 1
# Some MiB at most, however many there are.
_TOGETHER: Final = 256


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
    common = await _count_common(connection, entries(0))
    count = (await connection.execute(select(func.count()).select_from(custody_entries))).scalar()
    if common < min(known, count or 0):
        raise LogChangedError(f"entry {common} of the catalogue is not what was logged")
    # Below zero for a moment, where no number is taken.
    aside = update(custody_entries).where(index >= common).values(entry_index=-1 - index)
    await connection.execute(aside)
    lacking, number = entries(common), common
    while batch := await _next_of(lacking):
        rows = [
            {
                "entry_index": at,
                "entry": entry,
                "salt": None,
                "personal": None,
                "receipt_id": receipt_id_in(entry),
            }
            for at, entry in enumerate(batch, start=number)
        ]
        await connection.execute(insert(custody_entries), rows)
        number += len(batch)
    await _put_behind(connection, size)
    return size - common


async def _count_common(connection: AsyncConnection, logged: Iterator[bytes]) -> int:
    """Return with how many of the log's entries the catalogue's begin."""
    common = 0
    while batch := await _next_of(logged):
        own = await load_entries(connection, first=common, limit=len(batch))
        pairs = zip(batch, own, strict=False)  # the catalogue may have fewer
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        common += same
        if same < len(batch):
            break
    return common


async def _put_behind(connection: AsyncConnection, size: int) -> None:
    """Number those entries from *size* on that were put aside, in their order."""
    index = custody_entries.c.entry_index
    query = select(index).where(index < 0).order_by(index.desc()).limit(_TOGETHER)
    renumber = update(custody_entries).where(index == bindparam("old"))
    renumber = renumber.values(entry_index=bindparam("new"))
    number = size
    while asides := (await connection.execute(query)).scalars().all():
        rows = [{"old": old, "new": new} for new, old in enumerate(asides, start=number)]
        await connection.execute(renumber, rows)
        number += len(rows)


async def _next_of(entries: Iterator[bytes]) -> list[bytes]:
    """Return the next entries of a log, which are read from its files; none at the end."""
    return await in_thread(lambda: list(islice(entries, _TOGETHER)))


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
