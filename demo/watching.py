"""Follow the dock's bays over the agent's own control socket."""

import json
import queue
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from protocol.messages import BayMessage


class Watching:
    """Reads the agent's snapshots in a thread, and hands out each bay that has changed."""

    def __init__(self, control_socket: Path) -> None:
        self._connection = socket.socket(socket.AF_UNIX)
        self._path = control_socket
        self._changes: queue.Queue[BayMessage] = queue.Queue()
        self._reader = threading.Thread(target=self._read, name="watching", daemon=True)

    def __enter__(self) -> Self:
        """Connect, and begin to read."""
        self._connection.connect(str(self._path))
        self._connection.sendall(b'{"command": "watch"}\n')
        self._reader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Hang up."""
        self._connection.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._connection.close()

    def next(self, *, timeout_s: float) -> BayMessage:
        """Return the next bay that has changed.

        Raises:
            queue.Empty: None has, for *timeout_s*.
        """
        return self._changes.get(timeout=timeout_s)

    def _read(self) -> None:
        seen: dict[int, BayMessage] = {}
        with self._connection.makefile("rb") as lines:
            for line in lines:
                for told in json.loads(line)["bays"]:
                    bay = msgspec.convert(told, BayMessage)
                    if seen.get(bay.bay) != bay:
                        seen[bay.bay] = bay
                        self._changes.put(bay)
