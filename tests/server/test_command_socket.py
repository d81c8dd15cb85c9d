"""The socket on which programs of this machine ask: for its own user, and for requests alone."""

import asyncio
import os
import stat
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from protocol import strict_json
from protocol.commands import CommandAnswer, CommandOutcome, CommandVerb
from protocol.identifiers import CommandId, DockId
from server_agent.adapters.command_socket import Reply, Request, ask_server, serve_commands
from server_agent.errors import CommandSocketError, NoAnswerError

DOCK = DockId("dock-01")
REQUEST = Request(dock=DOCK, verb=CommandVerb.DOCTOR, asked_by="admin")
ANSWER = CommandAnswer(
    command_id=CommandId("0192f1a4-1000-7000-8000-0000000000c1"),
    dock=DOCK,
    at=datetime(2026, 11, 26, tzinfo=UTC),
    outcome=CommandOutcome.DONE,
    content="漢" * 12_000,
)


async def test_who_asks_gets_the_docks_answer(tmp_path: Path) -> None:
    """The longest there is; who may ask is not the file's mode to say."""
    asked: list[Request] = []

    async def ask(request: Request) -> CommandAnswer:
        asked.append(request)
        return ANSWER

    path = tmp_path / "cmd.sock"
    async with serve_commands(path, ask):
        mode = stat.S_IMODE((await asyncio.to_thread(path.stat)).st_mode)
        reply = await ask_server(path, REQUEST)

    assert reply == Reply(answer=ANSWER)
    assert asked == [REQUEST]
    assert mode == 0o666
    assert not await asyncio.to_thread(path.exists)


async def test_a_dock_that_does_not_answer_is_told(tmp_path: Path) -> None:
    """With the code, as it would be on the command line."""

    async def ask(_request: Request) -> CommandAnswer:
        raise NoAnswerError("dock-01 did not answer")

    async with serve_commands(tmp_path / "cmd.sock", ask):
        reply = await ask_server(tmp_path / "cmd.sock", REQUEST)

    assert (reply.answer, reply.code) == (None, "E-CMD-202")


@pytest.mark.parametrize(
    ("untrusted", "code"),
    [
        (b"{}\n", "E-PRO-104"),
        (b"\xff\n", "E-PRO-102"),
        (b'{"dock":"dock-01","verb":"erase","asked_by":"x"}\n', "E-PRO-104"),
        (b"x" * 10_000 + b"\n", "E-CMD-203"),
    ],
)
async def test_what_is_no_request(tmp_path: Path, untrusted: bytes, code: str) -> None:
    """Nobody is asked anything."""

    async def ask(_request: Request) -> CommandAnswer:
        raise AssertionError("asked")

    path = tmp_path / "cmd.sock"
    async with serve_commands(path, ask):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(untrusted)
        line = await reader.readline()
        writer.close()

    assert strict_json.parse(line, Reply, max_bytes=4096).code == code


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize(
    ("users", "is_answered"), [(frozenset(), False), (frozenset({65_534}), True)]
)
async def test_who_may_ask(users: frozenset[int], *, is_answered: bool) -> None:
    """Another user is not answered, unless the archive was told that he or she may."""

    async def ask(_request: Request) -> CommandAnswer:
        return ANSWER

    with tempfile.TemporaryDirectory() as folder:
        await asyncio.to_thread(Path(folder).chmod, 0o755)
        path = Path(folder, "cmd.sock")
        async with serve_commands(path, ask, users=users):
            line = strict_json.encode(REQUEST).decode()
            script = (
                "import socket, sys\n"
                "with socket.socket(socket.AF_UNIX) as line:\n"
                "    line.connect(sys.argv[1])\n"
                "    try:\n"
                "        line.sendall(sys.argv[2].encode() + b'\\n')\n"
                "        print(len(line.makefile().readline()))\n"
                "    except OSError:\n"
                "        print(0)\n"
            )
            asking = await asyncio.create_subprocess_exec(
                *("/usr/bin/python3", "-c", script, str(path), line),
                user=65_534,
                stdout=asyncio.subprocess.PIPE,
            )
            told, _ = await asking.communicate()

    assert (int(told) > 0) == is_answered


async def test_nobody_is_there(tmp_path: Path) -> None:
    """It says what to look at."""
    with pytest.raises(CommandSocketError, match="running"):
        await ask_server(tmp_path / "cmd.sock", REQUEST)
