"""A whole site on loopback: PKI, broker, archive, console and one dock, each a real program.

The demo, the end-to-end tests and the benchmark use the same site.
"""

import os
import pwd
import shutil
import stat
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from demo.guard import guard_command, guard_toml
from demo.programs import DemoError, Program, find_tool, free_port, ours, port_answers, run_tool

DOCK: Final = "dock-01"
PROFILES: Final = Path(__file__).resolve().parent.parent / "profiles"
_MARKER: Final = ".bayward-demo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A recorder that the site knows, and who wears it."""

    recorder_id: str
    make: str
    model: str
    serial: str
    officer: str
    officer_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteOptions:
    """What differs between a demo, a test and a measurement.

    Attributes:
        bays: How many bays the dock has.
        read_limit_bytes_s: A folder stands for a recorder behind USB; None reads at full speed.
        evidence: L1, L2 or L3.
        console_port: Tried first; another free one if it is taken.
        usb_ports: The paths of each bay's connector; without any, bays are folders.
        driver: Of all bays; with one that needs it, each has its serial port at `Site.port`.
        reconcile_s: How often dock and archive tell each other again what was not answered.
        has_charger: Whether the dock has one, at `Site.charger`.
        erases: Whether the registry has footage erased from recorders after its receipt.
        guard: None: the no-internet rule is not kept. Else whether edge-guard has a network of its
            own; False: it looks at this machine's, and changes nothing.
    """

    bays: int = 4
    read_limit_bytes_s: int | None = None
    evidence: str = "L2"
    sm3: bool = False
    console_port: int = 0
    usb_ports: tuple[tuple[str, ...], ...] = ()
    driver: str = "mass-storage"
    reconcile_s: int = 30
    has_charger: bool = False
    erases: bool = False
    guard: bool | None = None


