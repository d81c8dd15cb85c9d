"""Asks edge-mount for one bay's volumes; blocking."""

import socket
from pathlib import Path
from typing import Final

from edge_agent.errors import MountServiceError
from edge_agent.mounting.messages import (
    MAX_REPLY_BYTES,
    Reply,
    Request,
    Verb,
    encode,
    parse_reply,
)
from protocol.errors import ProtocolError
from protocol.identifiers import BayNumber

# A slow card takes seconds to be mounted, a broken one half a minute for each try of the kernel.
_TIMEOUT_S: Final = 120.0


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

    def _ask(self, verb: Verb) -> Reply:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
                connection.settimeout(_TIMEOUT_S)
                connection.connect(str(self._path))
                connection.sendall(encode(Request(verb=verb, bay=self._bay)))
                answer = connection.recv(MAX_REPLY_BYTES + 1)
            if not answer:
                raise MountServiceError(f"{self._path}: it takes nothing from this user")
            return parse_reply(answer)
        except (OSError, ProtocolError) as error:
            raise MountServiceError(f"{self._path}: {error}") from error
