"""The console as a program, with a real broker, real certificates and docks that talk.

To look at it by hand, with every state of a bay and one bay that reads:

    python -m tests.simulators.console_site FOLDER
"""

import asyncio
import contextlib
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from protocol import strict_json
from protocol.identifiers import DockId
from protocol.messages import Alert, BayMessage, DockStatus
from protocol.topics import Channel, of_bay, of_dock
from runtime import tls
from runtime.link import LinkSettings, open_link
from server_agent.broker.configuration import acl
from tests.simulators.broker import Broker
from tests.simulators.certificates import Authority, Pair
from tests.simulators.console_data import DOCK, OTHER_DOCK, FilledSite, console_toml, fill_site
from tests.simulators.console_docks import evening, ingesting

Say = Callable[[DockStatus | BayMessage | Alert], Awaitable[None]]

PASSWORD: Final = "correct horse battery"
_LISTENS: Final = re.compile(r"console listens.*?(https?://127\.0\.0\.1:(\d+))")
_START_TIMEOUT_S: Final = 60.0
_STOP_TIMEOUT_S: Final = 30.0
_PAUSE_S: Final = 0.05


class ConsoleSite:
    """A filled site with its broker and its console; both run for the length of the block."""

    def __init__(self, root: Path, *, recordings: int = 6, clip: bytes = b"clip") -> None:
        """Fill the folders and write the configuration; nothing runs yet."""
        self.site: FilledSite = fill_site(root, recordings=recordings, clip=clip)
        self.address = ""
        self.authority = Authority(root / "pki")
        self.broker = Broker(root / "broker", authority=self.authority, acl=acl().splitlines())
        self._docks = {dock: self.authority.issue_tls(dock) for dock in (DOCK, OTHER_DOCK)}
        own = self.authority.issue_tls("console")
        paths = {"ca": self.authority.ca, "certificate": own.certificate, "key": own.key}
        self.config = root / "console.toml"
        self.config.write_text(console_toml(self.site, mqtt_port=self.broker.port, tls=paths))
        self._log = root / "console.log"
        self._process: subprocess.Popen[bytes] | None = None

    def add_user(self, name: str, role: str, *more: str) -> None:
        """Make an account with PASSWORD, by the program itself."""
        subprocess.run(
            [
                *_program(),
                *("add-user", "--config", str(self.config), "--password-stdin"),
                *("--name", name, "--role", role, *more),
            ],
            input=f"{PASSWORD}\n".encode(),
            check=True,
            capture_output=True,
        )

    def start(self) -> None:
        """Start the console, and return when it answers; the port stays over restarts."""
        said_before = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_program(), "run", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not (found := _LISTENS.search(self.log()[said_before:])):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the console did not start: {self.log()}")
            time.sleep(_PAUSE_S)
        self.address = found[1]
        self.config.write_text(
            self.config.read_text().replace("port = 0\n", f"port = {found[2]}\n")
        )

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End the console, and return its exit status; 0 if it was not running."""
        if self._process is None:
            return 0
        self._process.send_signal(how)
        status = self._process.wait(_STOP_TIMEOUT_S)
        self._process = None
        return status

    def freeze(self) -> None:
        """Let the console hang: connections stay, nothing is answered until `thaw`."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise RuntimeError("the console is not running")
        self._process.send_signal(number)

    def log(self) -> str:
        """Return what the console has logged."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self._log.read_text()) if self._log.exists() else ""

    @contextlib.asynccontextmanager
    async def voice(self, dock: DockId = DOCK) -> AsyncIterator[Say]:
        """Connect as a dock; what is said is published as a dock publishes it."""
        async with open_link(self._link(dock)) as link:

            async def say(message: DockStatus | BayMessage | Alert) -> None:
                await link.publish(
                    _topic(message),
                    strict_json.encode(message),
                    retain=not isinstance(message, Alert),
                )

            yield say

    @contextlib.asynccontextmanager
    async def raw_voice(
        self, dock: DockId = DOCK
    ) -> AsyncIterator[Callable[[str, bytes], Awaitable[object]]]:
        """Connect as a dock that says what it likes on its own topics."""
        async with open_link(self._link(dock)) as link:
            yield link.publish

    def _link(self, dock: DockId) -> LinkSettings:
        pair: Pair = self._docks[dock]
        context = tls.client_context(
            ca=self.authority.ca, certificate=pair.certificate, key=pair.key
        )
        return LinkSettings(
            host=self.broker.host, port=self.broker.port, client_id=f"test-{dock}", tls=context
        )

    def __enter__(self) -> Self:
        self.broker.__enter__()
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop(signal.SIGKILL)
        self.broker.__exit__(exc_type, exc, trace)


async def say_evening(site: ConsoleSite, at: datetime) -> None:
    """Let both docks say how an evening stands."""
    for dock in (DOCK, OTHER_DOCK):
        async with site.voice(dock) as say:
            for message in evening(at):
                if message.dock == dock:
                    await say(message)


def footage(folder: Path) -> bytes:
    """Return three seconds of H.264 video with sound, made by ffmpeg."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise RuntimeError("ffmpeg is not installed")
    made = folder / "clip.mp4"
    subprocess.run(
        [
            *(ffmpeg, "-nostdin", "-loglevel", "error", "-y"),
            *("-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25"),
            *("-f", "lavfi", "-i", "sine=frequency=440"),
            *("-t", "3", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-preset", "ultrafast"),
            *("-c:a", "aac", "-movflags", "+faststart", str(made)),
        ],
        check=True,
        capture_output=True,
    )
    return made.read_bytes()


def _program() -> list[str]:
    return [sys.executable, "-m", "server_agent.console.cli"]


def _topic(message: DockStatus | BayMessage | Alert) -> str:
    if isinstance(message, BayMessage):
        return of_bay(message.dock, message.bay)
    channel = Channel.STATUS if isinstance(message, DockStatus) else Channel.ALERTS
    return of_dock(message.dock, channel)


async def _play(site: ConsoleSite) -> None:
    await say_evening(site, datetime.now(UTC))
    async with site.voice() as say:
        for percent in range(1, 10_000):
            await say(ingesting(1, percent % 101, at=datetime.now(UTC)))
            await asyncio.sleep(1)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    with ConsoleSite(folder, recordings=60, clip=footage(folder)) as shown:
        for role in ("device_administrator", "system_administrator", "auditor"):
            shown.add_user(role, role)
        sys.stdout.write(f"{shown.address}  device_administrator  {PASSWORD}\n")
        sys.stdout.flush()
        asyncio.run(_play(shown))
