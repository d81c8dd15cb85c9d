"""A serial port of this machine, as far as a pseudo-terminal is one."""

import os
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.adapters.pyserial_port import PyserialPort
from edge_agent.errors import PortFailedError


@pytest.fixture
def ends() -> Iterator[tuple[int, Path]]:
    """The recorder's end, and the path of the dock's."""
    master, slave = os.openpty()
    tty.setraw(slave)
    yield master, Path(os.ttyname(slave))
    for end in (slave, master):
        os.close(end)


def test_bytes_go_both_ways_as_they_are(ends: tuple[int, Path]) -> None:
    """No byte is a control character: all 256 pass."""
    master, path = ends
    data = bytes(range(256))

    with PyserialPort.open(path, baud=115_200) as port:
        port.write(data)
        assert os.read(master, 1024) == data
        os.write(master, data)
        got = b""
        while len(got) < len(data):
            got += port.read(100, 10.0)

    assert got == data


def test_a_read_gives_at_most_what_was_asked_for(ends: tuple[int, Path]) -> None:
    """What is more waits for the next read; nothing waits without time."""
    master, path = ends

    with PyserialPort.open(path, baud=115_200) as port:
        assert not port.read(10, 0.0)
        os.write(master, b"abcde")
        first = port.read(3, 10.0)
        assert 1 <= len(first) <= 3
        rest = first
        while len(rest) < 5:
            rest += port.read(10, 10.0)

    assert rest == b"abcde"


def test_a_port_has_one_user(ends: tuple[int, Path]) -> None:
    """A port that is open cannot be opened again; one that was closed can."""
    _, path = ends

    with PyserialPort.open(path, baud=115_200) as port:
        with pytest.raises(PortFailedError, match="lock"), PyserialPort.open(path, baud=115_200):
            pass
        port.close()
        port.close()
    with PyserialPort.open(path, baud=115_200):
        pass


def test_what_is_no_port_cannot_be_opened(tmp_path: Path) -> None:
    """Neither nothing nor a file is a port."""
    file = tmp_path / "file"
    file.write_bytes(b"")

    for path in (tmp_path / "nothing", file):
        with pytest.raises(PortFailedError, match="port"), PyserialPort.open(path, baud=115_200):
            pass


def test_a_port_that_went_away_is_an_os_error() -> None:
    """Reading and writing say so; closing does not."""
    master, slave = os.openpty()
    tty.setraw(slave)
    path = Path(os.ttyname(slave))

    with PyserialPort.open(path, baud=115_200) as port:
        os.close(slave)
        os.close(master)
        with pytest.raises(OSError, match=r".+"):
            port.read(1, 10.0)
        with pytest.raises(OSError, match=r".+"):
            port.write(b"x")


def test_a_closed_port_is_an_os_error(ends: tuple[int, Path]) -> None:
    """What was closed is not read."""
    _, path = ends

    with PyserialPort.open(path, baud=115_200) as port:
        port.close()
        with pytest.raises(OSError, match=r".+"):
            port.read(1, 0.0)
