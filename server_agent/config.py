"""server.toml: what a site sets for its archive.

```toml
registry = "registry.toml"      # docks, officers and recorders: see adapters/registry_file.py

[archive]
root = "/var/lib/bayward/archive"
organisation = "..."            # stands in each bag as its Source-Organization

[catalogue]
url = "sqlite+aiosqlite:///catalogue.sqlite"

[mqtt]
host = "192.168.10.2"           # as it stands in the broker's certificate

[https]
host = "192.168.10.2"           # the address to listen on

[tls]
ca = "pki/ca.pem"
certificate = "pki/archive/tls.pem"
key = "pki/archive/tls.key"

[signing]
key = "pki/archive/signing.key"
certificate = "pki/archive/signing.pem"
```
"""

from pathlib import Path
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field
from msgspec.structs import replace
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from runtime.errors import SettingsError
from runtime.settings import load_toml

DEFAULT_PATH: Final = Path("/etc/bayward/server.toml")
DRIVERS: Final = ("sqlite+aiosqlite", "postgresql+asyncpg")

_SQLITE: Final = "sqlite"

Text = Annotated[str, Meta(min_length=1, max_length=255)]
OneLine = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^\S(.*\S)?$")]


class _Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of server.toml."""


class Archive(_Table, frozen=True, kw_only=True):
    """Where the bags stand; one file system, the catalogue's not included."""

    root: Path
    organisation: OneLine = "Bayward site"


class Catalogue(_Table, frozen=True, kw_only=True):
    """The index. An SQLite file that is relative is relative to server.toml."""

    url: Text


class Mqtt(_Table, frozen=True, kw_only=True):
    """The site's broker."""

    host: Text = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65_535)] = 8883


class Https(_Table, frozen=True, kw_only=True):
    """Where docks send files; port 0 takes a free one."""

    host: Text = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8443


class Tls(_Table, frozen=True, kw_only=True):
    """The archive's identity towards broker and docks."""

    ca: Path
    certificate: Path
    key: Path


class Signing(_Table, frozen=True, kw_only=True):
    """The key that signs admissions, receipts and the registry."""

    key: Path
    certificate: Path


class Commands(_Table, frozen=True, kw_only=True):
    """Where programs on this machine ask for commands to docks, and whose; root's may always."""

    socket: Path = Path("/run/bayward-server/commands.sock")
    users: tuple[Text, ...] = ("bayward-console",)


class Limits(_Table, frozen=True, kw_only=True):
    """What one archive takes on: see adapters/uploads.py."""

    receiving: Annotated[int, Meta(ge=1, le=1_000)] = 64
    receiving_per_dock: Annotated[int, Meta(ge=1, le=1_000)] = 8
    open_files: Annotated[int, Meta(ge=1, le=10_000)] = 128
    keep_free_bytes: Annotated[int, Meta(ge=0)] = 256 << 20
    upload_expiry_s: Annotated[int, Meta(ge=60)] = 24 * 3600
    stall_timeout_s: Annotated[int, Meta(ge=1, le=3_600)] = 30


class Log(_Table, frozen=True, kw_only=True):
    """How the archive logs, to standard error."""

    json: bool = True
    level: Literal["debug", "info", "warning", "error"] = "info"


class ServerConfig(_Table, frozen=True, kw_only=True):
    """The whole file."""

    registry: Path
    archive: Archive
    catalogue: Catalogue
    tls: Tls
    signing: Signing
    mqtt: Mqtt = field(default_factory=Mqtt)
    https: Https = field(default_factory=Https)
    commands: Commands = field(default_factory=Commands)
    limits: Limits = field(default_factory=Limits)
    log: Log = field(default_factory=Log)


def load_config(path: Path) -> ServerConfig:
    """Return what stands in server.toml.

    The path of an SQLite catalogue is absolute in the value.

    Raises:
        SettingsError: A key is unknown, missing or wrong; it is named.
        OSError: The file cannot be read.
    """
    config = load_toml(path, ServerConfig)
    try:
        url = _absolute_url(config.catalogue.url, path.absolute().parent)
    except (ArgumentError, ValueError) as error:
        raise SettingsError(path, key_path="$.catalogue.url", problem=str(error)) from None
    return replace(config, catalogue=Catalogue(url=url))


def _absolute_url(text: str, directory: Path) -> str:
    url = make_url(text)
    if url.drivername not in DRIVERS:
        raise ValueError(f"{url.drivername!r} is not supported; allowed: {', '.join(DRIVERS)}")
    if url.get_backend_name() == _SQLITE:
        if not url.database or url.database.startswith(("file:", ":")):
            raise ValueError("names no file; a catalogue in memory would soon be lost")
        url = url.set(database=str(directory / url.database))
    return url.render_as_string(hide_password=False)
