"""edge-guard itself, as root of a network that is a namespace."""

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from demo.programs import Program
from edge_agent.adapters.guard_link import read_word
from edge_agent.errors import GuardError
from edge_agent.guard.messages import Word
from protocol.manifest import Isolation
from tests.simulators.lan import ARCHIVE, LAN, LAN6, Lan, lan

CONFIG: Final = f"""
[archive]
mqtt_host = "{ARCHIVE}"
url = "https://{ARCHIVE}:8443"
signing_certificate = "not looked at"

[guard]
interfaces = ["eth0"]
networks = ["{LAN}", "{LAN6}"]
ssh_from = "192.168.10.9"
socket = "guard.sock"
"""
PATIENCE_S: Final = 60.0


@dataclass(kw_only=True)
class Guarded:
    """A dock's network, and edge-guard in it."""

    site: Lan
    folder: Path
    program: Program

    @property
    def config(self) -> Path:
        return self.folder / "edge.toml"

    @property
    def resolvers(self) -> Path:
        return self.folder / "resolv.conf"

    def command(self, *words: str) -> list[str]:
        """Return how edge-guard is run on the dock: in its network, with its own resolv.conf."""
        see = f'mount --bind {self.resolvers} /etc/resolv.conf && exec "$@"'
        own_files = ("unshare", "--mount", "--propagation", "private", "sh", "-c", see, "sh")
        guard = (sys.executable, "-m", "edge_agent.guard_cli", "--config", str(self.config))
        return self.site.dock.enter(*own_files, *guard, *words)

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(*words), capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )

    def start(self) -> None:
        """Start it, and wait until it has looked."""
        (self.folder / "guard.sock").unlink(missing_ok=True)
        self.program.start()
        self.program.wait_until(self._answers, timeout_s=PATIENCE_S)
        self.until(lambda word: word.began_at is not None or word.isolation is Isolation.HOLDING)

    def _answers(self) -> bool:
        # Its socket has a name a moment before anybody listens.
        with contextlib.suppress(GuardError):
            self.word()
            return True
        return False

    def word(self) -> Word:
        return read_word(self.folder / "guard.sock")

    def until(self, condition: Callable[[Word], bool]) -> Word:
        """Return what it says as soon as that fulfils a condition."""
        self.program.wait_until(lambda: condition(self.word()), timeout_s=PATIENCE_S)
        return self.word()

    def until_restored(self, code: str) -> Word:
        """Return what it says when a breach of this kind is over."""
        return self.until(
            lambda word: (
                word.isolation is Isolation.RESTORED and code in {one.code for one in word.incident}
            )
        )


@contextlib.contextmanager
def prepared(*, default_route: bool) -> Iterator[Guarded]:
    """Make the network; edge-guard is started by who wants it."""
    with (
        lan(default_route=default_route) as site,
        tempfile.TemporaryDirectory(prefix="gd-") as name,
    ):
        folder = Path(name)
        (folder / "edge.toml").write_text(CONFIG)
        (folder / "resolv.conf").write_text("# none\n")
        made = Guarded(site=site, folder=folder, program=Program("edge-guard", [], folder / "log"))
        made.program.arguments = made.command("run")
        try:
            yield made
        finally:
            made.program.stop()
