import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edge_agent import staying_alive
from edge_agent.adapters import disk_watch
from edge_agent.adapters.disk_watch import DiskWatch, WatchPace


def watch(*folders: Path) -> DiskWatch:
    return DiskWatch(folders, show=lambda _: None, pace=WatchPace(pause_s=0, silent_s=0.01))


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """The service manager's socket; it wants to hear of us every 20 ms."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(tmp_path / "notify"))
    listening.settimeout(60)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    monkeypatch.setattr(staying_alive, "_LONGEST_SILENCE_S", 0.05)
    monkeypatch.setattr(staying_alive, "_THREADS_PAUSE_S", 0.01)
    return listening


async def test_no_sign_of_life_without_threads(manager: socket.socket) -> None:
    """When the dock's own disk holds up every thread, the watchdog is told nothing more."""
    never = threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(max_workers=1))
    holding = loop.run_in_executor(None, never.wait)
    try:
        await staying_alive.stay_alive(asyncio.Event(), watch())
    finally:
        never.set()
        await holding

    assert manager.recv(100) == b"WATCHDOG=1"
    manager.close()


async def test_no_sign_of_life_when_the_disk_is_silent_for_too_long(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that answer are not enough: a disk that hangs for minutes ends in a new start."""
    never = threading.Event()
    monkeypatch.setattr(disk_watch, "_try_all", lambda _: never.wait() and None)
    silent = watch()
    looking = asyncio.create_task(silent.look())
    try:
        await staying_alive.stay_alive(asyncio.Event(), silent)
    finally:
        never.set()
        await looking

    assert manager.recv(100) == b"WATCHDOG=1"
    manager.close()


async def test_signs_of_life_until_the_stop(manager: socket.socket) -> None:
    """With threads that answer, the watchdog is told again and again, until the agent stops."""
    stop = asyncio.Event()
    keeping = asyncio.create_task(staying_alive.stay_alive(stop, watch()))
    loop = asyncio.get_running_loop()
    for _ in range(10):
        assert await loop.run_in_executor(None, manager.recv, 100) == b"WATCHDOG=1"

    stop.set()
    await keeping
    manager.close()
