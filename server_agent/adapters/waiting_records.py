"""The catalogue's side of manifests that wait for those before them."""

from sqlalchemy.ext.asyncio import AsyncConnection

from protocol.identifiers import DockId
from server_agent.catalogue import waiting_queries


async def load_next_waiting(
    connection: AsyncConnection, dock: DockId, *, max_bytes: int
) -> list[bytes]:
    """Return the envelopes that follow a dock's chain without a gap, in order.

    Args:
        connection: Of the catalogue.
        dock: Whose.
        max_bytes: Of all of them together; one is returned however big it is.
    """
    rows = (await connection.execute(waiting_queries.waiting_sizes(dock))).all()
    first = last = (rows[0].head_sequence or 0) + 1 if rows else 0
    total_bytes = 0
    for row in rows:
        total_bytes += row.size_bytes
        if row.sequence != last or (last > first and total_bytes > max_bytes):
            break
        last += 1
    if last == first:
        return []
    found = await connection.execute(waiting_queries.waiting_between(dock, first, last - 1))
    return list(found.scalars().all())


async def load_waiting_bytes(connection: AsyncConnection, dock: DockId) -> int:
    """Return how many bytes of a dock's manifests wait."""
    rows = (await connection.execute(waiting_queries.waiting_sizes(dock))).all()
    return sum(row.size_bytes for row in rows)
