"""``server-agent set-up`` and ``server-agent dock-key``: from a package to a site that works."""

import argparse
import grp
import ipaddress
import pwd
import re
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from protocol.errors import IdentifierError
from protocol.identifiers import DockId, parse_dock
from protocol.provisioning import FILE_NAME, VOLUME_LABEL, encode
from runtime.durable import write_file
from server_agent.config import DEFAULT_PATH, load_config
from server_agent.dock_key import Station, forget_private_keys, new_dock_key, register
from server_agent.pki.folder import PkiFolder
from server_agent.set_up import Owners, Place, Site, set_up

_FAILED: Final = 1
_ZONE: Final = "Asia/Shanghai"
_DATA: Final = Path("/var/lib/bayward")
_ABOUT_SET_UP: Final = """\
Make what the archive needs to run: the site's authority, certificates, the broker's configuration,
server.toml, console.toml, registry.toml, and which addresses may speak to it. To be run as root,
once; doing it again completes what is missing and changes nothing that is there.
"""
_SET_UP_EXAMPLE: Final = """\
example:
  server-agent set-up --host 192.168.10.2 --network 192.168.10.0/24 --organisation "First bureau"
then:
  systemctl daemon-reload
  systemctl restart mosquitto server-agent server-console
  runuser -u bayward-console -- server-console add-user --name admin --role system_administrator
pki/ca.key signs new docks into the site: keep a copy of it on a medium that is locked away.
"""
_ABOUT_DOCK_KEY: Final = f"""\
Issue the keys of a new dock and write all that it needs to OUT/{FILE_NAME}, for a USB key whose
file system is called {VOLUME_LABEL}. The dock is added to registry.toml. Its private keys are then
on that key alone: whoever has it is the dock. The dock takes it in once and removes it from there.
"""
_DOCK_KEY_EXAMPLE: Final = f"""\
examples:
  mkfs.vfat -n {VOLUME_LABEL} /dev/sdb1 && mount /dev/sdb1 /mnt
  server-agent dock-key --dock dock-01 --out /mnt --network 192.168.10.0/24 --interface eth0
                                                         the dock finds its bays itself
  server-agent dock-key --dock dock-02 --out /mnt --bays bays.toml   of `edge-agent map-bays`
  umount /mnt && systemctl reload server-agent
"""


def add_set_up_commands(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    """Add ``set-up`` and ``dock-key``; each sets ``run``, which returns the exit status."""
    up = _command(subparsers, "set-up", "make all that a new archive needs", _ABOUT_SET_UP)
    up.epilog = _SET_UP_EXAMPLE
    up.add_argument(
        "--host", type=_address, required=True, metavar="ADDRESS", help="of this machine"
    )
    up.add_argument(
        "--network",
        type=_network,
        action="append",
        required=True,
        metavar="NETWORK",
        help="from where docks and browsers come, such as 192.168.10.0/24; may be repeated",
    )
    up.add_argument("--organisation", type=_line, default="Bayward site", help="in each bag")
    up.add_argument("--console-port", type=int, default=8444, help="for browsers (%(default)s)")
    up.set_defaults(run=_run_set_up)
    key = _command(subparsers, "dock-key", "write what a new dock needs", _ABOUT_DOCK_KEY)
    key.epilog = _DOCK_KEY_EXAMPLE
    key.add_argument("--dock", type=_dock, required=True, metavar="NAME", help="such as dock-01")
    key.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="the USB key")
    key.add_argument("--bays", type=Path, metavar="FILE", help="the dock's [[bays]]")
    _add_station(key)
    key.add_argument("--config", type=Path, default=DEFAULT_PATH, help="default: %(default)s")
    key.set_defaults(run=_run_dock_key)
    for parser in (up, key):
        parser.add_argument(
            "--timezone", type=_zone, default=_ZONE, metavar="ZONE", help="default: %(default)s"
        )
        parser.add_argument("--data", type=Path, default=_DATA, help=argparse.SUPPRESS)
    up.add_argument("--etc", type=Path, default=Path("/etc/bayward"), help=argparse.SUPPRESS)
    units = Path("/etc/systemd/system")
    up.add_argument("--units", type=Path, default=units, help=argparse.SUPPRESS)


def _add_station(key: argparse.ArgumentParser) -> None:
    station = key.add_argument_group("the no-internet rule, kept by edge-guard on the dock")
    station.add_argument(
        "--network",
        type=_network,
        action="append",
        metavar="NETWORK",
        help="of the station, with the dock, the archive and all others in it; may be repeated",
    )
    station.add_argument(
        "--interface",
        type=_interface,
        action="append",
        metavar="NAME",
        help="of the dock, that leads to it; may be repeated; default: eth0",
    )
    station.add_argument("--time-server", type=_address, metavar="ADDRESS", help="UDP 123")
    station.add_argument(
        "--ssh-from", type=_address, metavar="ADDRESS", help="from where a technician comes"
    )


