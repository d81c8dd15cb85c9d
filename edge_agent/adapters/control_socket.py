"""Asking the running agent how things stand: one JSON object a line, over a Unix socket.

A request is ``{"command": "status"}`` or ``{"command": "watch"}``. The answer is one ``Snapshot``
a line, for ``watch`` one more whenever something in it changes. What is no request is answered with
``{"error": {"code": …, "message": …}}``, and the connection stays usable.
"""

import asyncio
import contextlib
import socket
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from enum import Enum, unique
from pathlib import Path
from typing import Final

import structlog

from edge_agent.adapters.bay_board import BayBoard
from edge_agent.errors import (
    AgentNotRunningError,
    AgentRunningError,
    ControlAnswerError,
    ControlBusyError,
    ControlDeniedError,
    ControlRequestError,
)
from protocol import strict_json
from protocol.errors import ProtocolError
from protocol.messages import BayMessage, Count, DockStatus
from protocol.strict_json import Message

MAX_REQUEST_BYTES: Final = 4 * 1024
MAX_ANSWER_BYTES: Final = 4 << 20  # 99 bays, each with a file name of the longest kind

_MODE: Final = 0o660
_MOST_CLIENTS: Final = 16
_SEND_TIMEOUT_S: Final = 10.0
_ANSWER_TIMEOUT_S: Final = 10.0
_IDLE_TIMEOUT_S: Final = 60.0
_WATCH_PAUSE_S: Final = 0.2
_WATCH_DOCK_S: Final = 1.0

_log = structlog.get_logger(__name__)


@unique
class Command(Enum):
    """What can be asked."""

    STATUS = "status"
    WATCH = "watch"


class Request(Message, frozen=True, kw_only=True):
    """One line to the agent."""

    command: Command


class Snapshot(Message, frozen=True, kw_only=True):
    """How the dock stands; ``problem`` says why there is no connection or why uploads wait.

    ``orphaned_files`` are staged copies that the journal did not know and a person must look at.
    """

    dock: DockStatus
    bays: tuple[BayMessage, ...]
    uploads_waiting: Count = 0
    unhandled_messages: Count = 0
    orphaned_files: Count = 0
    problem: str | None = None


class Problem(Message, frozen=True, kw_only=True):
    """Why a request was not answered."""

    code: str
    message: str


class ErrorAnswer(Message, frozen=True, kw_only=True):
    """The answer to what is no request."""

    error: Problem


@contextlib.asynccontextmanager
async def serve_control(
    path: Path, *, board: BayBoard, snapshot: Callable[[], Awaitable[Snapshot]]
) -> AsyncIterator[None]:
    """Answer on a Unix socket for the length of the block; then the socket is removed.

    Raises:
        AgentRunningError: Another agent answers there.
        OSError: The socket cannot be made, or something else has its name.
    """
    control = _Control(board, snapshot)
    listener = await asyncio.to_thread(_listen, path)
    server = await asyncio.start_unix_server(control.serve, sock=listener, limit=MAX_REQUEST_BYTES)
    try:
        yield
    finally:
        server.close()
        await control.close()
        await asyncio.to_thread(path.unlink, missing_ok=True)


