"""A real mosquitto on this machine, for one test."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.simulators.certificates import Authority

HOST: Final = "127.0.0.1"
BROKER_NAME: Final = "broker"

_START_TIMEOUT_S: Final = 30.0
_STOP_TIMEOUT_S: Final = 30.0
_PROBE_PAUSE_S: Final = 0.02


class Broker:
    """A mosquitto with its configuration, log and data in one directory.

    As a context manager it runs for the length of the block. The port stays the same over
    restarts, and no other process can take it meanwhile.
    """

    def __init__(
        self,
        directory: Path,
        *,
        authority: Authority | None = None,
        acl: Sequence[str] = (),
        extra: Sequence[str] = (),
        configure: Callable[[int], str] | None = None,
    ) -> None:
        """Write the configuration; nothing runs yet.

        Args:
            directory: Made if missing.
            authority: With one: mutual TLS, the user name is the certificate's common name.
                Without: plain, the user name is whatever a client says.
            acl: Lines of mosquitto's ACL file; without any, everybody may do everything.
            extra: More lines of configuration. ``persistence true`` lets sessions and retained
                messages outlive an orderly stop.
            configure: Returns the whole configuration for a port, instead of all of the above.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self.host = HOST
        self.log = directory / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._reservation = _reserve()
        self.port: int = self._reservation.getsockname()[1]
        self._configuration = directory / "mosquitto.conf"
        if configure is None:
            lines = _configuration(directory, self.port, authority=authority, acl=acl)
            self._configuration.write_text("\n".join([*lines, *extra, ""]))
        else:
            self._configuration.write_text(configure(self.port))

    @property
    def pid(self) -> int:
        """The process id of the running broker."""
        return self._running().pid

    def start(self) -> None:
        """Start it, and return when its port answers.

        It dies with the thread that starts it, so that a test run that is killed leaves no broker.

        Raises:
            RuntimeError: It ended instead, or did not answer in time; with its log.
        """
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", program, "-c", str(self._configuration)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"mosquitto did not start: {self.log.read_text()}")
            time.sleep(_PROBE_PAUSE_S)

    def stop(self) -> None:
        """End it in good order: clients are told, persistent state is saved."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut does; nothing if it is not running."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Let it hang: connections stay, nothing is answered until `thaw` or `kill`."""
        self._running().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        self._running().send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        self._reservation.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the broker is not running")
        return self._process

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        self._process.wait(_STOP_TIMEOUT_S)
        self._process = None

    def _answers(self) -> bool:
        try:
            socket.create_connection((self.host, self.port), timeout=1).close()
        except OSError:
            return False
        return True


def _reserve() -> socket.socket:
    """Take a port without listening: mosquitto, which sets SO_REUSEADDR too, still can."""
    reservation = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reservation.bind((HOST, 0))
    return reservation


def _configuration(
    directory: Path, port: int, *, authority: Authority | None, acl: Sequence[str]
) -> list[str]:
    lines = [f"listener {port} {HOST}", f"persistence_location {directory}/"]
    if os.geteuid() == 0:
        # Otherwise mosquitto would become a user who cannot read the test's files.
        lines.append("user root")
    if acl:
        rules = directory / "acl"
        rules.write_text("\n".join([*acl, ""]))
        lines.append(f"acl_file {rules}")
    if authority is None:
        return [*lines, "allow_anonymous true"]
    pair = authority.issue_tls(BROKER_NAME)
    return [
        *lines,
        f"cafile {authority.ca}",
        f"certfile {pair.certificate}",
        f"keyfile {pair.key}",
        "require_certificate true",
        "use_identity_as_username true",
        "allow_anonymous false",
    ]
