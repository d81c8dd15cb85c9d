"""Takes the archive's commands, each at most once, does them, and has the answers told."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import structlog

from edge_agent.adapters.disk_word import disk_failure
from edge_agent.adapters.journal import Journal
from edge_agent.adapters.notice_store import Clock, NoticeStore, plain_text, unix_ms
from edge_agent.adapters.pulse import Pulse
from edge_agent.outbox.answers import Unhandled
from edge_agent.outbox.commands import Refusal, read_command, refusal_of
from protocol.commands import (
    MAX_CONTENT_CHARACTERS,
    Command,
    CommandAnswer,
    CommandOutcome,
    CommandVerb,
)
from protocol.errors import ProtocolError
from protocol.identifiers import BayNumber, DockId
from protocol.keys import KeyId, VerifyingKey

FAILED: Final = "E-CMD-105"
_MAX_TEXT: Final = 500
_NOTED: Final = frozenset({Refusal.CANNOT, Refusal.EXPIRED})
# Nobody asks so fast: more than these wait for a connection that there is not.
_MOST_ANSWERS: Final = 100

_log = structlog.get_logger(__name__)


class CannotError(Exception):
    """A command that this dock has no means for; its text says why."""


Act = Callable[[Command], Awaitable[str]]


class CommandDesk:
    """The commands of one dock.

    Attributes:
        acts: What is done for each verb; returns the content of the answer.
        told: Beats when there is an answer to be told.
    """

    def __init__(
        self,
        journal: Journal,
        notices: NoticeStore,
        *,
        dock: DockId,
        bays: frozenset[BayNumber],
        archive_keys: Mapping[KeyId, VerifyingKey],
        clock: Clock,
    ) -> None:
        self.acts: Mapping[CommandVerb, Act] = {}
        self.told = Pulse()
        self._journal = journal
        self._notices = notices
        self._dock = dock
        self._bays = bays
        self._archive_keys = archive_keys
        self._clock = clock
        self._to_do: asyncio.Queue[Command] = asyncio.Queue()
        self._answers: deque[CommandAnswer] = deque(maxlen=_MOST_ANSWERS)

    async def take(self, topic: str, untrusted: bytes) -> None:
        """Note a command durably, and have it done; one that is not obeyed is kept and shown.

        What was noted is never done again: after a crash in between, it was not done at all.

        Raises:
            OSError, sqlite3.Error: Our own disk or journal failed; nothing was noted.
        """
        try:
            command = await asyncio.to_thread(read_command, untrusted, self._archive_keys)
        except ProtocolError as error:
            problem = Unhandled(code=error.code, detail=str(error))
            await self._notices.keep_unhandled(topic, untrusted, problem)
            return
        refused, last = await self._note(command)
        if refused is None:
            _log.info("command", verb=command.verb.value, asked_by=command.asked_by)
            self._to_do.put_nowait(command)
            return
        refusal, words = refused
        _log.warning("command refused", verb=command.verb.value, code=refusal.value, why=words)
        if refusal is not Refusal.CANNOT:
            problem = Unhandled(code=refusal.value, detail=words)
            await self._notices.keep_unhandled(topic, untrusted, problem)
        if refusal is not Refusal.OTHER_DOCK:
            self._tell(command, CommandOutcome.REFUSED, code=refusal.value, text=words, last=last)

    async def run(self) -> None:
        """Do one command after the other, until cancelled."""
        while True:
            await self._do(await self._to_do.get())

    def next_answer(self) -> CommandAnswer | None:
        """Return the answer that was given first and not told yet."""
        return self._answers[0] if self._answers else None

    def answer_told(self, answer: CommandAnswer) -> None:
        """Forget an answer: the broker has it."""
        if self._answers and self._answers[0] is answer:
            self._answers.popleft()
            self.told.beat()

    async def all_told(self) -> None:
        """Return when no answer is left to be told."""
        while self._answers:
            await self.told.beyond(self.told.beats)

    async def _note(self, command: Command) -> tuple[tuple[Refusal, str] | None, int]:
        """Note a command's number, whatever becomes of it; return why it is refused, and the last.

        One that came too late must not come in time when the clock is set back.
        """
        now = self._clock()
        async with self._journal.transaction() as connection:
            rows = await connection.execute_fetchall("SELECT max(sequence) FROM command")
            last = next(int(found or 0) for (found,) in rows)
            refused = refusal_of(command, dock=self._dock, bays=self._bays, last=last, now=now)
            if refused is None or refused[0] in _NOTED:
                row = (command.sequence, command.command_id, command.verb.value, command.asked_by)
                await connection.execute(
                    "INSERT INTO command VALUES (?, ?, ?, ?, ?)", (*row, unix_ms(now))
                )
        return refused, last

    async def _do(self, command: Command) -> None:
        try:
            content = await self.acts[command.verb](command)
        except CannotError as error:
            code = Refusal.CANNOT.value
            self._tell(command, CommandOutcome.REFUSED, code=code, text=str(error))
        except Exception as error:
            if disk_failure(error) is not None:
                raise
            _log.exception("a command failed", verb=command.verb.value)
            self._tell(command, CommandOutcome.FAILED, code=FAILED, text=repr(error))
        else:
            # The end of a log says more than its beginning.
            self._tell(command, CommandOutcome.DONE, content=content[-MAX_CONTENT_CHARACTERS:])

    def _tell(
        self,
        command: Command,
        outcome: CommandOutcome,
        *,
        code: str | None = None,
        text: str = "",
        content: str = "",
        last: int = 0,
    ) -> None:
        self._answers.append(
            CommandAnswer(
                command_id=command.command_id,
                dock=self._dock,
                at=self._clock(),
                outcome=outcome,
                code=code,
                text=plain_text(text, _MAX_TEXT),
                content=content,
                last_sequence=last if code == Refusal.SEEN_BEFORE.value else 0,
            )
        )
        self.told.beat()
