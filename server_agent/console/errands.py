"""What people had docks do, and what the docks answered; kept while the console runs.

The record of who asked for what is server-agent's log and the docks' journals.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from protocol.commands import CommandOutcome, CommandVerb
from protocol.identifiers import BayNumber, DockId
from server_agent.adapters.command_socket import Reply, Request
from server_agent.errors import CommandSocketError

_KEPT: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """One command.

    Attributes:
        outcome: None while the dock has not answered; FAILED if it cannot have been asked.
    """

    number: int
    verb: CommandVerb
    bay: BayNumber | None
    asked_by: str
    asked_at_utc: datetime
    outcome: CommandOutcome | None = None
    code: str | None = None
    untrusted_text: str = ""
    untrusted_content: str = ""


class Errands:
    """The last commands to each dock; belongs to one event loop."""

    def __init__(self, ask: Callable[[Request], Awaitable[Reply]]) -> None:
        """*ask* has the running archive ask a dock."""
        self._ask = ask
        self._count = 0
        self._errands: dict[DockId, deque[Errand]] = {}
        self._running: set[asyncio.Task[None]] = set()

    def of(self, dock: DockId) -> tuple[Errand, ...]:
        """Return a dock's, the newest first."""
        return tuple(self._errands.get(dock, ()))

    def start(self, request: Request, *, now_utc: datetime) -> None:
        """Ask, and note the answer when it comes."""
        self._count += 1
        errand = Errand(
            number=self._count,
            verb=request.verb,
            bay=request.bay,
            asked_by=request.asked_by,
            asked_at_utc=now_utc,
        )
        self._errands.setdefault(request.dock, deque(maxlen=_KEPT)).appendleft(errand)
        task = asyncio.create_task(self._run(request, errand), name="errand")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def idle(self) -> None:
        """Return when every dock has answered, or will not."""
        while self._running:
            await asyncio.wait(self._running)

    def close(self) -> None:
        """Wait for nothing any more."""
        for task in self._running:
            task.cancel()

    async def _run(self, request: Request, errand: Errand) -> None:
        try:
            reply = await self._ask(request)
        except CommandSocketError as error:
            reply = Reply(code=error.code, text=str(error))
        answer = reply.answer
        if answer is None:
            done = replace(
                errand, outcome=CommandOutcome.FAILED, code=reply.code, untrusted_text=reply.text
            )
        else:
            done = replace(
                errand,
                outcome=answer.outcome,
                code=answer.code,
                untrusted_text=answer.text,
                untrusted_content=answer.content,
            )
        kept = self._errands[request.dock]
        for index, one in enumerate(kept):
            if one.number == errand.number:
                kept[index] = done
