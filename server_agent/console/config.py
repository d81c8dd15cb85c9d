"""console.toml: what a site sets, and what must not be set together."""

import ipaddress
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo, available_timezones

from msgspec import Meta, Struct, field
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from runtime.errors import SettingsError
from runtime.settings import load_toml
from server_agent.access.sessions import Limits

Port = Annotated[int, Meta(ge=0, le=65535)]

EXAMPLE: Final = """\
timezone = "Asia/Shanghai"             # every time is shown in it
[listen]
host = "192.168.10.2"                  # not this machine: certificate and key are a must
port = 8443
certificate = "pki/console/web.pem"
key = "pki/console/web.key"
[catalogue]
url = "sqlite+aiosqlite:///catalogue/catalogue.sqlite"
[archive]
root = "archive"
[access]
database = "console/access.sqlite"
idle_minutes = 30                      # without a sign of life
absolute_hours = 12                    # and at most
[mqtt]
host = "192.168.10.2"
port = 8883
tls.ca = "pki/ca.pem"
tls.certificate = "pki/console/tls.pem"
tls.key = "pki/console/tls.key"
"""

_SQLITE: Final = "sqlite"
_DRIVERS: Final = ("sqlite+aiosqlite", "postgresql+asyncpg")


class Listen(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where browsers connect; port 0 takes a free one. Both PEM files, or neither: plain HTTP."""

    host: str = "127.0.0.1"
    port: Port = 8443
    certificate: Path | None = None
    key: Path | None = None

    @property
    def tls(self) -> bool:
        """Whether browsers speak TLS to us."""
        return self.certificate is not None


class Catalogue(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The archive's catalogue; only read."""

    url: str


class Archive(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The archive's tree; only read."""

    root: Path


class Access(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Accounts, sessions and the viewing log: the console's own file."""

    database: Path
    idle_minutes: Annotated[int, Meta(ge=1, le=24 * 60)] = 30
    absolute_hours: Annotated[int, Meta(ge=1, le=7 * 24)] = 12

    @property
    def limits(self) -> Limits:
        """How long a session lasts."""
        return Limits(
            idle=timedelta(minutes=self.idle_minutes), absolute=timedelta(hours=self.absolute_hours)
        )


class MqttTls(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PEM files: the site's authority, and the console's own certificate and key."""

    ca: Path
    certificate: Path
    key: Path


class Mqtt(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The broker, for what is live; without ``tls`` only on this machine."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535)] = 8883
    tls: MqttTls | None = None


class Commands(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where server-agent takes commands to docks, on this machine."""

    socket: Path = Path("/run/bayward-server/commands.sock")


class Log(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the console logs, to standard error."""

    json: bool = True
    level: Literal["debug", "info", "warning", "error"] = "info"


class ConsoleSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file. ``timezone`` is the site's: every time is shown in it."""

    catalogue: Catalogue
    archive: Archive
    access: Access
    mqtt: Mqtt
    listen: Listen = field(default_factory=Listen)
    commands: Commands = field(default_factory=Commands)
    log: Log = field(default_factory=Log)
    timezone: str = "Asia/Shanghai"

    @property
    def zone(self) -> ZoneInfo:
        """The site's time zone."""
        return ZoneInfo(self.timezone)


def load_settings(path: Path) -> ConsoleSettings:
    """Read console.toml.

    Raises:
        SettingsError: A key is unknown, missing or wrong, or two keys contradict each other.
        OSError: The file cannot be read.
    """
    settings = load_toml(path, ConsoleSettings)
    for key_path, problem in _contradictions(settings):
        raise SettingsError(path, key_path=key_path, problem=problem)
    return settings


def catalogue_url(settings: ConsoleSettings, *, base: Path) -> URL:
    """Return the catalogue's address; an SQLite file is opened so that nothing can be written.

    Args:
        settings: From `load_settings`.
        base: The folder that a relative SQLite path is relative to: the file's own.
    """
    url = make_url(settings.catalogue.url)
    if url.get_backend_name() != _SQLITE or url.database is None:
        return url
    file = (base.absolute() / url.database).as_uri()
    return url.set(database=file, query={"mode": "ro", "uri": "true"})


def _contradictions(settings: ConsoleSettings) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    listen, mqtt = settings.listen, settings.mqtt
    if (listen.certificate is None) != (listen.key is None):
        found.append(("$.listen", "certificate and key belong together"))
    if not listen.tls and not _is_loopback(listen.host):
        found.append(
            ("$.listen.host", "other machines may connect there: set certificate and key, too")
        )
    if mqtt.tls is None and not _is_loopback(mqtt.host):
        found.append(("$.mqtt.tls", "missing; a broker on another machine is only met with TLS"))
    if settings.timezone not in available_timezones():
        found.append(("$.timezone", f"no such time zone: {settings.timezone!r}"))
    if not _is_catalogue_url(settings.catalogue.url):
        forms = " or ".join(repr(f"{driver}:///…") for driver in _DRIVERS)
        found.append(("$.catalogue.url", f"names no database; allowed: {forms}"))
    return found


def _is_catalogue_url(text: str) -> bool:
    try:
        url = make_url(text)
    except ArgumentError:
        return False
    if url.drivername not in _DRIVERS or not url.database:
        return False
    return url.get_backend_name() != _SQLITE or not url.query


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
