"""How far recorders' clocks were off, kept from before they are set until a docking has it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from edge_agent.adapters.journal import Journal

# What was noted longer ago is about another duty: the recorder has filmed since it was set.
_HOLDS_MS: Final = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class NotedClock:
    """One reading; *recorder_time* has no zone."""

    recorder_time: datetime | None
    drift_ms: int | None


class ClockStore:
    """The journal's table of clocks."""

    def __init__(self, journal: Journal) -> None:
        """Keep them in *journal*."""
        self._journal = journal

    async def note(self, serial: str, reading: NotedClock, *, at_ms: int) -> NotedClock:
        """Keep a reading durably; return it, or the one from before the clock was set last.

        A talk that was cut short after the clock had been set is held again: only what was noted
        the first time says how far the clock was off when the footage was made.
        """
        async with self._journal.transaction() as connection:
            rows = await connection.execute_fetchall(
                "SELECT recorder_time, drift_ms FROM recorder_clock"
                " WHERE serial = ? AND noted_at_ms BETWEEN ? AND ?",
                (serial, at_ms - _HOLDS_MS, at_ms),
            )
            for recorder_time, drift_ms in rows:
                return NotedClock(
                    recorder_time=None
                    if recorder_time is None
                    else datetime.fromisoformat(recorder_time),
                    drift_ms=drift_ms,
                )
            local = reading.recorder_time
            await connection.execute(
                "INSERT OR REPLACE INTO recorder_clock VALUES (?, ?, ?, ?)",
                (serial, None if local is None else local.isoformat(), reading.drift_ms, at_ms),
            )
        return reading
