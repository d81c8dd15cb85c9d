"""A network that carries whole HTTP requests, and loses, doubles, holds back and replays them.

TLS ends here and begins anew, as between the real ends: towards the dock we are the archive,
towards the archive the dock. So the real endpoint sees the real certificate's name.
"""

import asyncio
import contextlib
import random
import re
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final

HOST: Final = "127.0.0.1"

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_BROKEN: Final = (OSError, EOFError)


@unique
class Trick(Enum):
    """What befalls one request."""

    PASS = "pass"
    LOSE = "lose"  # it never arrives, and the connection breaks
    HALVE = "halve"  # half of its body arrives, and the connection breaks
    UNANSWERED = "unanswered"  # it arrives, and the connection breaks instead of the answer
    TWICE = "twice"  # it arrives again after it was answered
    AT_ONCE = "at_once"  # it arrives on two connections at the same time
    LATE = "late"  # the connection breaks; it arrives only after the next request was answered
    OLD = "old"  # one of the requests before it arrives again, before it


def seeded_tricks(seed: int, *, share: float = 0.5) -> Iterable[Trick]:
    """Yield tricks for ever; the same for the same arguments."""
    dice = random.Random(seed)
    while True:
        yield dice.choice(list(Trick)) if dice.random() < share else Trick.PASS


@dataclass(frozen=True, slots=True)
class _Message:
    head: bytes
    body: bytes


class RequestReplay:
    """Carries requests from its own port to the archive; from `lay_replay`.

    Attributes:
        played: How often each trick was played.
        answered: How often the archive gave each status, whoever heard it.
    """

    def __init__(
        self, port: int, tricks: Iterable[Trick], *, seed: int, tls: ssl.SSLContext
    ) -> None:
        self.host, self.port = HOST, 0
        self.played: Counter[Trick] = Counter()
        self.answered: Counter[int] = Counter()
        self._target = port
        self._tricks = iter(tricks)
        self._dice = random.Random(seed)
        self._tls = tls
        self._past: list[_Message] = []
        self._held: list[_Message] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry the requests of one connection, until one of them breaks it."""
        with contextlib.suppress(*_BROKEN):
            while True:
                answer = await self._carry(await _read(reader))
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
        writer.transport.abort()

    async def _carry(self, request: _Message) -> bytes | None:
        trick = next(self._tricks, Trick.PASS)
        self.played[trick] += 1
        answer = await self._play(trick, request)
        self._past.append(request)
        if trick is not Trick.LATE:
            held, self._held = self._held, []
            for late in held:
                await self._replay(late)
        return answer

    async def _play(self, trick: Trick, request: _Message) -> bytes | None:
        if trick in {Trick.LOSE, Trick.LATE}:
            if trick is Trick.LATE:
                self._held.append(request)
            return None
        if trick is Trick.HALVE:
            await self._replay(_Message(request.head, request.body[: len(request.body) // 2]))
            return None
        if trick is Trick.OLD and self._past:
            await self._replay(self._dice.choice(self._past))
        if trick is Trick.AT_ONCE:
            answer, _ = await asyncio.gather(self._send(request), self._replay(request))
        else:
            answer = await self._send(request)
        if trick is Trick.TWICE:
            await self._replay(request)
        return None if trick is Trick.UNANSWERED else answer

    async def _replay(self, request: _Message) -> None:
        """Send what nobody waits for; the archive may refuse it or hang up."""
        with contextlib.suppress(*_BROKEN):
            await self._send(request)

    async def _send(self, request: _Message) -> bytes:
        reader, writer = await asyncio.open_connection(HOST, self._target, ssl=self._tls)
        try:
            writer.write(request.head + request.body)
            await writer.drain()
            if len(request.body) < _length(request.head):
                writer.transport.abort()
            answer = await _read(reader, has_body=not request.head.startswith(b"HEAD "))
            self.answered[int(answer.head.split(maxsplit=2)[1])] += 1
            return answer.head + answer.body
        finally:
            writer.transport.abort()


@contextlib.asynccontextmanager
async def lay_replay(
    port: int,
    tricks: Iterable[Trick],
    *,
    seed: int,
    near_tls: ssl.SSLContext,
    far_tls: ssl.SSLContext,
) -> AsyncIterator[RequestReplay]:
    """Carry requests to *port* for the length of the block.

    Args:
        port: Where the archive listens.
        tricks: One for each request; beyond the last, requests pass.
        seed: Of which old request is played again.
        near_tls: The archive's own.
        far_tls: The dock's own.
    """
    replay = RequestReplay(port, tricks, seed=seed, tls=far_tls)
    serving: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(replay.serve(reader, writer), name="request replay")
        serving.add(task)
        task.add_done_callback(serving.discard)

    server = await asyncio.start_server(accept, HOST, 0, ssl=near_tls)
    replay.port = server.sockets[0].getsockname()[1]
    try:
        yield replay
    finally:
        server.close()
        for task in list(serving):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


async def _read(reader: asyncio.StreamReader, *, has_body: bool = True) -> _Message:
    head = await reader.readuntil(b"\r\n\r\n")
    return _Message(head, await reader.readexactly(_length(head)) if has_body else b"")


def _length(head: bytes) -> int:
    found = _LENGTH.search(head)
    return int(found[1]) if found else 0
