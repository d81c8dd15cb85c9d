"""From an installed package to an archive that runs: keys, configurations, folders, addresses.

Doing it again completes what is missing and changes nothing that is there.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final

from runtime.durable import make_directories, write_file
from server_agent.broker.configuration import BrokerSettings, acl, mosquitto_conf
from server_agent.pki.folder import PkiFolder

_CATALOGUE_MODE: Final = 0o660
_SERVER_TOML: Final = """\
registry = "registry.toml"

[archive]
root = "{data}/archive"
organisation = "{organisation}"

[catalogue]
url = "sqlite+aiosqlite:///{data}/catalogue/catalogue.sqlite"

[mqtt]
host = "{host}"

[https]
host = "{host}"

[tls]
ca = "{data}/pki/ca.pem"
certificate = "{data}/pki/archive/tls.pem"
key = "{data}/pki/archive/tls.key"

[signing]
key = "{data}/pki/archive/signing.key"
certificate = "{data}/pki/archive/signing.pem"
"""
_CONSOLE_TOML: Final = """\
timezone = "{timezone}"

[listen]
host = "{host}"
port = {console_port}
certificate = "{data}/pki/console/web.pem"
key = "{data}/pki/console/web.key"

[catalogue]
url = "sqlite+aiosqlite:///{data}/catalogue/catalogue.sqlite"

[archive]
root = "{data}/archive"

[access]
database = "{data}/console/access.sqlite"

[mqtt]
host = "{host}"
tls.ca = "{data}/pki/ca.pem"
tls.certificate = "{data}/pki/console/tls.pem"
tls.key = "{data}/pki/console/tls.key"
"""
_REGISTRY_TOML: Final = """\
# Docks, officers and recorders of this site; after a change: systemctl reload server-agent
#
# [[officers]]
# officer = "012345"
# name = "..."
# section = "..."
#
# [[recorders]]
# recorder = "R-0001"
# make = "..."
# model = "..."          # model and serial as the recorder names itself
# serial = "..."
# officer = "012345"     # may be left out
"""
_DROP_IN: Final = """\
# Who may be spoken to, besides this machine itself; made by `server-agent set-up`.
[Service]
IPAddressAllow={addresses}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owners:
    """Who the programs run as: numbers of users and of the group that they share."""

    server: int
    console: int
    group: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where things go: /etc/bayward, /var/lib/bayward, /etc/systemd/system."""

    etc: Path
    data: Path
    units: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What a site decides.

    Attributes:
        host: The address at which docks and browsers find this machine.
        networks: From where they may.
    """

    host: str
    networks: tuple[IPv4Network | IPv6Network, ...]
    organisation: str
    timezone: str
    console_port: int


def set_up(site: Site, place: Place, owners: Owners, now_utc: datetime) -> Iterator[str]:
    """Make everything that is missing; yield a line for each thing.

    Raises:
        PkiError: The authority's folder is not in order.
        ValueError: *site* has a value that mosquitto's configuration cannot say.
        OSError: Our disk failed.
    """
    pki = PkiFolder(place.data / "pki")
    yield from _keys(pki, site, owners, now_utc)
    yield from _broker(place, pki, site)
    yield from _catalogue(place.data / "catalogue", owners)
    words = {
        "data": place.data,
        "host": site.host,
        "timezone": site.timezone,
        "console_port": site.console_port,
        "organisation": site.organisation,
    }
    for name, text in (
        ("server.toml", _SERVER_TOML),
        ("console.toml", _CONSOLE_TOML),
        ("registry.toml", _REGISTRY_TOML),
    ):
        yield _file(place.etc / name, text.format_map(words) if "{" in text else text)
    addresses = " ".join(map(str, (site.host, *site.networks)))
    for unit in ("mosquitto", "server-agent", "server-console"):
        drop_in = place.units / f"{unit}.service.d" / "50-addresses.conf"
        make_directories(drop_in.parent, mode=0o755)
        yield _file(drop_in, _DROP_IN.format(addresses=addresses))


def _keys(pki: PkiFolder, site: Site, owners: Owners, now_utc: datetime) -> Iterator[str]:
    kept = [pki.create_authority(now_utc), *pki.issue_site([site.host], now_utc)]
    for one in kept:
        yield _told(one.path, is_new=one.is_new)
    folder = pki.directory
    for key in ("archive/tls.key", "archive/signing.key"):
        os.chown(folder / key, owners.server, owners.group)
    for key in ("console/tls.key", "console/web.key"):
        os.chown(folder / key, owners.console, owners.group)
    # mosquitto is no user of ours; its unit adds our group to it.
    os.chown(folder / "broker/tls.key", -1, owners.group)
    (folder / "broker/tls.key").chmod(0o640)


def _broker(place: Place, pki: PkiFolder, site: Site) -> Iterator[str]:
    folder = place.data / "broker"
    settings = BrokerSettings(
        host=site.host,
        port=8883,
        ca=pki.ca,
        certificate=pki.directory / "broker/tls.pem",
        key=pki.directory / "broker/tls.key",
        acl=folder / "acl",
        data=Path("/var/lib/mosquitto"),
    )
    make_directories(folder, mode=0o755)
    yield _file(folder / "acl", acl())
    yield _file(folder / "mosquitto.conf", mosquitto_conf(settings))


def _catalogue(folder: Path, owners: Owners) -> Iterator[str]:
    """Let archive and console share it: SQLite gives its side files the rights of the database."""
    make_directories(folder)
    os.chown(folder, owners.server, owners.group)
    folder.chmod(0o2770)
    database = folder / "catalogue.sqlite"
    if not database.exists():
        write_file(database, b"", mode=_CATALOGUE_MODE)
        os.chown(database, owners.server, owners.group)
        database.chmod(_CATALOGUE_MODE)  # whatever the umask is
        yield _told(database, is_new=True)


def _file(path: Path, text: str) -> str:
    is_new = not path.exists()
    if is_new:
        make_directories(path.parent, mode=0o755)
        write_file(path, text.encode(), mode=0o644)
        path.chmod(0o644)
    return _told(path, is_new=is_new)


def _told(path: Path, *, is_new: bool) -> str:
    return f"{'made' if is_new else 'kept'}  {path}"
