"""What a person must come to know: alerts, and messages that could not be trusted or read.

Both are in the journal before anybody hears of them.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog
from aiosqlite import Connection

from edge_agent.adapters.journal import Journal
from edge_agent.outbox.answers import Unhandled
from protocol import strict_json
from protocol.identifiers import AlertId, BayNumber, DockId, RecorderId, mint_uuid7
from protocol.messages import MAX_TELEMETRY_BYTES, Alert

Clock = Callable[[], datetime]

_MAX_TEXT: Final = 500
_MAX_FACT: Final = 128
_QUIET_MS: Final = int(timedelta(hours=1).total_seconds() * 1000)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """An alert before it has an id and a time; texts of any length, they are cut to fit."""

    code: str
    text: str
    facts: Mapping[str, str]
    bay: BayNumber | None = None
    recorder: RecorderId | None = None


class NoticeStore:
    """Alerts and unhandled messages of one dock, in its journal.

    Attributes:
        raised: Set with each new alert; whoever delivers them clears it.
    """

    def __init__(self, journal: Journal, *, dock: DockId, clock: Clock) -> None:
        self.raised = asyncio.Event()
        self._journal = journal
        self._dock = dock
        self._clock = clock

    async def raise_alert(self, notice: Notice) -> AlertId:
        """Keep an alert until it was delivered; return its id."""
        async with self._journal.transaction():
            return await self.insert_alert(notice)

    async def insert_alert(self, notice: Notice) -> AlertId:
        """Keep an alert as a part of the caller's transaction."""
        now = self._clock()
        alert = Alert(
            alert_id=AlertId(mint_uuid7(unix_ms=unix_ms(now), entropy=os.urandom(10))),
            dock=self._dock,
            code=notice.code,
            text=plain_text(notice.text, _MAX_TEXT),
            raised_at=now,
            bay=notice.bay,
            recorder=notice.recorder,
            facts={name: plain_text(value, _MAX_FACT) for name, value in notice.facts.items()},
        )
        await self._journal.connection.execute(
            "INSERT INTO alert (alert_id, payload) VALUES (?, ?)",
            (alert.alert_id, strict_json.encode(alert)),
        )
        self.raised.set()
        _log.warning("alert", code=alert.code, text=alert.text, bay=alert.bay)
        return alert.alert_id

    async def undelivered_alerts(self) -> tuple[Alert, ...]:
        """Return the alerts that the broker has not taken yet, oldest first."""
        async with self._journal.transaction():
            rows = await self._journal.connection.execute_fetchall(
                "SELECT payload FROM alert WHERE NOT delivered ORDER BY rowid"
            )
        return tuple(
            strict_json.parse(payload, Alert, max_bytes=MAX_TELEMETRY_BYTES) for (payload,) in rows
        )

    async def mark_delivered(self, alert_id: AlertId) -> None:
        """Note that the broker took an alert and somebody was subscribed to it."""
        async with self._journal.transaction():
            await self._journal.connection.execute(
                "UPDATE alert SET delivered = 1 WHERE alert_id = ?", (alert_id,)
            )

    async def keep_unhandled(self, topic: str, payload: bytes, problem: Unhandled) -> None:
        """Keep a message that was not acted on, and raise an alert for it."""
        async with self._journal.transaction():
            await self.insert_unhandled(topic, payload, problem)

    async def insert_unhandled(self, topic: str, payload: bytes, problem: Unhandled) -> None:
        """Keep a message as a part of the caller's transaction.

        The very same message is kept once, and one code raises at most one alert an hour:
        whoever repeats himself cannot fill the dock's disk or hide other alerts.
        """
        now_ms = unix_ms(self._clock())
        connection = self._journal.connection
        recent = await count(
            connection,
            # What the clock says is still to come was received before the clock was set.
            "SELECT count(*) FROM unhandled_message WHERE code = ?"
            " AND received_at_ms > ? AND received_at_ms <= ?",
            problem.code,
            now_ms - _QUIET_MS,
            now_ms,
        )
        repeated = await count(
            connection,
            "SELECT count(*) FROM unhandled_message WHERE code = ? AND topic = ? AND payload = ?",
            problem.code,
            topic,
            payload,
        )
        _log.error("unhandled message", topic=topic, code=problem.code, detail=problem.detail)
        if not repeated:
            await connection.execute(
                "INSERT INTO unhandled_message (received_at_ms, topic, payload, code, detail)"
                " VALUES (?, ?, ?, ?, ?)",
                (now_ms, topic, payload, problem.code, problem.detail),
            )
        if not recent:
            await self.insert_alert(
                Notice(
                    code=problem.code,
                    text=f"a message from the archive was not acted on: {problem.detail}",
                    facts={"topic": topic},
                )
            )

    async def unhandled_count(self) -> int:
        """Return how many different messages were kept and not acted on."""
        async with self._journal.transaction():
            return await count(self._journal.connection, "SELECT count(*) FROM unhandled_message")


async def count(connection: Connection, query: str, *values: object) -> int:
    """Return the one number that *query* selects."""
    async with connection.execute(query, values) as cursor:
        row = await cursor.fetchone()
    return 0 if row is None else int(row[0])


def unix_ms(moment: datetime) -> int:
    """Return *moment*, which knows its zone, as milliseconds since 1970."""
    return int(moment.timestamp() * 1000)


def plain_text(text: str, most_characters: int) -> str:
    """Return *text* as any JSON reader and any database takes it: cut, no surrogates, no NUL."""
    encodable = text.encode(errors="backslashreplace").decode()
    return encodable.replace("\0", "\\x00")[:most_characters]
