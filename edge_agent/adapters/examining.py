"""Looks at everything a technician would look at on a dock; blocking, each look for a while.

A look that fails or does not end is a verdict like any other: nothing keeps the others from being
made.
"""

import ctypes
import http.client
import os
import shutil
import socket
import sqlite3
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509

from edge_agent.adapters.guard_link import read_word
from edge_agent.adapters.journal import VERSION
from edge_agent.adapters.presences import check_drivers
from edge_agent.adapters.usb_tree import UsbTree
from edge_agent.config import EdgeConfig, check_config
from edge_agent.doctor.verdicts import (
    ClockState,
    Verdict,
    about_certificate,
    about_clock,
    about_isolation,
    about_ports,
    about_space,
)
from edge_agent.errors import GuardError
from edge_agent.mounting.port_paths import PortPath
from protocol.messages import Health
from runtime.tls import client_context

_PATIENCE_S: Final = 20.0
_CONNECT_S: Final = 5.0
# <sys/timex.h>
_STA_UNSYNC: Final = 0x0040
_TIME_ERROR: Final = 5

Look = Callable[[], Verdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """Looks at one dock; *clock* is the time, aware."""

    config: EdgeConfig
    clock: Callable[[], datetime]
    patience_s: float = _PATIENCE_S

    def verdicts(self) -> Iterator[Verdict]:
        """Yield what was found, one thing after the other."""
        yield from _about_configuration(self.config)
        for subject, look in self._looks():
            yield _bounded(subject, look, self.patience_s)

    def _looks(self) -> Iterator[tuple[str, Look]]:
        config = self.config
        for subject, path in (
            ("dock's certificate", config.tls.certificate),
            ("site's authority", config.tls.ca),
            ("archive's certificate", config.archive.signing_certificate),
        ):
            yield subject, partial(_certificate, subject, path, self.clock)
        yield "clock", lambda: about_clock(_clock_state())
        yield "staging disk", lambda: _space(config)
        yield "disk health", lambda: _disk_health(config.storage.staging)
        yield "journal", lambda: _journal(config.storage.journal)
        yield "broker", lambda: _broker(config)
        yield "archive", lambda: _archive(config)
        yield "agent", lambda: _agent(config.control.socket)
        if any(bay.source == "usb" for bay in config.bays):
            yield "bay map", lambda: _ports(config, UsbTree())
            yield "edge-mount", lambda: _edge_mount(config.mount.socket)
        yield "no-internet guard", lambda: _guard(config)


def _bounded(subject: str, look: Look, patience_s: float) -> Verdict:
    """Return what a look finds; a look that hangs is left behind."""
    found: list[Verdict] = []

    def run() -> None:
        try:
            found.append(look())
        except Exception as error:  # noqa: BLE001 - whatever a look meets is what was found
            found.append(
                Verdict(
                    subject=subject,
                    health=Health.BAD,
                    seen=f"{type(error).__name__}: {error}",
                    remedy="see what this says, and look again",
                )
            )

    looking = threading.Thread(target=run, daemon=True, name=f"doctor {subject}")
    looking.start()
    looking.join(patience_s)
    if not found:
        return Verdict(
            subject=subject,
            health=Health.BAD,
            seen=f"no answer within {patience_s:.0f} s",
            remedy="it hangs: look at the disk or the network behind it",
        )
    return found[0]


def _about_configuration(config: EdgeConfig) -> Iterator[Verdict]:
    checks = (*check_config(config), *check_drivers(config.bays))
    wrong = [check for check in checks if check.problem is not None]
    for check in wrong:
        yield Verdict(
            subject=check.name,
            health=Health.BAD,
            seen=check.problem or "",
            remedy=check.remedy or "",
        )
    if not wrong:
        yield Verdict(
            subject="configuration", health=Health.GOOD, seen=f"{len(checks)} checks passed"
        )


def _certificate(subject: str, path: Path, clock: Callable[[], datetime]) -> Verdict:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    return about_certificate(subject, certificate.not_valid_after_utc, clock())


def _clock_state() -> ClockState | None:
    # struct timex, adjtimex(2): modes, offset, freq, maxerror, esterror, status, …
    words = (ctypes.c_long * 64)()
    adjtimex = getattr(ctypes.CDLL(None), "adjtimex", None)
    state = -1 if adjtimex is None else adjtimex(words)
    if state < 0:
        return None
    is_synchronised = state != _TIME_ERROR and not words[5] & _STA_UNSYNC
    return ClockState(is_synchronised=is_synchronised, error_s=words[3] / 1e6)


def _space(config: EdgeConfig) -> Verdict:
    folder = config.storage.staging
    found = os.statvfs(folder if folder.exists() else folder.parent)
    return about_space(
        free_bytes=found.f_bavail * found.f_frsize,
        free_inodes=found.f_favail if found.f_files else 1 << 32,  # some file systems count none
        low_water_bytes=config.storage.low_water_bytes,
        min_free_bytes=config.storage.min_free_bytes,
    )


def _disk_health(folder: Path) -> Verdict:
    subject = "disk health"
    tool = shutil.which("smartctl", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if tool is None:
        return Verdict(
            subject=subject,
            health=Health.UNKNOWN,
            seen="smartctl is not installed",
            remedy="install smartmontools, if the disk can tell",
        )
    number = (folder if folder.exists() else folder.parent).stat().st_dev
    device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve()
    disk = device.parent if (device / "partition").exists() else device
    told = subprocess.run(  # noqa: S603 - Debian's own tool, on a name of the kernel's
        [tool, "--health", f"/dev/{disk.name}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=_PATIENCE_S,
    )
    # Bit 3 of its status: the disk says that it is failing (smartctl(8)).
    if told.returncode & 0b1000:
        return Verdict(
            subject=subject,
            health=Health.BAD,
            seen=f"/dev/{disk.name} says that it is failing",
            remedy="let the archive receive everything, then replace the disk",
        )
    if told.returncode & 0b111:
        seen = f"/dev/{disk.name} does not tell"
        return Verdict(subject=subject, health=Health.UNKNOWN, seen=seen)
    return Verdict(subject=subject, health=Health.GOOD, seen=f"/dev/{disk.name} passed")


def _journal(path: Path) -> Verdict:
    subject = "journal"
    if not path.exists():
        seen = "there is none yet: it is made at the first start"
        return Verdict(subject=subject, health=Health.GOOD, seen=seen)
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=_CONNECT_S)) as opened:
        [(version,)] = opened.execute("PRAGMA user_version")
        [(said,), *_] = opened.execute("PRAGMA quick_check(1)")
    if said != "ok":
        return Verdict(
            subject=subject,
            health=Health.BAD,
            seen=f"{said}",
            remedy="stop the agent, copy journal and staging away, and report it",
        )
    seen = f"sound, version {version} of {VERSION}"
    return Verdict(subject=subject, health=Health.GOOD, seen=seen)


def _context(config: EdgeConfig) -> ssl.SSLContext:
    tls = config.tls
    return client_context(ca=tls.ca, certificate=tls.certificate, key=tls.key)


def _broker(config: EdgeConfig) -> Verdict:
    host, port = config.archive.mqtt_host, config.archive.mqtt_port
    try:
        with (
            socket.create_connection((host, port), timeout=_CONNECT_S) as plain,
            _context(config).wrap_socket(plain, server_hostname=host) as secured,
        ):
            seen = f"{host}:{port} answers, {secured.version()}"
    except OSError as error:
        return _unreachable("broker", f"{host}:{port}", error)
    return Verdict(subject="broker", health=Health.GOOD, seen=seen)


def _archive(config: EdgeConfig) -> Verdict:
    parts = urlsplit(config.archive.url)
    host, port = parts.hostname or "", parts.port or 443
    asking = http.client.HTTPSConnection(host, port, timeout=_CONNECT_S, context=_context(config))
    try:
        with closing(asking):
            asking.request("GET", "/healthz")
            status = asking.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return _unreachable("archive", f"{host}:{port}", error)
    if status != http.client.OK:
        return Verdict(
            subject="archive",
            health=Health.BAD,
            seen=f"{host}:{port} answers {status}",
            remedy="look at server-agent's log on the archive machine",
        )
    return Verdict(subject="archive", health=Health.GOOD, seen=f"{host}:{port} is well")


def _unreachable(subject: str, where: str, error: Exception) -> Verdict:
    return Verdict(
        subject=subject,
        health=Health.BAD,
        seen=f"{where}: {error}",
        remedy="look at the cable, the address in edge.toml, and the service there",
    )


def _agent(path: Path) -> Verdict:
    try:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(_CONNECT_S)
            asking.connect(str(path))
    except OSError as error:
        return Verdict(
            subject="agent",
            health=Health.BAD,
            seen=f"not running: {error.strerror}",
            remedy="systemctl start edge-agent; journalctl -u edge-agent",
        )
    return Verdict(subject="agent", health=Health.GOOD, seen="running; `edge-agent status`")


def _ports(config: EdgeConfig, tree: UsbTree) -> Verdict:
    ports = [PortPath(port) for bay in config.bays for port in bay.ports or ()]
    return about_ports(port for port in ports if not tree.has_hub_of(port))


def _edge_mount(path: Path) -> Verdict:
    remedy = "systemctl start edge-mount; journalctl -u edge-mount"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
            asking.settimeout(_CONNECT_S)
            asking.connect(str(path))
    except PermissionError:
        seen = "running; this user may not ask it"
        return Verdict(subject="edge-mount", health=Health.GOOD, seen=seen)
    except OSError as error:
        seen = f"not running: {error.strerror}"
        return Verdict(subject="edge-mount", health=Health.BAD, seen=seen, remedy=remedy)
    return Verdict(subject="edge-mount", health=Health.GOOD, seen="running")


def _guard(config: EdgeConfig) -> Verdict:
    if config.guard is None:
        return Verdict(
            subject="no-internet guard",
            health=Health.SOON,
            seen="nothing enforces the rule: the configuration has no [guard]",
            remedy="set it up: docs/no-internet.md",
        )
    try:
        word = read_word(config.guard.socket)
    except GuardError as error:
        return Verdict(
            subject="no-internet guard",
            health=Health.BAD,
            seen=str(error),
            remedy="systemctl status edge-guard",
        )
    return about_isolation(
        word.isolation, [one.text for one in (*word.open, *word.incident)], word.since
    )
