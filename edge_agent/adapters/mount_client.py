"""Asks edge-mount for one bay's volumes; blocking."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

from edge_agent.mounting.errors import MountServiceError
from edge_agent.mounting.messages import (
    MAX_REPLY_BYTES,
    Progress,
    Reply,
    Request,
    Verb,
    encode,
    parse_reply,
)
from protocol.errors import ProtocolError
from protocol.identifiers import BayNumber, DockingId

# A slow card takes seconds to be mounted, a broken one half a minute for each try of the kernel.
_TIMEOUT_S: Final = 120.0
# A card that is told to forget thousands of files may take minutes until all is on it.
_ERASING_TIMEOUT_S: Final = 600.0


class MountClient:
    """Speaks for one bay."""

    def __init__(self, path: Path, bay: BayNumber) -> None:
        """*path* is the socket of edge-mount."""
        self._path = path
        self._bay = bay

    def mount(self) -> Reply:
        """Have what is in the bay mounted.

        Raises:
            MountServiceError: There is no answer.
        """
        return self._ask(Verb.MOUNT)

    def detach(self) -> Reply:
        """Have all mounts of the bay taken away.

        Raises:
            MountServiceError: There is no answer.
        """
        return self._ask(Verb.DETACH)

    def erase(
        self, docking_id: DockingId, proof_fd: int, go_on: Callable[[Progress], bool]
    ) -> Reply:
        """Have the footage erased that a proof lets go; it may take as long as reading it.

        Args:
            docking_id: Which docking says what is on the recorder.
            proof_fd: See `edge_agent.adapters.proof_file`; at its beginning or not.
            go_on: Told about once a second how far it is; False has it end as soon as it can.

        Raises:
            MountServiceError: There is no answer, or it was not waited for.
        """
        request = Request(verb=Verb.ERASE, bay=self._bay, docking_id=docking_id)
        try:
            with self._connect(_ERASING_TIMEOUT_S) as connection:
                socket.send_fds(connection, [encode(request)], [proof_fd])
                while (reply := self._reply(connection)).progress is not None:
                    if not go_on(reply.progress):
                        raise MountServiceError(f"{self._path}: it was not waited for")
                return reply
        except (OSError, ProtocolError) as error:
            raise MountServiceError(f"{self._path}: {error}") from error

    def _ask(self, verb: Verb) -> Reply:
        try:
            with self._connect(_TIMEOUT_S) as connection:
                connection.sendall(encode(Request(verb=verb, bay=self._bay)))
                return self._reply(connection)
        except (OSError, ProtocolError) as error:
            raise MountServiceError(f"{self._path}: {error}") from error

    def _connect(self, timeout_s: float) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.settimeout(timeout_s)
            connection.connect(str(self._path))
        except OSError:
            connection.close()
            raise
        return connection

    def _reply(self, connection: socket.socket) -> Reply:
        answer = connection.recv(MAX_REPLY_BYTES + 1)
        if not answer:
            raise MountServiceError(f"{self._path}: it takes nothing from this user")
        return parse_reply(answer)
