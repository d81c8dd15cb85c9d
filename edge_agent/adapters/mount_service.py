"""The socket on which edge-mount takes requests: from edge-agent's user, and from nobody else."""

import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from edge_agent.mounting.errors import MayNotEraseError
from edge_agent.mounting.messages import (
    MAX_REQUEST_BYTES,
    Progress,
    Reply,
    Request,
    Verb,
    encode,
    parse_request,
)
from protocol.errors import ProtocolError
from protocol.identifiers import BayNumber, DockingId

BAD_REQUEST: Final = "E-MNT-108"
# A bay asks for one thing at a time; there are at most 99.
_MOST_CONNECTIONS: Final = 128
_IDLE_S: Final = 10.0
_AGAIN_S: Final = 1.0
_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid

# Of a bay: which docking was there, the proof, and whether to go on.
Erase = Callable[[BayNumber, DockingId, int, Callable[[Progress], bool]], Reply]

_log = structlog.get_logger(__name__)


class MountService:
    """Answers one request a connection, each in a thread of its own."""

    def __init__(
        self,
        path: Path,
        *,
        client_uid: int,
        client_gid: int,
        mount: Callable[[BayNumber], Reply],
        detach: Callable[[BayNumber], Reply],
        erase: Erase | None = None,
    ) -> None:
        """Listen at *path*; what stood there before is replaced.

        Args:
            path: Of the socket.
            client_uid: Whose requests are obeyed.
            client_gid: Who else may connect, and is sent away.
            mount: Does it.
            detach: Does it.
            erase: Does it; None on a machine that may not.

        Raises:
            OSError: It cannot be bound.
        """
        self._client_uid = client_uid
        self._acts = {Verb.MOUNT: mount, Verb.DETACH: detach}
        self._erase = erase
        self._is_stopping = False
        self._free = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            path.unlink(missing_ok=True)
            self._listener.bind(str(path))
            os.chown(path, 0 if os.geteuid() == 0 else -1, client_gid)
            path.chmod(0o660)
            self._listener.listen(_MOST_CONNECTIONS)
        except OSError:
            self._listener.close()
            raise

    def serve(self) -> None:
        """Take connections until `stop`."""
        while True:
            self._free.acquire()
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                self._free.release()
                if self._is_stopping:
                    return
                _log.error("a connection was not taken", reason=str(error))
                time.sleep(_AGAIN_S)
                continue
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def stop(self) -> None:
        """Take no more connections."""
        self._is_stopping = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _answer(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(_IDLE_S)
                _, uid, _ = _CREDENTIALS.unpack(
                    connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
                )
                if uid != self._client_uid:
                    _log.warning("a stranger asked", uid=uid)
                    return
                asked, fds, _, _ = socket.recv_fds(connection, MAX_REQUEST_BYTES + 1, maxfds=1)
                try:
                    if asked:  # else somebody looked whether we are here
                        connection.sendall(encode(self._act(asked, connection, fds)))
                finally:
                    for fd in fds:
                        os.close(fd)
        except OSError as error:
            _log.warning("a request was not answered", reason=str(error))
        finally:
            self._free.release()

    def _act(self, untrusted: bytes, connection: socket.socket, fds: list[int]) -> Reply:
        try:
            request: Request = parse_request(untrusted)
        except ProtocolError as error:
            return Reply(code=BAD_REQUEST, text=str(error)[:1_000])
        if request.docking_id is not None:
            reply = self._act_to_erase(request.bay, request.docking_id, connection, fds)
        else:
            reply = self._acts[request.verb](request.bay)
        _log.info(
            request.verb.value,
            bay=request.bay,
            volumes=[one.file_system.value for one in reply.volumes],
            code=reply.code,
            text=reply.text,
        )
        return reply

    def _act_to_erase(
        self, bay: BayNumber, docking_id: DockingId, connection: socket.socket, fds: list[int]
    ) -> Reply:
        if self._erase is None:
            text = "edge-mount runs without --may-erase on this machine"
            return Reply(code=MayNotEraseError.code, text=text)
        if not fds:
            return Reply(code=BAD_REQUEST, text="no proof came with it")

        def go_on(progress: Progress) -> bool:
            try:
                connection.sendall(encode(Reply(progress=progress)))
            except OSError:
                return False
            return True

        return self._erase(bay, docking_id, fds[0], go_on)
