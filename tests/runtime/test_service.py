import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from runtime.service import keep_watchdog, notify, stop_event

PATIENCE_S: Final = 60
USEC_A_PING: Final = 20_000


@pytest.fixture
def service_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What systemd is to a service: a datagram socket whose address is in the environment."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.settimeout(PATIENCE_S)
        listening.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.delenv("WATCHDOG_USEC", raising=False)
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        yield listening


def said(listening: socket.socket) -> bytes:
    return listening.recv(1 << 12)


def silent(listening: socket.socket) -> bool:
    listening.settimeout(0)
    try:
        listening.recv(1)
    except BlockingIOError:
        return True
    return False


def test_the_service_manager_is_told(service_manager: socket.socket) -> None:
    """A notification arrives as one datagram, all its lines in it."""
    notify("READY=1\nSTATUS=七个舱位")

    assert said(service_manager).decode() == "READY=1\nSTATUS=七个舱位"


def test_an_abstract_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that begins with @ is in the abstract namespace."""
    name = f"bayward-test-{os.getpid()}-{os.urandom(8).hex()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        notify("READY=1")

        assert said(listening) == b"READY=1"


@pytest.mark.parametrize("address", [None, ""])
def test_without_a_service_manager(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Started by hand, there is nobody to tell."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)

    notify("READY=1")


def test_a_deaf_service_manager_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address where nobody listens is an error, not a silence."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))

    with pytest.raises(FileNotFoundError):
        notify("READY=1")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_asks_to_stop(number: signal.Signals) -> None:
    """The first signal sets the event; the process goes on, to stop in good order."""
    with stop_event() as stop:
        assert not stop.is_set()
        signal.raise_signal(number)
        async with asyncio.timeout(PATIENCE_S):
            await stop.wait()


async def test_a_second_signal_is_obeyed_at_once() -> None:
    """Who asks twice is not made to wait."""
    with stop_event() as stop:
        signal.raise_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            await stop.wait()

        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


async def test_signals_are_given_back() -> None:
    """After the block, signals do what they did before."""
    with stop_event():
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL

    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_the_watchdog_is_fed_until_the_stop(
    service_manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service manager hears from a living loop again and again, until it stops."""
    monkeypatch.setenv("WATCHDOG_USEC", str(USEC_A_PING))
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    stop = asyncio.Event()
    feeding = asyncio.create_task(keep_watchdog(stop))
    heard = [await asyncio.to_thread(said, service_manager) for _ in range(3)]
    stop.set()
    async with asyncio.timeout(PATIENCE_S):
        await feeding

    assert heard == [b"WATCHDOG=1"] * 3


@pytest.mark.parametrize("environment", [{}, {"WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"}])
async def test_a_watchdog_that_is_not_ours_is_not_fed(
    service_manager: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
) -> None:
    """Without a watchdog, or with one for another process, the task ends at once."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    async with asyncio.timeout(PATIENCE_S):
        await keep_watchdog(asyncio.Event())

    assert silent(service_manager)
