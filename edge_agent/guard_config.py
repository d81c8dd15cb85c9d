"""What edge-guard needs to know of edge.toml; the rest of it is edge-agent's."""

import ipaddress
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from edge_agent.guard.policy import Address, Network, Peer, Policy, Transport
from runtime.errors import SettingsError

DEFAULT_SOCKET: Final = Path("/run/bayward-guard/guard.sock")
HOSTS: Final = Path("/etc/hosts")
_NTP_PORT: Final = 123
_HTTPS_PORT: Final = 443

_Text = Annotated[str, Meta(min_length=1, max_length=255)]
# netdevice(7): IFNAMSIZ, with its NUL.
_InterfaceName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.@-]{1,15}$")]


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


class GuardedArchive(Struct, frozen=True, kw_only=True):
    """Where the archive is."""

    mqtt_host: _Text
    url: _Text
    mqtt_port: Annotated[int, Meta(ge=1, le=65_535)] = 8883


class GuardConfig(Struct, frozen=True, kw_only=True):
    """edge.toml, as far as it is about the network."""

    archive: GuardedArchive
    guard: GuardTable


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
