"""Where programs on this machine ask for commands to docks: a Unix socket, one JSON object a line.

The kernel says who asks (SO_PEERCRED): root, server-agent's own user, and those that it was told.
"""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Annotated, Final

import structlog
from msgspec import Meta

from protocol import strict_json
from protocol.commands import MAX_SECONDS, CommandAnswer, CommandVerb
from protocol.errors import ProtocolError
from protocol.identifiers import BayField, DockField
from protocol.manifest import Label
from protocol.messages import MAX_TELEMETRY_BYTES
from protocol.strict_json import Message
from server_agent.errors import CommandError, CommandSocketError

_MAX_REQUEST_BYTES: Final = 4096
_MODE: Final = 0o666
_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid
_IDLE_S: Final = 10.0
_MOST_CLIENTS: Final = 16
# Longer than any command is waited for.
_ANSWER_S: Final = 180.0

_log = structlog.get_logger(__name__)


class Request(Message, frozen=True, kw_only=True):
    """What is to be done, and on whose behalf."""

    dock: DockField
    verb: CommandVerb
    asked_by: Label
    bay: BayField | None = None
    seconds: Annotated[int, Meta(ge=1, le=MAX_SECONDS)] | None = None


class Reply(Message, frozen=True, kw_only=True):
    """A dock's answer, or why there is none."""

    answer: CommandAnswer | None = None
    code: str | None = None
    text: str = ""


@contextlib.asynccontextmanager
async def serve_commands(
    path: Path,
    ask: Callable[[Request], Awaitable[CommandAnswer]],
    *,
    users: frozenset[int] = frozenset(),
) -> AsyncIterator[None]:
    """Answer for the length of the block.

    Args:
        path: Where.
        ask: Has a dock do something.
        users: Who may ask besides root and ourselves, by number.

    Raises:
        OSError: The socket cannot be made.
    """
    busy = asyncio.Semaphore(_MOST_CLIENTS)
    may_ask = users | {0, os.geteuid()}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.CancelledError):
            async with busy:
                if (user := _user_of(writer)) in may_ask:
                    await _answer(reader, writer, ask)
                else:
                    _log.warning("a stranger asked", uid=user)
        writer.close()

    await asyncio.to_thread(path.unlink, missing_ok=True)
    server = await asyncio.start_unix_server(serve, path, limit=_MAX_REQUEST_BYTES)
    await asyncio.to_thread(path.chmod, _MODE)
    try:
        yield
    finally:
        server.close()
        await asyncio.to_thread(path.unlink, missing_ok=True)


def _user_of(writer: asyncio.StreamWriter) -> int:
    connection = writer.get_extra_info("socket")
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(told)
    return int(uid)


async def _answer(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    ask: Callable[[Request], Awaitable[CommandAnswer]],
) -> None:
    try:
        async with asyncio.timeout(_IDLE_S):
            line = await reader.readline()
        request = strict_json.parse(line, Request, max_bytes=_MAX_REQUEST_BYTES)
        reply = Reply(answer=await ask(request))
    except (ProtocolError, CommandError) as error:
        reply = Reply(code=error.code, text=str(error)[:1000])
    except ValueError as error:  # a line without end
        reply = Reply(code=CommandSocketError.code, text=str(error)[:1000])
    writer.write(strict_json.encode(reply) + b"\n")
    await writer.drain()


async def ask_server(path: Path, request: Request) -> Reply:
    """Have the running archive ask a dock.

    Raises:
        CommandSocketError: It does not answer, or not as this release does.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=4 * MAX_TELEMETRY_BYTES)
        try:
            writer.write(strict_json.encode(request) + b"\n")
            await writer.drain()
            async with asyncio.timeout(_ANSWER_S):
                line = await reader.readline()
        finally:
            writer.close()
        return strict_json.parse(line, Reply, max_bytes=4 * MAX_TELEMETRY_BYTES)
    except (OSError, TimeoutError, ValueError, ProtocolError) as error:
        raise CommandSocketError(f"{path}: {error}: is server-agent running?") from error
