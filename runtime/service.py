"""Being a service: readiness, watchdog and stop signals, as systemd gives and takes them."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from typing import Final

_SEND_TIMEOUT_S: Final = 5.0
_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def notify(state: str) -> None:
    """Tell the service manager something; does nothing if none is listening.

    Args:
        state: Lines of sd_notify(3), such as ``READY=1`` or ``STATUS=7 bays``.

    Raises:
        OSError: The service manager named a socket but does not take messages there.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.settimeout(_SEND_TIMEOUT_S)
        sender.connect(address)
        sender.sendall(state.encode())


@contextlib.contextmanager
def stop_event() -> Iterator[asyncio.Event]:
    """Within the block, SIGTERM and SIGINT set an event instead of ending the process.

    The first signal asks for an orderly stop. A second one acts as if nobody listened: it is for
    the operator who will not wait. To be entered in the main thread, inside the running loop.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def asked() -> None:
        stop.set()
        forget()

    def forget() -> None:
        for number in _STOP_SIGNALS:
            loop.remove_signal_handler(number)

    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, asked)
    try:
        yield stop
    finally:
        forget()


async def keep_watchdog(stop: asyncio.Event) -> None:
    """Tell the service manager that the loop is alive, twice as often as it asks, until *stop*.

    Returns at once if no watchdog was asked for, or if it was asked of another process.

    Raises:
        OSError: As `notify`.
    """
    interval_us = os.environ.get("WATCHDOG_USEC")
    if not interval_us or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return
    pause_s = int(interval_us) / 2_000_000
    while not stop.is_set():
        notify("WATCHDOG=1")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await stop.wait()