async def ask(path: Path, command: Command) -> AsyncGenerator[Snapshot, None]:
    """Yield the agent's answers: one for STATUS; for WATCH, until the agent stops.

    Raises:
        AgentNotRunningError: Nobody answers at *path*.
        ControlDeniedError: We are neither its user nor in its group.
        ControlBusyError: Too many are asking already.
        ControlAnswerError: The answer is none that this release understands.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=MAX_ANSWER_BYTES)
    except (FileNotFoundError, ConnectionRefusedError):
        raise AgentNotRunningError(f"nobody answers at {path}") from None
    except PermissionError:
        raise ControlDeniedError(f"{path} is not open to this user") from None
    try:
        writer.write(strict_json.encode(Request(command=command)) + b"\n")
        await writer.drain()
        patience_s = _ANSWER_TIMEOUT_S if command is Command.STATUS else None
        while line := await _read_answer(reader, patience_s):
            yield _parse_answer(line)
            if command is Command.STATUS:
                return
        if command is Command.STATUS:
            raise AgentNotRunningError(f"the agent at {path} hung up")
    except ConnectionError:
        raise AgentNotRunningError(f"the agent at {path} hung up") from None
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


class _Control:
    """The server's side of all connections."""

    def __init__(self, board: BayBoard, snapshot: Callable[[], Awaitable[Snapshot]]) -> None:
        self._board = board
        self._snapshot = snapshot
        self._clients: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._clients) >= _MOST_CLIENTS:
            await _turn_away(reader, writer)
            return
        self._clients.add(task)
        try:
            with contextlib.suppress(OSError, TimeoutError, asyncio.CancelledError):
                await self._converse(reader, writer)
        finally:
            self._clients.discard(task)
            writer.close()

    async def close(self) -> None:
        """End all conversations."""
        for task in self._clients:
            task.cancel()
        if self._clients:
            await asyncio.wait(self._clients)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                async with asyncio.timeout(_IDLE_TIMEOUT_S):
                    line = await _read_line(reader)
                if not line:
                    return
                request = strict_json.parse(line, Request, max_bytes=MAX_REQUEST_BYTES)
            except (ControlRequestError, ProtocolError) as error:
                problem = Problem(code=ControlRequestError.code, message=str(error))
                await _send(writer, ErrorAnswer(error=problem))
                continue
            if request.command is Command.WATCH:
                await self._watch(reader, writer)
                return
            await _send(writer, await self._snapshot())

    async def _watch(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Tell what changes until the other side hangs up; it has nothing more to say."""
        hung_up = asyncio.create_task(_read_to_end(reader), name="control hung up")
        last: Snapshot | None = None
        try:
            while not hung_up.done():
                turns = self._board.turns.beats
                snapshot = await self._snapshot()
                if snapshot != last:
                    last = snapshot
                    await _send(writer, snapshot)
                # A bay's change is told soon, what is true of the whole dock now and then.
                await asyncio.wait({hung_up}, timeout=_WATCH_PAUSE_S)
                turned = asyncio.create_task(self._board.turns.beyond(turns))
                await asyncio.wait(
                    {hung_up, turned},
                    timeout=_WATCH_DOCK_S,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                turned.cancel()
        finally:
            hung_up.cancel()


async def _turn_away(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    busy = Problem(code=ControlBusyError.code, message="too many are asking already")
    with contextlib.suppress(OSError, ControlRequestError):
        # What is not read when the socket is closed costs the other side our answer.
        async with asyncio.timeout(_SEND_TIMEOUT_S):
            await _read_line(reader)
        await _send(writer, ErrorAnswer(error=busy))
    writer.close()


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    """Return the next line without its end; nothing when the other side hung up.

    Raises:
        ControlRequestError: It is longer than any request; it was skipped, not kept.
    """
    too_long = False
    while True:
        try:
            line = await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            return b""
        except asyncio.LimitOverrunError as error:
            await reader.readexactly(error.consumed)
            too_long = True
            continue
        if too_long:
            raise ControlRequestError(f"a line of more than {MAX_REQUEST_BYTES} bytes")
        return line


async def _read_to_end(reader: asyncio.StreamReader) -> None:
    while await reader.read(MAX_REQUEST_BYTES):
        pass


async def _send(writer: asyncio.StreamWriter, answer: Message) -> None:
    writer.write(strict_json.encode(answer) + b"\n")
    async with asyncio.timeout(_SEND_TIMEOUT_S):
        await writer.drain()


async def _read_answer(reader: asyncio.StreamReader, patience_s: float | None) -> bytes:
    try:
        async with asyncio.timeout(patience_s):
            return await reader.readline()
    except TimeoutError:
        raise AgentNotRunningError("the agent does not answer") from None
    except ValueError:
        raise ControlAnswerError(f"an answer of more than {MAX_ANSWER_BYTES} bytes") from None


def _parse_answer(line: bytes) -> Snapshot:
    with contextlib.suppress(ProtocolError):
        answer = strict_json.parse(line, ErrorAnswer, max_bytes=MAX_ANSWER_BYTES)
        if answer.error.code == ControlBusyError.code:
            raise ControlBusyError(answer.error.message)
    try:
        return strict_json.parse(line, Snapshot, max_bytes=MAX_ANSWER_BYTES)
    except ProtocolError as error:
        raise ControlAnswerError(f"{error}: {line[:200]!r}") from None


def _listen(path: Path) -> socket.socket:
    """Return a listening socket; blocking."""
    _make_way(path)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        path.chmod(_MODE)
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener


def _make_way(path: Path) -> None:
    """Remove the socket of an agent that was killed; never anything else."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(f"{path} is there and is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_SEND_TIMEOUT_S)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise AgentRunningError(f"another agent answers at {path}")
