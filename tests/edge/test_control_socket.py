import asyncio
import contextlib
import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from edge_agent.adapters.bay_board import BayBoard
from edge_agent.adapters.control_socket import (
    MAX_REQUEST_BYTES,
    Command,
    Snapshot,
    ask,
    serve_control,
)
from edge_agent.errors import (
    AgentNotRunningError,
    AgentRunningError,
    ControlAnswerError,
    ControlBusyError,
    ControlDeniedError,
)
from protocol.identifiers import BayNumber, DockId
from protocol.messages import BayMessage, BayState, DockStatus
from tests.simulators.sealed_manifests import DOCK, NOW

STATUS: Final = DockStatus(dock=DOCK, online=True, since=NOW, agent="edge-agent test", bays=1)
NOBODY: Final = 65_534
EMPTY: Final = BayMessage(dock=DockId(DOCK), bay=BayNumber(1), state=BayState.EMPTY, changed_at=NOW)


@pytest.fixture
def board() -> BayBoard:
    return BayBoard([EMPTY])


@pytest.fixture
async def served(tmp_path: Path, board: BayBoard) -> AsyncIterator[Path]:
    async def snapshot() -> Snapshot:
        return Snapshot(dock=STATUS, bays=board.bays())

    path = tmp_path / "control.socket"
    async with serve_control(path, board=board, snapshot=snapshot):
        yield path


async def converse(path: Path, lines: bytes, *, answers: int) -> list[Any]:
    reader, writer = await asyncio.open_unix_connection(path, limit=1 << 20)
    writer.write(lines)
    got = [json.loads(await reader.readline()) for _ in range(answers)]
    writer.close()
    return got


async def test_the_status_is_one_document(served: Path) -> None:
    """One question gives one snapshot, as the agent has it at that moment."""
    snapshots = [snapshot async for snapshot in ask(served, Command.STATUS)]

    assert snapshots == [Snapshot(dock=STATUS, bays=(EMPTY,))]


async def test_the_socket_is_for_its_group(served: Path) -> None:
    """Owner and group may ask, others may not."""
    assert stat.S_IMODE(os.lstat(served).st_mode) == 0o660


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_strangers_may_not_ask(served: Path) -> None:
    """Who is neither the agent's user nor in its group is told so by a code."""
    os.seteuid(NOBODY)
    try:
        with pytest.raises(ControlDeniedError):
            await anext(ask(served, Command.STATUS))
    finally:
        os.seteuid(0)


async def test_watching_shows_changes(served: Path, board: BayBoard) -> None:
    """Whoever watches sees the state of now, then each change."""
    reading = msgspec.structs.replace(EMPTY, state=BayState.INGESTING)

    async with contextlib.aclosing(ask(served, Command.WATCH)) as answers:
        first = await anext(answers)
        board.show(reading)
        second = await anext(answers)

    assert (first.bays[0].state, second.bays[0].state) == (BayState.EMPTY, BayState.INGESTING)


@pytest.mark.parametrize(
    "line",
    [
        b"status",
        b"{}",
        b'{"command": "erase"}',
        b'{"command": "status", "bay": 1}',
        b'{"command": "status", "command": "watch"}',
        b"\xff\xfe",
        b"[" * 2_000,
        b"x" * 3 * MAX_REQUEST_BYTES,
        b'{"command": "status"}' + b" " * 3 * MAX_REQUEST_BYTES,
        b"",
    ],
)
async def test_nonsense_is_answered(served: Path, line: bytes) -> None:
    """What is no request gets an error with a code, and the next request its answer."""
    lines = line + b'\n{"command": "status"}\n'

    error, status = await converse(served, lines, answers=2)

    assert error["error"]["code"] == "E-CTL-501"
    assert status["dock"]["dock"] == DOCK