class Site:
    """Folders, configurations and programs of one site below *root*."""

    def __init__(self, root: Path, recorders: Sequence[Registered], options: SiteOptions) -> None:
        self.root = root.resolve()
        self.recorders = tuple(recorders)
        self.options = options
        self.archive = self.root / "archive"
        self.pki = self.root / "pki"
        self.logs = self.root / "logs"
        self.staging = self.root / "dock" / "staging"
        self.journal = self.root / "dock" / "journal.sqlite"
        self.control_socket = self.root / "dock" / "control.socket"
        self.mqtt_port = free_port()
        self.https_port = free_port()
        self.console_port = free_port(options.console_port)
        # Where the dock finds them: other ports where something stands between.
        self.dock_mqtt_port, self.dock_https_port = self.mqtt_port, self.https_port
        edge, server = self.config("edge"), self.config("server")
        self.broker = self._program("broker", [find_tool("mosquitto"), "-c", self._broker_conf()])
        self.server = self._program("server-agent", ours("server-agent", "run", "--config", server))
        self.console = self._program(
            "server-console",
            ours("server-console", "run", "--config", self.config("console")),
        )
        self.edge = self._program("edge-agent", ours("edge-agent", "run", "--config", edge))
        self.guard_socket = self.root / "dock" / "guard.sock"
        self.guard = self._program(
            "edge-guard",
            list(guard_command(edge, self.root / "dock", is_alone=bool(options.guard))),
        )

    @property
    def programs(self) -> tuple[Program, ...]:
        """All programs, in the order in which they are started."""
        guard = () if self.options.guard is None else (self.guard,)
        return (self.broker, self.server, self.console, *guard, self.edge)

    @property
    def console_url(self) -> str:
        """Where the console is served."""
        return f"http://127.0.0.1:{self.console_port}/"

    def config(self, program: str) -> str:
        """Return the path of a program's configuration file."""
        return str(self.root / f"{program}.toml")

    def bay(self, number: int) -> Path:
        """Return the folder that stands for what is docked in a bay."""
        return self.root / "bays" / str(number)

    def port(self, number: int) -> Path:
        """Return where the serial port of what is docked in a bay appears."""
        return self.root / "ports" / str(number)

    @property
    def charger(self) -> Path:
        """Where the serial port of the charger appears."""
        return self.root / "ports" / "charger"

    def prepare(self) -> None:
        """Make folders, keys, certificates and configurations.

        Raises:
            DemoError: A tool failed; its last lines are quoted.
        """
        for folder in ("archive", "logs", "dock", "bays", "server", "console"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        (self.root / "dock" / "no-name-server").write_text("# none\n")
        pki = ("server-agent", "pki")
        run_tool(ours(*pki, "init", "--dir", str(self.pki), "--host", "127.0.0.1"))
        run_tool(ours(*pki, "issue", "--dir", str(self.pki), "--dock", DOCK))
        broker = ("server-agent", "broker-config", "--pki", str(self.pki))
        address = ("--host", "127.0.0.1", "--port", str(self.mqtt_port))
        # The keys are ours and stay 0600, so the broker runs as whoever runs the demo.
        me = ("--run-as", pwd.getpwuid(os.getuid()).pw_name)
        run_tool(ours(*broker, "--out", str(self.root / "broker"), *address, *me))
        for name, text in (
            ("registry", self._registry_toml()),
            ("server", self._server_toml()),
            ("console", self._console_toml()),
            ("edge", self._edge_toml()),
        ):
            tomllib.loads(text)
            Path(self.config(name)).write_text(text)

    def add_console_user(self, name: str, role: str) -> str:
        """Create a console account and return the password that was made for it."""
        command = ours("server-console", "add-user", "--config", self.config("console"))
        told = run_tool([*command, "--name", name, "--role", role])
        return told.strip().rsplit(maxsplit=1)[-1]

    def start_archive(self) -> None:
        """Start broker and archive, and return when both answer."""
        self.broker.start()
        self.broker.wait_until(lambda: port_answers(self.mqtt_port))
        self.server.start()
        self.server.wait_until(lambda: port_answers(self.https_port))

    def start_console(self) -> None:
        """Start the console and return when it answers."""
        self.console.start()
        self.console.wait_until(lambda: port_answers(self.console_port))

    def start_dock(self) -> None:
        """Start the dock's agent and return when its socket is there."""
        if self.options.guard is not None and not self.guard.running():
            self.guard_socket.unlink(missing_ok=True)
            self.guard.start()
            self.guard.wait_until(self.guard_socket.exists)
        # A killed agent leaves it behind.
        self.control_socket.unlink(missing_ok=True)
        self.edge.start()
        self.edge.wait_until(self.control_socket.exists)

    def stop(self) -> dict[str, int | None]:
        """End all programs, the dock first; return their exit statuses."""
        return {program.name: program.stop() for program in reversed(self.programs)}

    def _program(self, name: str, arguments: list[str]) -> Program:
        return Program(name, arguments, self.logs / f"{name}.log")

    def _broker_conf(self) -> str:
        return str(self.root / "broker" / "mosquitto.conf")

    def _catalogue_url(self) -> str:
        return f"sqlite+aiosqlite:///{self.root / 'server' / 'catalogue.sqlite'}"

    def _tls(self, name: str, table: str = "tls") -> str:
        return (
            f'[{table}]\nca = "pki/ca.pem"\ncertificate = "pki/{name}/tls.pem"\n'
            f'key = "pki/{name}/tls.key"\n\n'
        )

    def _registry_toml(self) -> str:
        dock = (
            f'[[docks]]\ndock = "{DOCK}"\nname = "一号采集站"\n'
            f'certificate = "pki/{DOCK}/signing.pem"\n\n'
        )
        officers = {one.officer: one.officer_name for one in self.recorders}
        people = "".join(
            f'[[officers]]\nofficer = "{number}"\nname = "{name}"\nsection = "稽查科"\n\n'
            for number, name in officers.items()
        )
        devices = "".join(
            f'[[recorders]]\nrecorder = "{one.recorder_id}"\nmake = "{one.make}"\n'
            f'model = "{one.model}"\nserial = "{one.serial}"\nofficer = "{one.officer}"\n\n'
            for one in self.recorders
        )
        erasing = '[erasing]\npolicy = "after_receipt"\n' if self.options.erases else ""
        return dock + people + devices + erasing

    def _server_toml(self) -> str:
        return (
            'registry = "registry.toml"\n\n'
            '[archive]\nroot = "archive"\n\n'
            f'[catalogue]\nurl = "{self._catalogue_url()}"\n\n'
            f'[mqtt]\nhost = "127.0.0.1"\nport = {self.mqtt_port}\n\n'
            f'[https]\nhost = "127.0.0.1"\nport = {self.https_port}\n\n'
            '[commands]\nsocket = "server/cmd.sock"\n\n'
            + self._tls("archive")
            + '[signing]\nkey = "pki/archive/signing.key"\n'
            'certificate = "pki/archive/signing.pem"\n'
        )

    def _console_toml(self) -> str:
        return (
            f'[listen]\nhost = "127.0.0.1"\nport = {self.console_port}\n\n'
            '[commands]\nsocket = "server/cmd.sock"\n\n'
            f'[catalogue]\nurl = "{self._catalogue_url()}"\n\n'
            '[archive]\nroot = "archive"\n\n'
            '[access]\ndatabase = "console/access.sqlite"\n\n'
            f'[mqtt]\nhost = "127.0.0.1"\nport = {self.mqtt_port}\n\n'
            + self._tls("console", "mqtt.tls")
        )

    def _edge_toml(self) -> str:
        bays = "".join(map(self._bay_toml, range(1, self.options.bays + 1)))
        return (
            f'dock = "{DOCK}"\ntimezone = "Asia/Shanghai"\nprofiles = "{PROFILES}"\n\n'
            f'[archive]\nmqtt_host = "127.0.0.1"\nmqtt_port = {self.dock_mqtt_port}\n'
            f'url = "https://127.0.0.1:{self.dock_https_port}"\n'
            'signing_certificate = "pki/archive/signing.pem"\n\n'
            + self._tls(DOCK)
            + f'[signing]\nkey = "pki/{DOCK}/signing.key"\n\n'
            '[storage]\nstaging = "dock/staging"\njournal = "dock/journal.sqlite"\n'
            "low_water_bytes = 0\n\n"
            f'[ingest]\nevidence = "{self.options.evidence}"\n'
            f"sm3 = {str(self.options.sm3).lower()}\n\n"
            f"[uplink]\nreconcile_s = {self.options.reconcile_s}\n\n"
            '[control]\nsocket = "dock/control.socket"\n\n'
            '[mount]\nuser = "root"\n\n'
            + self._guard_toml()
            + ('[lights]\ncharger = "ports/charger"\n\n' if self.options.has_charger else "")
            + bays
        )

    def _guard_toml(self) -> str:
        alone = self.options.guard
        return "" if alone is None else guard_toml("dock/guard.sock", is_alone=alone)

    def _bay_toml(self, number: int) -> str:
        options = self.options
        lines = ["[[bays]]", f"number = {number}", f'driver = "{options.driver}"']
        if options.usb_ports:
            ports = ", ".join(f'"{port}"' for port in options.usb_ports[number - 1])
            lines += ['source = "usb"', f"ports = [{ports}]"]
        else:
            lines += ['source = "directory"', f'path = "bays/{number}"']
            if options.driver != "mass-storage":
                lines.append(f'control = "ports/{number}"')
        if options.read_limit_bytes_s:
            lines.append(f"read_limit_bytes_s = {options.read_limit_bytes_s}")
        return "\n".join(lines) + "\n\n"


def clear(root: Path, *, keep: Sequence[str] = ()) -> None:
    """Empty a folder that an earlier demo made, but for *keep*; make it if it is not there.

    Raises:
        DemoError: The folder holds something and is no demo's: nothing in it was touched.
    """
    root.mkdir(parents=True, exist_ok=True)
    if any(root.iterdir()) and not (root / _MARKER).exists():
        raise DemoError(f"{root} is not empty and no earlier demo made it; name another DEMO_DIR")
    (root / _MARKER).touch()
    for entry in root.iterdir():
        if entry.name in {_MARKER, *keep}:
            continue
        if entry.is_dir() and not entry.is_symlink():
            _make_removable(entry)
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _make_removable(folder: Path) -> None:
    # Archived bags are read-only, folders too.
    for directory in (folder, *folder.rglob("*/")):
        directory.chmod(directory.stat().st_mode | stat.S_IRWXU)
