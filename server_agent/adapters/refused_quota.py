"""How much of what was refused is kept whole: what a dock may have us keep has an end.

The newest of a topic that has had its share are kept as their first bytes, with digest and size;
after twice that share only how many there were is kept. Nothing is dropped without a count.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from server_agent.catalogue.rows import Row
from server_agent.catalogue.tables import refused_messages

# Of one topic, and there are three of each dock; each row counts as some KiB, however short.
QUOTA_BYTES: Final = 64 * 1024 * 1024
FIRST_BYTES: Final = 4 * 1024
# Stands for all messages of a topic that were refused for one reason and are only counted.
ONLY_COUNTED: Final = "0" * 64


async def apply_quota(connection: AsyncConnection, rows: Sequence[Row]) -> list[Row]:
    """Return which of *rows*, all of them new, to keep, cut where need be; count the others."""
    used: dict[str, int] = {}
    kept: list[Row] = []
    counted: Counter[tuple[str, str]] = Counter()
    samples: dict[tuple[str, str], Row] = {}
    for row in rows:
        topic, code, body = str(row["topic"]), str(row["code"]), _body(row)
        if topic not in used:
            used[topic] = await _used_bytes(connection, topic)
        if used[topic] >= 2 * QUOTA_BYTES:
            counted[topic, code] += int(str(row["times"]))
            samples[topic, code] = row
            continue
        if used[topic] + len(body) > QUOTA_BYTES and len(body) > FIRST_BYTES:
            detail = f"{row['detail']} [{len(body)} bytes, the first {FIRST_BYTES} are kept]"
            row = row | {"body": body[:FIRST_BYTES], "detail": detail}  # noqa: PLW2901 -- what is kept of it
        used[topic] += FIRST_BYTES + len(_body(row))
        kept.append(row)
    for key, times in counted.items():
        await _count(connection, samples[key], times)
    return kept


async def _used_bytes(connection: AsyncConnection, topic: str) -> int:
    total = func.coalesce(func.sum(func.length(refused_messages.c.body)), 0)
    query = select(func.count(), total).where(refused_messages.c.topic == topic)
    rows, body_bytes = (await connection.execute(query)).one()
    return int(rows) * FIRST_BYTES + int(body_bytes)


async def _count(connection: AsyncConnection, sample: Row, times: int) -> None:
    more = (
        update(refused_messages)
        .where(
            refused_messages.c.sha256 == ONLY_COUNTED,
            refused_messages.c.topic == sample["topic"],
            refused_messages.c.code == sample["code"],
        )
        .values(times=refused_messages.c.times + bindparam("more"))
    )
    if (await connection.execute(more, {"more": times})).rowcount == 0:
        first = {
            "sha256": ONLY_COUNTED,
            "body": b"",
            "detail": "more messages than are kept were refused; these are only counted",
            "times": times,
        }
        await connection.execute(insert(refused_messages), sample | first)


def _body(row: Row) -> bytes:
    body = row["body"]
    return body if isinstance(body, bytes) else b""
