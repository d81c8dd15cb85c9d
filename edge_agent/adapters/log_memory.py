"""What this dock saw of the archive's custody log: kept in the journal, and cosigned."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog

from edge_agent.adapters.journal import Journal
from edge_agent.adapters.notice_store import Notice, NoticeStore, unix_ms
from edge_agent.adapters.pulse import Pulse
from edge_agent.outbox.watching import Memory, Shown, look
from protocol.checkpoint import parse_checkpoint
from protocol.identifiers import DockId
from protocol.keys import SigningKey
from protocol.log_proofs import SeenCheckpoint
from protocol.manifest import LogState, WatchedLog
from protocol.notes import Note, cosign_text, read_note

# For too long nothing was shown to go on from what this dock saw.
DOUBTED: Final = "E-OUT-111"
# The archive signed two histories.
CONTRADICTED: Final = "E-OUT-112"
# A person at the dock let it forget.
FORGOTTEN: Final = "E-OUT-113"

_log = structlog.get_logger(__name__)


class LogMemory:
    """What one dock remembers.

    Attributes:
        changes: Beats when there is something to tell the archive, or the lights.
        asks_again: The archive shall begin its proofs where this dock stands.
    """

    def __init__(
        self,
        journal: Journal,
        notices: NoticeStore,
        *,
        dock: DockId,
        clock: Callable[[], datetime],
    ) -> None:
        """Remember in *journal*."""
        self.changes = Pulse()
        self.asks_again = False
        self._journal = journal
        self._notices = notices
        self._dock = dock
        self._clock = clock
        self._memory: Memory | None = None

    @property
    def is_sound(self) -> bool:
        """Whether nothing speaks against the archive's log."""
        return self._memory is None or self._memory.state is LogState.CONSISTENT

    def told(self) -> WatchedLog | None:
        """Return what a manifest says of it; None before the first receipt."""
        return None if self._memory is None else self._memory.told()

    async def load(self) -> None:
        """Remember what an earlier run saw.

        Raises:
            sqlite3.Error, OSError: The journal cannot be read.
        """
        async with self._journal.transaction():
            self._memory = await self._read()

    async def take(self, shown: Shown) -> tuple[Memory, bool]:
        """Look at what came with a receipt, in the transaction that is under way.

        Returns:
            What is remembered once it is committed, for `become`; and whether the receipt counts.
        """
        before = await self._read()
        memory, counts = look(before, shown, now_ms=unix_ms(self._clock()))
        if memory != before:
            await self._journal.connection.execute(
                "INSERT OR REPLACE INTO watched_log"
                " (only, note, unproved_since_ms, doubted, contradiction) VALUES (1, ?, ?, ?, ?)",
                (memory.note, memory.unproved_since_ms, memory.is_doubted, memory.contradiction),
            )
        if before is not None and memory.state not in {LogState.CONSISTENT, before.state}:
            await self._notices.insert_alert(_alarm(memory, shown))
        return memory, counts

    def become(self, memory: Memory, *, counts: bool) -> None:
        """Go on with what was committed."""
        if memory != self._memory or not counts:
            self._memory = memory
            self.asks_again = not counts
            self.changes.beat()

    def seen(self, key: SigningKey) -> SeenCheckpoint | None:
        """Return what the archive is told, cosigned; None before the first receipt."""
        if self._memory is None:
            return None
        note = read_note(self._memory.note)
        line = cosign_text(note.text, self._dock, key, unix_s=unix_ms(self._clock()) // 1000)
        cosigned = Note(text=note.text, lines=(*note.lines, line))
        return SeenCheckpoint(note=cosigned.encode().decode(), asks_again=self.asks_again)

    async def begin_anew(self) -> Memory | None:
        """Forget what was seen, for the archive's word that comes next; return what it was.

        What was seen is kept, and there is an alert: nobody forgets in silence.
        """
        async with self._journal.transaction() as connection:
            memory = await self._read()
            if memory is None:
                return None
            await connection.execute(
                "INSERT INTO forgotten_log (forgotten_at_ms, note, contradiction) VALUES (?, ?, ?)",
                (unix_ms(self._clock()), memory.note, memory.contradiction),
            )
            await connection.execute("DELETE FROM watched_log")
            seen = memory.checkpoint
            await self._notices.insert_alert(
                Notice(
                    code=FORGOTTEN,
                    text="a person at the dock let it forget what it saw of the custody log",
                    facts={"seen": f"{seen.size} {seen.root.hex()}"},
                )
            )
        self._memory = None
        return memory

    @property
    def memory(self) -> Memory | None:
        """What is remembered now."""
        return self._memory

    async def _read(self) -> Memory | None:
        query = "SELECT note, unproved_since_ms, doubted, contradiction FROM watched_log"
        async with self._journal.connection.execute(query) as cursor:
            row = await cursor.fetchone()
        if row is None:
            return None
        note, since_ms, is_doubted, contradiction = row
        return Memory(
            note=note,
            # Ours, verified when it came.
            checkpoint=parse_checkpoint(read_note(note).text),
            unproved_since_ms=since_ms,
            is_doubted=bool(is_doubted),
            contradiction=contradiction,
        )


def _alarm(memory: Memory, shown: Shown) -> Notice:
    known, found = memory.checkpoint, shown.checkpoint
    facts = {
        "seen": f"{known.size} {known.root.hex()}",
        "shown": f"{found.size} {found.root.hex()}",
    }
    if memory.state is LogState.CONTRADICTED:
        text = "the archive signed two histories of its custody log; no receipt counts any more"
        return Notice(code=CONTRADICTED, text=text, facts=facts)
    text = "the archive does not show that its custody log goes on from what this dock saw"
    return Notice(code=DOUBTED, text=text, facts=facts)