async def test_many_clients_ask_at_once(served: Path) -> None:
    """Clients do not disturb each other, nor those that hang up in the middle of a line."""
    _, rude = await asyncio.open_unix_connection(served)
    rude.write(b'{"comm')
    rude.close()

    async def one() -> list[Snapshot]:
        return [snapshot async for snapshot in ask(served, Command.STATUS)]

    assert len(await asyncio.gather(*(one() for _ in range(8)))) == 8


async def test_watchers_that_left_make_room(served: Path) -> None:
    """However many watched and left, the next one is answered."""
    for _ in range(40):
        async with contextlib.aclosing(ask(served, Command.WATCH)) as answers:
            await anext(answers)

    assert [snapshot async for snapshot in ask(served, Command.STATUS)]


async def test_nobody_answers(tmp_path: Path) -> None:
    """Without an agent, that is what is said."""
    with pytest.raises(AgentNotRunningError):
        await anext(ask(tmp_path / "control.socket", Command.STATUS))


async def test_a_dead_agents_socket_is_replaced(tmp_path: Path, board: BayBoard) -> None:
    """The socket that a killed agent left behind is in nobody's way."""
    path = tmp_path / "control.socket"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()

    async def snapshot() -> Snapshot:
        return Snapshot(dock=STATUS, bays=())

    with pytest.raises(AgentNotRunningError):
        await anext(ask(path, Command.STATUS))
    async with serve_control(path, board=board, snapshot=snapshot):
        assert [one async for one in ask(path, Command.STATUS)]
    assert not path.exists()


async def test_a_living_agents_socket_stays(served: Path, board: BayBoard) -> None:
    """A second agent does not take the first one's socket away."""

    async def snapshot() -> Snapshot:
        raise AssertionError("nobody asks the second agent")

    with pytest.raises(AgentRunningError):
        async with serve_control(served, board=board, snapshot=snapshot):
            pass

    assert [one async for one in ask(served, Command.STATUS)]


async def test_a_file_in_the_way_stays(tmp_path: Path, board: BayBoard) -> None:
    """What is no socket is never removed."""
    path = tmp_path / "control.socket"
    path.write_text("precious")

    async def snapshot() -> Snapshot:
        raise AssertionError("nobody listens")

    with pytest.raises(FileExistsError):
        async with serve_control(path, board=board, snapshot=snapshot):
            pass

    assert path.read_text() == "precious"


@pytest.mark.parametrize("answer", [b"what?\n", b"{}\n", b"x" * 2_000_000 + b"\n"])
async def test_a_strange_agent_is_not_believed(tmp_path: Path, answer: bytes) -> None:
    """An answer that is no snapshot is an error with a code."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        with contextlib.suppress(OSError):
            await writer.drain()
        writer.close()

    path = tmp_path / "control.socket"
    async with await asyncio.start_unix_server(talk, path):
        with pytest.raises(ControlAnswerError):
            await anext(ask(path, Command.STATUS))


async def test_an_agent_that_hangs_up_is_not_running(tmp_path: Path) -> None:
    """An agent that stops before it answers counts as not running."""

    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    path = tmp_path / "control.socket"
    async with await asyncio.start_unix_server(talk, path):
        with pytest.raises(AgentNotRunningError):
            await anext(ask(path, Command.STATUS))


async def test_a_long_path_is_refused(tmp_path: Path, board: BayBoard) -> None:
    """A path that no socket can have is an OSError, not a socket somewhere else."""

    async def snapshot() -> Snapshot:
        raise AssertionError("nobody listens")

    with pytest.raises(OSError, match="path too long"):
        async with serve_control(tmp_path / ("x" * 200), board=board, snapshot=snapshot):
            pass


async def test_one_too_many_is_told_so(served: Path) -> None:
    """Whoever asks while as many watch as can be served learns that, and not that nobody runs."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(16):
            answers = await stack.enter_async_context(
                contextlib.aclosing(ask(served, Command.WATCH))
            )
            await anext(answers)
        with pytest.raises(ControlBusyError):
            await anext(ask(served, Command.STATUS))
