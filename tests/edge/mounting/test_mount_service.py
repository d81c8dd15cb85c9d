"""edge-mount's socket, with the agent's client and with others."""

import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.adapters.mount_client import MountClient
from edge_agent.adapters.mount_service import BAD_REQUEST, MOST_IN_LINE, MountService
from edge_agent.mount_cli import each_by_itself
from edge_agent.mounting.errors import MountServiceError
from edge_agent.mounting.messages import (
    MountedVolume,
    Reply,
    Request,
    Verb,
    encode,
    parse_reply,
)
from edge_agent.mounting.superblock import FileSystemKind
from protocol.identifiers import BayNumber

BAY = BayNumber(3)
VOLUME = MountedVolume(
    name="1", file_system=FileSystemKind.FAT, volume_id="01234567", label="DSJ", size_bytes=1
)
_NOBODY = 65_534


@pytest.fixture
def asked() -> list[tuple[str, int]]:
    return []


@pytest.fixture
def path() -> Iterator[Path]:
    # Where others can get at it, and short, as a socket's path has to be.
    with tempfile.TemporaryDirectory(prefix="mount-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "sock"


@pytest.fixture
def client(path: Path, asked: list[tuple[str, int]]) -> Iterator[MountClient]:
    def mount(bay: BayNumber) -> Reply:
        asked.append(("mount", bay))
        return Reply(volumes=(VOLUME,))

    def detach(bay: BayNumber) -> Reply:
        asked.append(("detach", bay))
        return Reply()

    service = MountService(
        path, client_uid=os.getuid(), client_gid=os.getgid(), mount=mount, detach=detach
    )
    serving = threading.Thread(target=service.serve)
    serving.start()
    yield MountClient(path, BAY)
    service.stop()
    serving.join(timeout=60)


def test_the_agent_is_answered(client: MountClient, asked: list[tuple[str, int]]) -> None:
    """Each request is for the client's own bay, and is answered with what came of it."""
    assert client.mount() == Reply(volumes=(VOLUME,))
    assert client.detach() == Reply()
    assert asked == [("mount", BAY), ("detach", BAY)]


@pytest.mark.parametrize("request_", [b"", b"{}", b'{"verb":"mount","bay":1,"device":"/dev/sda"}'])
def test_what_is_no_request_is_refused(
    client: MountClient, asked: list[tuple[str, int]], path: Path, request_: bytes
) -> None:
    """It gets a code, and nothing is done."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(str(path))
        connection.sendall(request_ or b" ")
        reply = parse_reply(connection.recv(16_384))

    assert reply.code == BAD_REQUEST
    assert not asked
    assert client.detach() == Reply()


def test_a_caller_that_says_nothing_holds_up_nobody(client: MountClient, path: Path) -> None:
    """Each connection has a thread of its own."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
        silent.connect(str(path))
        assert client.mount().volumes


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_another_user_is_not_heard(
    client: MountClient, path: Path, asked: list[tuple[str, int]]
) -> None:
    """Whoever gets at the socket: the kernel says who it is."""
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    path.chmod(0o666)
    request = encode(Request(verb=Verb.MOUNT, bay=BAY))
    program = f"""
import contextlib, os, socket
s, told = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET), b""
os.setuid({_NOBODY})
s.connect({str(path)!r})
with contextlib.suppress(BrokenPipeError, ConnectionResetError):
    s.sendall({request!r})
    told = s.recv(100)
print(told)
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)

    assert (told.stdout.strip(), told.stderr) == (b"b''", b"")
    assert not asked
    assert client.mount().volumes


def test_who_gave_up_waiting_is_not_obeyed(path: Path) -> None:
    """What it asked for is not done behind the back of whoever asks next."""
    obeyed: list[str] = []
    is_hanging, may_go_on = threading.Event(), threading.Event()

    def mount(_bay: BayNumber) -> Reply:
        obeyed.append("mount")
        is_hanging.set()
        assert may_go_on.wait(60)
        return Reply()

    def detach(_bay: BayNumber) -> Reply:
        obeyed.append("detach")
        return Reply()

    service = MountService(
        path, client_uid=os.getuid(), client_gid=os.getgid(), mount=mount, detach=detach
    )
    serving = threading.Thread(target=service.serve)
    serving.start()
    asking = threading.Thread(target=MountClient(path, BAY).mount)
    asking.start()
    assert is_hanging.wait(60)
    before = set(threading.enumerate())
    for _ in range(MOST_IN_LINE - 1):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.connect(str(path))
            connection.sendall(encode(Request(verb=Verb.DETACH, bay=BAY)))
    assert MountClient(path, BayNumber(BAY + 1)).detach() == Reply()
    waiting = set(threading.enumerate()) - before
    may_go_on.set()
    for thread in (*waiting, asking):
        thread.join(timeout=60)
    service.stop()
    serving.join(timeout=60)

    assert obeyed == ["mount", "detach"]


def test_what_hangs_is_not_waited_for() -> None:
    """At the start and at the end: the other bays are seen to, and one that fails ends nothing."""
    may_go_on, is_done = threading.Event(), threading.Event()

    def hang() -> None:
        assert may_go_on.wait(60)

    def fail() -> None:
        raise OSError("its folder is not empty")

    each_by_itself([hang, fail, is_done.set], patience_s=0.1)
    is_in_time = is_done.wait(60)
    may_go_on.set()

    assert is_in_time


def test_without_edge_mount_there_is_an_error(tmp_path: Path) -> None:
    """The bay can say what is wrong."""
    with pytest.raises(MountServiceError):
        MountClient(tmp_path / "none.sock", BAY).mount()
