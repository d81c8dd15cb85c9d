"""The socket on which edge-mount takes requests: from edge-agent's user, and from nobody else."""

import contextlib
import os
import select
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import structlog

from edge_agent.mounting.errors import BayBusyError, MayNotEraseError
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
from protocol.identifiers import HIGHEST_BAY, BayNumber, DockingId

BAD_REQUEST: Final = "E-MNT-108"
# Of one bay: what is obeyed, and what waits for that. edge-agent asks to erase and, when the
# recorder leaves meanwhile, to detach; and again, of a bay that hangs, after it gave up waiting.
MOST_IN_LINE: Final = 3
# The rest is for callers that have not said yet which bay they ask for.
_MOST_CONNECTIONS: Final = HIGHEST_BAY * MOST_IN_LINE + 31
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
        self._lines = _Lines()
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
                        reply = self._act(asked, connection, fds)
                        connection.sendall(encode(reply))
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
        try:
            with self._lines.turn(request.bay):
                reply = self._obey(request, connection, fds)
        except BayBusyError as error:
            reply = Reply(code=error.code, text=str(error))
        _log.info(
            request.verb.value,
            bay=request.bay,
            volumes=[one.file_system.value for one in reply.volumes],
            code=reply.code,
            text=reply.text,
        )
        return reply

    def _obey(self, request: Request, connection: socket.socket, fds: list[int]) -> Reply:
        if _has_left(connection):
            return Reply(text="nobody waits for it any more")
        if request.docking_id is not None:
            return self._act_to_erase(request.bay, request.docking_id, connection, fds)
        return self._acts[request.verb](request.bay)

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


class _Lines:
    """Has one request of each bay obeyed at a time; a bay that hangs holds up no other one."""

    def __init__(self) -> None:
        self._counting = threading.Lock()
        self._in_line: dict[BayNumber, int] = defaultdict(int)
        self._turns = {BayNumber(number): threading.Lock() for number in range(1, HIGHEST_BAY + 1)}

    @contextlib.contextmanager
    def turn(self, bay: BayNumber) -> Iterator[None]:
        """Wait until it is one's turn; BayBusyError at once if too many wait already."""
        with self._counting:
            if self._in_line[bay] >= MOST_IN_LINE:
                text = f"bay {bay} has not ended what it was asked before; {MOST_IN_LINE - 1} wait"
                raise BayBusyError(text)
            self._in_line[bay] += 1
        try:
            with self._turns[bay]:
                yield
        finally:
            with self._counting:
                self._in_line[bay] -= 1


def _has_left(connection: socket.socket) -> bool:
    """Return whether who asked has hung up, as one does who gave up waiting."""
    poll = select.poll()
    poll.register(connection, 0)  # that it was closed is told in any case
    return any(event & select.POLLHUP for _, event in poll.poll(0))
