"""Commands to docks: numbered, signed, sent, and matched with what the docks answer."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from protocol.commands import Command, CommandAnswer, CommandVerb
from protocol.identifiers import BayNumber, CommandId, DockId, mint_uuid7
from server_agent.errors import DockUnknownError, NoAnswerError
from server_agent.ledger.statements import unix_ms
from server_agent.signing import Answer, Signer

# A dock that is away that long does nothing about it when it is back.
HOLDS: Final = timedelta(minutes=2)
_ENTROPY_BYTES: Final = 10
_SEEN_BEFORE: Final = "E-CMD-103"  # a dock's word for a number that is too low

_log = structlog.get_logger(__name__)


class CommandOffice:
    """Sends one command at a time to whoever is asked."""

    def __init__(
        self,
        signer: Signer,
        *,
        docks: Callable[[], frozenset[DockId]],
        publish: Callable[[Answer], None],
    ) -> None:
        """Take what is needed.

        Args:
            signer: Has the archive's key, and the clock.
            docks: Those that the registry in force knows.
            publish: Lets a signed statement go out.
        """
        self._signer = signer
        self._docks = docks
        self._publish = publish
        self._waiting: dict[CommandId, asyncio.Future[CommandAnswer]] = {}
        # Of each dock; by the clock, so that a new start goes on above all that went before.
        self._sequences: dict[DockId, int] = {}

    async def ask(
        self,
        dock: DockId,
        verb: CommandVerb,
        *,
        asked_by: str,
        bay: BayNumber | None = None,
        seconds: int | None = None,
        patience: timedelta = HOLDS,
    ) -> CommandAnswer:
        """Have a dock do something, and return its answer.

        Raises:
            DockUnknownError: The registry does not know it.
            NoAnswerError: There was none in time; the dock may have done it all the same.
        """
        if dock not in self._docks():
            raise DockUnknownError(f"{dock} is not in the registry")
        wanted = _Wanted(dock=dock, verb=verb, asked_by=asked_by, bay=bay, seconds=seconds)
        _log.info("command", dock=dock, verb=verb.value, bay=bay, asked_by=asked_by)
        answer = await self._ask_once(wanted, patience)
        if answer.code == _SEEN_BEFORE and answer.last_sequence >= self._sequences[dock]:
            # Our clock was ahead once, or is behind now.
            self._sequences[dock] = answer.last_sequence
            answer = await self._ask_once(wanted, patience)
        _log.info("command answered", dock=dock, verb=verb.value, outcome=answer.outcome.value)
        return answer

    def answered(self, answer: CommandAnswer) -> None:
        """Hand an answer to whoever waits for it; one that nobody waits for is old."""
        waiting = self._waiting.get(answer.command_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    async def _ask_once(self, wanted: "_Wanted", patience: timedelta) -> CommandAnswer:
        command = self._new(wanted)
        answered: asyncio.Future[CommandAnswer] = asyncio.get_running_loop().create_future()
        self._waiting[command.command_id] = answered
        try:
            self._publish(self._signer.command(command))
            async with asyncio.timeout(patience.total_seconds()):
                return await answered
        except TimeoutError:
            _log.warning("command not answered", dock=wanted.dock, verb=wanted.verb.value)
            raise NoAnswerError(
                f"{wanted.dock} did not answer within {patience.total_seconds():.0f} s;"
                " is it online?"
            ) from None
        finally:
            del self._waiting[command.command_id]

    def _new(self, wanted: "_Wanted") -> Command:
        now = self._signer.clock().replace(microsecond=0)
        now_ms = unix_ms(self._signer.clock())
        sequence = max(self._sequences.get(wanted.dock, 0) + 1, now_ms)
        self._sequences[wanted.dock] = sequence
        entropy = self._signer.entropy(_ENTROPY_BYTES)
        return Command(
            command_id=CommandId(mint_uuid7(unix_ms=now_ms, entropy=entropy)),
            dock=wanted.dock,
            sequence=sequence,
            verb=wanted.verb,
            issued_at=now,
            expires_at=now + HOLDS,
            asked_by=wanted.asked_by,
            bay=wanted.bay,
            seconds=wanted.seconds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What is asked, before it has a number."""

    dock: DockId
    verb: CommandVerb
    asked_by: str
    bay: BayNumber | None
    seconds: int | None
