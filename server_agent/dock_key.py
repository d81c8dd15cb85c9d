"""What a new dock is given on a USB key; from then on its private keys are nowhere here."""

import tomllib
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import Final

from protocol.identifiers import DockId
from protocol.provisioning import DockKey, Keys
from runtime.durable import replace_file
from server_agent.config import ServerConfig
from server_agent.pki.errors import CertificateKeptError
from server_agent.pki.folder import PkiFolder

_EDGE_TOML: Final = """\
dock = "{dock}"
timezone = "{timezone}"
profiles = "/opt/bayward/profiles"

[archive]
mqtt_host = "{mqtt_host}"
mqtt_port = {mqtt_port}
url = "https://{https_host}:{https_port}"
signing_certificate = "pki/archive-signing.pem"

[tls]
ca = "pki/ca.pem"
certificate = "pki/tls.pem"
key = "pki/tls.key"

[signing]
key = "pki/signing.key"

[storage]
staging = "/var/lib/bayward/edge/staging"
journal = "/var/lib/bayward/edge/journal.sqlite"

[control]
socket = "/run/bayward/edge.sock"
"""
_GUARD: Final = """
[guard]
interfaces = [{interfaces}]
networks = [{networks}]
"""
_REGISTERED: Final = """
[[docks]]
dock = "{dock}"
name = "{dock}"
certificate = "{certificate}"
"""
_PRIVATE: Final = ("tls.key", "signing.key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """The network that a dock is kept in, by edge-guard.

    Attributes:
        interfaces: Of the dock, that lead to it; as the kernel names them.
        networks: In which the dock, the archive and the broker are.
        time_server: None if there is none.
        ssh_from: From where a technician comes; None for nobody.
    """

    interfaces: tuple[str, ...]
    networks: tuple[IPv4Network | IPv6Network, ...]
    time_server: IPv4Address | IPv6Address | None = None
    ssh_from: IPv4Address | IPv6Address | None = None


def new_dock_key(
    config: ServerConfig,
    pki: PkiFolder,
    dock: DockId,
    *,
    timezone: str,
    bays: str,
    now: datetime,
    station: Station | None = None,
) -> DockKey:
    """Issue a dock's keys, if it has none yet, and return all that it needs.

    Args:
        config: Where broker and archive are.
        pki: The site's authority.
        dock: Its name.
        timezone: Where it stands, as edge.toml names it.
        bays: The ``[[bays]]`` of its edge.toml; empty where the dock finds them out itself.
        now: Aware.
        station: None if nothing keeps the dock off the internet.

    Raises:
        PkiError: The authority's folder is not in order, or the dock has its keys already.
        ValueError: An address is in none of the station's networks, or is a name.
        OSError: Our disk failed.
    """
    hosts = {config.mqtt.host, config.https.host}
    for host in hosts:
        ip_address(host)  # systemd lets docks out to addresses
    rule = "" if station is None else _guard(station, hosts)
    folder = pki.directory / dock
    for certificate in folder.glob("*.pem"):
        if not certificate.with_suffix(".key").exists():
            raise CertificateKeptError(
                f"{dock} was given its keys already; if they are lost, move {folder} away first"
            )
    pki.issue_dock(dock, now)
    text = _EDGE_TOML.format(
        dock=dock,
        timezone=timezone,
        mqtt_host=config.mqtt.host,
        mqtt_port=config.mqtt.port,
        https_host=f"[{config.https.host}]" if ":" in config.https.host else config.https.host,
        https_port=config.https.port,
    )
    return DockKey(
        format="bayward-dock/1",
        dock=dock,
        edge_toml=f"{text}{rule}\n{bays}" if bays else text + rule,
        addresses=tuple(sorted(hosts)),
        keys=Keys(
            ca=pki.ca.read_text(),
            tls_certificate=(folder / "tls.pem").read_text(),
            tls_key=(folder / "tls.key").read_text(),
            signing_certificate=(folder / "signing.pem").read_text(),
            signing_key=(folder / "signing.key").read_text(),
            archive_signing_certificate=config.signing.certificate.read_text(),
        ),
    )


def _guard(station: Station, hosts: set[str]) -> str:
    others = (one for one in (station.time_server, station.ssh_from) if one is not None)
    for address in (*map(ip_address, sorted(hosts)), *others):
        if not any(address in network for network in station.networks):
            raise ValueError(f"{address} is in none of the station's networks")
    text = _GUARD.format(
        interfaces=", ".join(f'"{one}"' for one in station.interfaces),
        networks=", ".join(f'"{one}"' for one in station.networks),
    )
    if station.time_server is not None:
        text += f'time_server = "{station.time_server}"\n'
    if station.ssh_from is not None:
        text += f'ssh_from = "{station.ssh_from}"\n'
    return text


def forget_private_keys(pki: PkiFolder, dock: DockId) -> None:
    """Remove what only the dock may have.

    Raises:
        OSError: Our disk failed.
    """
    for name in _PRIVATE:
        (pki.directory / dock / name).unlink(missing_ok=True)


def register(registry: Path, pki: PkiFolder, dock: DockId) -> bool:
    """Add a dock to registry.toml, unless it stands there; return whether it was added.

    Raises:
        OSError: Our disk failed.
        ValueError: registry.toml is no TOML.
    """
    text = registry.read_text(encoding="utf-8")
    docks = tomllib.loads(text).get("docks", [])
    if any(isinstance(one, dict) and one.get("dock") == dock for one in docks):
        return False
    added = _REGISTERED.format(dock=dock, certificate=pki.directory / dock / "signing.pem")
    replace_file(registry, (text + added).encode(), mode=registry.stat().st_mode & 0o777)
    return True
