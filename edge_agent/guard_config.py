"""What edge-guard needs to know of edge.toml; the rest of it is edge-agent's."""

import ipaddress
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct, field

from edge_agent.guard.policy import Address, Network, Peer, Policy, Transport
from edge_agent.guard.usb_door import USUAL_MODELS, BayPorts, DoorPolicy, Model, Use
from edge_agent.mount_config import PortList
from edge_agent.mounting.port_paths import PortField, PortPath
from protocol.identifiers import BayField
from runtime.errors import SettingsError

DEFAULT_SOCKET: Final = Path("/run/bayward-guard/guard.sock")
HOSTS: Final = Path("/etc/hosts")
_NTP_PORT: Final = 123
_HTTPS_PORT: Final = 443

_Text = Annotated[str, Meta(min_length=1, max_length=255)]
# netdevice(7): IFNAMSIZ, with its NUL.
_InterfaceName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.@-]{1,15}$")]


# As lsusb writes it.
_UsbNumber = Annotated[str, Meta(pattern=r"^[0-9a-f]{4}$")]


class UsbModelTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A recorder model at USB.

    ``serials`` are patterns as of a shell; without any, each serial number fits. Every interface
    has to be for one of ``interfaces``.
    """

    name: _Text
    vendor: _UsbNumber
    product: _UsbNumber
    serials: Annotated[tuple[_Text, ...], Meta(max_length=1_000)] = ()
    interfaces: Annotated[tuple[Use, ...], Meta(min_length=1)] = (Use.STORAGE,)


class UsbTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The USB door.

    Without ``enabled`` it is kept where a bay is a USB one. At ``own_ports`` the machine's own
    devices are, whatever they are. Without ``models``, those that are usual come in.
    """

    enabled: bool | None = None
    own_ports: Annotated[tuple[PortField, ...], Meta(max_length=32)] = ()
    models: Annotated[tuple[UsbModelTable, ...], Meta(max_length=100)] = ()


class GuardTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The station's network, as edge-guard keeps the dock in it.

    ``interfaces`` lead to it and no other may be up; the machine's addresses and all peers are in
    ``networks``. ``ssh_from`` is the one address from which a technician may come.
    """

    interfaces: Annotated[tuple[_InterfaceName, ...], Meta(min_length=1, max_length=8)]
    networks: Annotated[tuple[_Text, ...], Meta(min_length=1, max_length=16)]
    time_server: _Text | None = None
    ssh_from: _Text | None = None
    dry_run: bool = False
    socket: Path = DEFAULT_SOCKET
    usb: UsbTable = field(default_factory=UsbTable)


class GuardedArchive(Struct, frozen=True, kw_only=True):
    """Where the archive is."""

    mqtt_host: _Text
    url: _Text
    mqtt_port: Annotated[int, Meta(ge=1, le=65_535)] = 8883


class GuardedBay(Struct, frozen=True, kw_only=True):
    """A bay, as far as the USB door asks."""

    number: BayField
    source: Literal["directory", "usb"]
    ports: PortList | None = None


class GuardConfig(Struct, frozen=True, kw_only=True):
    """edge.toml, as far as it is about the network and the USB door."""

    archive: GuardedArchive
    guard: GuardTable
    bays: Annotated[tuple[GuardedBay, ...], Meta(max_length=99)] = ()


def policy_of(config: GuardConfig, path: Path, *, hosts: Mapping[str, Address]) -> Policy:
    """Return the policy that a configuration says.

    Args:
        config: Of the dock.
        path: Where it stands, for errors.
        hosts: Names that this machine has an address for in /etc/hosts; nobody else is asked.

    Raises:
        SettingsError: A value is no address, network or known name; its key is named.
    """
    table = config.guard
    return Policy(
        interfaces=table.interfaces,
        networks=tuple(_networks(table, path)),
        peers=tuple(_peers(config, path, hosts)),
        ssh_from=None
        if table.ssh_from is None
        else _address(table.ssh_from, path, "$.guard.ssh_from", hosts),
    )


def door_policy_of(config: GuardConfig) -> DoorPolicy | None:
    """Return who may come in at which USB port; None if no door is kept."""
    table = config.guard.usb
    bays = tuple(
        BayPorts(bay=bay.number, ports=tuple(map(PortPath, bay.ports)))
        for bay in config.bays
        if bay.source == "usb" and bay.ports is not None
    )
    is_kept = bool(bays) if table.enabled is None else table.enabled
    if not is_kept:
        return None
    return DoorPolicy(
        bays=bays,
        own_ports=tuple(map(PortPath, table.own_ports)),
        models=tuple(map(_model, table.models)) or USUAL_MODELS,
    )


def _model(table: UsbModelTable) -> Model:
    return Model(
        name=table.name,
        vendor=int(table.vendor, 16),
        product=int(table.product, 16),
        serials=table.serials,
        uses=frozenset(table.interfaces),
    )


def known_hosts(path: Path = HOSTS) -> dict[str, Address]:
    """Return the names of a hosts file with the first address of each; blocking."""
    found: dict[str, Address] = {}
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return found
    for line in lines:
        words = line.partition("#")[0].split()
        try:
            address = ipaddress.ip_address(words[0])
        except (IndexError, ValueError):
            continue
        for name in words[1:]:
            found.setdefault(name.lower(), address)
    return found


def _networks(table: GuardTable, path: Path) -> Iterator[Network]:
    for number, text in enumerate(table.networks):
        try:
            yield ipaddress.ip_network(text)
        except ValueError as error:
            raise SettingsError(
                path, key_path=f"$.guard.networks[{number}]", problem=str(error)
            ) from None


def _peers(config: GuardConfig, path: Path, hosts: Mapping[str, Address]) -> Iterator[Peer]:
    archive, table = config.archive, config.guard
    yield Peer(
        name="broker",
        address=_address(archive.mqtt_host, path, "$.archive.mqtt_host", hosts),
        port=archive.mqtt_port,
    )
    try:
        url = urlsplit(archive.url)
        host, port = url.hostname or "", url.port or _HTTPS_PORT
    except ValueError as error:
        raise SettingsError(path, key_path="$.archive.url", problem=str(error)) from None
    yield Peer(name="archive", address=_address(host, path, "$.archive.url", hosts), port=port)
    if table.time_server is not None:
        yield Peer(
            name="time server",
            address=_address(table.time_server, path, "$.guard.time_server", hosts),
            port=_NTP_PORT,
            transport=Transport.UDP,
        )


def _address(text: str, path: Path, key_path: str, hosts: Mapping[str, Address]) -> Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        if (known := hosts.get(text.lower())) is not None:
            return known
    problem = f"{text!r} is no address, and no name in {HOSTS}: no name server is ever asked"
    raise SettingsError(path, key_path=key_path, problem=problem)