def _command(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    purpose: str,
    about: str,
) -> argparse.ArgumentParser:
    return subparsers.add_parser(
        name,
        help=purpose,
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _run_set_up(arguments: argparse.Namespace) -> int:
    try:
        owners = Owners(
            server=pwd.getpwnam("bayward-server").pw_uid,
            console=pwd.getpwnam("bayward-console").pw_uid,
            group=grp.getgrnam("bayward").gr_gid,
        )
    except KeyError as error:
        return _failed(f"{error.args[0]}; the package bayward-server makes the users: ./install")
    site = Site(
        host=str(arguments.host),
        networks=tuple(arguments.network),
        organisation=arguments.organisation,
        timezone=arguments.timezone,
        console_port=arguments.console_port,
    )
    place = Place(etc=arguments.etc, data=arguments.data, units=arguments.units)
    try:
        for line in set_up(site, place, owners, datetime.now(UTC)):
            print(line)
    except ValueError as error:
        return _failed(str(error))
    print("now: systemctl daemon-reload && systemctl restart mosquitto server-agent server-console")
    return 0


def _run_dock_key(arguments: argparse.Namespace) -> int:
    config, pki = load_config(arguments.config), PkiFolder(arguments.data / "pki")
    dock: DockId = arguments.dock
    target: Path = arguments.out / FILE_NAME
    if not arguments.out.is_dir():
        return _failed(f"{arguments.out} is no folder: is the USB key mounted there?")
    if target.exists():
        return _failed(f"{target} is there already, and holds the keys of a dock: move it away")
    zone, now = arguments.timezone, datetime.now(UTC)
    try:
        bays = arguments.bays.read_text(encoding="utf-8") if arguments.bays else ""
        tomllib.loads(bays)
        key = new_dock_key(
            config, pki, dock, timezone=zone, bays=bays, now=now, station=_station(arguments)
        )
    except ValueError as error:  # no TOML, or a name where an address must be
        return _failed(str(error))
    write_file(target, encode(key), mode=0o600)
    print(f"made  {target}")
    if register(config.registry, pki, dock):
        print(f"added {dock} to {config.registry}; now: systemctl reload server-agent")
    forget_private_keys(pki, dock)
    if not arguments.network:
        print(f"nothing will keep {dock} off the internet: --network says where it belongs")
    print(f"{dock}'s private keys are on the USB key alone: keep it locked away until it is used")
    return 0


def _station(arguments: argparse.Namespace) -> Station | None:
    if not arguments.network:
        if arguments.interface or arguments.time_server or arguments.ssh_from:
            raise ValueError("--interface, --time-server and --ssh-from need a --network")
        return None
    return Station(
        interfaces=tuple(arguments.interface or ("eth0",)),
        networks=tuple(arguments.network),
        time_server=arguments.time_server,
        ssh_from=arguments.ssh_from,
    )


def _failed(problem: str) -> int:
    print(f"server-agent: {problem}", file=sys.stderr)
    return _FAILED


def _interface(untrusted: str) -> str:
    # netdevice(7): IFNAMSIZ, with its NUL.
    if not re.fullmatch(r"[A-Za-z0-9_.@-]{1,15}", untrusted):
        raise argparse.ArgumentTypeError(f"{untrusted!r} is no name of an interface")
    return untrusted


def _address(untrusted: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return _private(ipaddress.ip_address(untrusted))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _network(untrusted: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        network = ipaddress.ip_network(untrusted)
        _private(network.network_address)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return network


def _private(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    if not address.is_private or address.is_unspecified:
        raise ValueError(f"{address} is no address of a network of your own")
    return address


def _dock(untrusted: str) -> DockId:
    try:
        return parse_dock(untrusted)
    except IdentifierError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _zone(untrusted: str) -> str:
    try:
        ZoneInfo(untrusted)
    except (ZoneInfoNotFoundError, ValueError):
        raise argparse.ArgumentTypeError(f"{untrusted!r} is no time zone") from None
    return untrusted


def _line(untrusted: str) -> str:
    if not untrusted.isprintable() or not untrusted.strip() or set(untrusted) & set('"\\'):
        raise argparse.ArgumentTypeError("one line, without quotation marks and backslashes")
    return untrusted.strip()
