"""The dock's configuration: what stands in edge.toml, and whether this machine can work with it."""

import ipaddress
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cryptography import x509
from cryptography.x509.oid import NameOID
from msgspec import Meta, Struct, field

from edge_agent.errors import EdgeError, ProfileError
from edge_agent.guard_config import GuardTable
from edge_agent.ingest.copying import CHECKPOINT_BYTES
from edge_agent.ingest.profile import Profile, parse_profile
from edge_agent.mount_config import MountTable, PortList
from edge_agent.mounting.port_paths import is_below
from protocol.errors import ProtocolError
from protocol.identifiers import BayField, parse_dock
from protocol.manifest import EvidenceLevel
from runtime.errors import RuntimeFault, SettingsError
from runtime.keys import load_certificate_key, load_signing_key
from runtime.settings import load_toml
from runtime.tls import client_context

_MOST_SOCKET_BYTES: Final = 107  # unix(7): sun_path, with its NUL

DEFAULT_PATH: Final = Path("/etc/bayward/edge.toml")

Port = Annotated[int, Meta(ge=1, le=65_535)]
Text = Annotated[str, Meta(min_length=1, max_length=255)]
Bytes = Annotated[int, Meta(ge=0)]
Rate = Annotated[int, Meta(ge=1)]
# A file's name below $CREDENTIALS_DIRECTORY, systemd.exec(5).
CredentialName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")]


# A folder's name below /sys/class/leds.
LampName = Annotated[str, Meta(pattern=r"^[^/\0.][^/\0]{0,62}$")]


class _Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of edge.toml."""


class Archive(_Table, frozen=True, kw_only=True):
    """Where the archive is, and the certificate of the key that signs its answers."""

    mqtt_host: Text
    url: Text
    signing_certificate: Path
    mqtt_port: Port = 8883


class Tls(_Table, frozen=True, kw_only=True):
    """The dock's identity towards broker and archive."""

    ca: Path
    certificate: Path
    key: Path


class Signing(_Table, frozen=True, kw_only=True):
    """The key that signs manifests."""

    key: Path


class Storage(_Table, frozen=True, kw_only=True):
    """Where the dock keeps what it took.

    Below ``low_water_bytes`` of free disk only marked recordings are taken, below
    ``min_free_bytes`` nothing.
    """

    staging: Path
    journal: Path
    # Some marked clips of a full dock; a clip is a few hundred MB.
    low_water_bytes: Bytes = 4 << 30
    min_free_bytes: Bytes = 256 << 20
    free_after_receipt: bool = True

    @property
    def kept_for_marked_bytes(self) -> int:
        """What lies between the two marks."""
        return max(0, self.low_water_bytes - self.min_free_bytes)


class Ingest(_Table, frozen=True, kw_only=True):
    """How recorders are read."""

    evidence: EvidenceLevel = EvidenceLevel.L2
    sm3: bool = False
    checkpoint_bytes: Annotated[int, Meta(ge=1 << 20)] = CHECKPOINT_BYTES


class UplinkTable(_Table, frozen=True, kw_only=True):
    """How the dock talks to the archive."""

    reconcile_s: Annotated[int, Meta(ge=1, le=3600)] = 30
    uploads_at_once: Annotated[int, Meta(ge=1, le=16)] = 2
    max_upload_bytes_s: Rate | None = None


class Bay(_Table, frozen=True, kw_only=True):
    """One bay: a folder where its recorder's volume appears, or the USB paths of its connector.

    Bays that share a USB upstream, such as a High-Speed hub, name it by the same word. ``driver``
    names the protocol of the recorders' serial port; ``control`` is where the port of a bay that is
    a folder stands, a USB bay's is found. ``password_credential`` names a systemd credential.
    With ``recorder_log`` recorders are asked for their own log, which stays on the dock.
    ``green_lamp`` and ``red_lamp`` are lamps of the kernel's LED class.
    """

    number: BayField
    source: Literal["directory", "usb"]
    path: Path | None = None
    ports: PortList | None = None
    read_limit_bytes_s: Rate | None = None
    upstream: Text | None = None
    driver: Text = "mass-storage"
    control: Path | None = None
    password_credential: CredentialName | None = None
    recorder_log: bool = False
    green_lamp: LampName | None = None
    red_lamp: LampName | None = None

    def __post_init__(self) -> None:
        """Refuse a bay that lacks what its source needs, or has what it has no use for."""
        if self.red_lamp is not None and self.green_lamp is None:
            raise ValueError("a bay with a `red_lamp` needs a `green_lamp`")
        needed, other = ("ports", "path") if self.source == "usb" else ("path", "ports")
        if getattr(self, needed) is None:
            raise ValueError(f'a bay of the source "{self.source}" needs `{needed}`')
        if getattr(self, other) is not None:
            raise ValueError(f'a bay of the source "{self.source}" has no `{other}`')


class Lights(_Table, frozen=True, kw_only=True):
    """Where bays' lights are: lamps by name below ``lamps``, and a charger's serial port."""

    lamps: Path = Path("/sys/class/leds")
    charger: Path | None = None


class Control(_Table, frozen=True, kw_only=True):
    """Where the running agent answers."""

    socket: Path


class Log(_Table, frozen=True, kw_only=True):
    """How the agent logs, to standard error."""

    json: bool = True
    level: Literal["debug", "info", "warning", "error"] = "info"


class EdgeConfig(_Table, frozen=True, kw_only=True):
    """edge.toml."""

    dock: Text
    timezone: Text
    profiles: Path
    archive: Archive
    tls: Tls
    signing: Signing
    storage: Storage
    control: Control
    bays: Annotated[tuple[Bay, ...], Meta(min_length=1, max_length=99)]
    ingest: Ingest = field(default_factory=Ingest)
    uplink: UplinkTable = field(default_factory=UplinkTable)
    mount: MountTable = field(default_factory=MountTable)
    lights: Lights = field(default_factory=Lights)
    guard: GuardTable | None = None
    log: Log = field(default_factory=Log)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at; ``problem`` and ``remedy`` are None if it is well.

    What is ``passing`` may be well later: the agent waits for it.
    """

    name: str
    problem: str | None = None
    remedy: str | None = None
    passing: bool = False


def load_config(path: Path) -> EdgeConfig:
    """Return what stands in edge.toml; whether it works is for `check_config` to say.

    Raises:
        SettingsError: A key is unknown, missing or wrong; it is named.
        OSError: The file cannot be read.
    """
    try:
        config = load_toml(path, EdgeConfig)
    except (RecursionError, ValueError) as error:  # tomllib lets both through
        raise SettingsError(path, key_path="$", problem=f"not TOML: {error}") from None
    for key_path, value in _paths(config, "$"):
        if "\0" in str(value):
            raise SettingsError(path, key_path=key_path, problem="a path has no NUL")
    return config


def load_profiles(directory: Path) -> tuple[Profile, ...]:
    """Return the profiles of a folder, by file name: that is the order in which they are tried.

    Raises:
        ProfileError: One is wrong; the file and the key are named.
        OSError: A file cannot be read.
    """
    profiles = tuple(_load_profile(path) for path in sorted(directory.glob("*.toml")))
    names = Counter(profile.name for profile in profiles)
    if twice := [name for name, times in names.items() if times > 1]:
        raise ProfileError(f"{directory}: $.name: {', '.join(twice)} stands in more than one file")
    return profiles


def _load_profile(path: Path) -> Profile:
    try:
        return parse_profile(path.read_text(encoding="utf-8"), source=path.name)
    except (RecursionError, ValueError) as error:  # no UTF-8, or what tomllib lets through
        raise ProfileError(f"{path.name}: $: not TOML: {error}") from None


def _paths(value: object, key_path: str) -> Iterator[tuple[str, Path]]:
    """Yield all paths of a configuration, each with its key."""
    if isinstance(value, Path):
        yield key_path, value
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _paths(item, f"{key_path}[{index}]")
    elif isinstance(value, Struct):
        for name in value.__struct_fields__:
            yield from _paths(getattr(value, name), f"{key_path}.{name}")


def check_config(config: EdgeConfig) -> tuple[Check, ...]:
    """Return everything that was looked at on this machine, the good and the bad; blocking."""
    return tuple(_looked_at(name, look, remedy) for name, look, remedy in _checks(config))


class _Wrong(Exception):  # noqa: N818 -- a finding on its way to its row, never leaves this module
    """What a check found."""


class _Passing(_Wrong):
    """What may be well later: a disk that takes nothing now, a charger that is not plugged in."""


def _looked_at(name: str, look: Callable[[], object], remedy: str) -> Check:
    try:
        look()
    except _Wrong as wrong:
        passing = isinstance(wrong, _Passing)
        return Check(name=name, problem=str(wrong), remedy=remedy, passing=passing)
    except (EdgeError, ProtocolError, RuntimeFault) as error:
        return Check(name=name, problem=f"{error.code}: {error}", remedy=remedy)
    except (OSError, ValueError) as error:
        return Check(name=name, problem=str(error), remedy=remedy)
    return Check(name=name)


def _checks(config: EdgeConfig) -> Iterator[tuple[str, Callable[[], object], str]]:
    archive, tls = config.archive, config.tls
    bays = "give each [[bays]] its own number, and its own folder or its own USB ports"
    issue = f"issue it with `server-agent pki issue --dock {config.dock}`, mode 0600"
    yield "dock's name", lambda: parse_dock(config.dock), "choose another value for dock"
    yield "timezone", lambda: _zone(config.timezone), "use a name such as Asia/Shanghai"
    yield "bays", lambda: _distinct_bays(config.bays), bays
    yield "bays and storage", lambda: _apart(config), "keep storage outside of every bay's folder"
    yield (
        "profiles",
        lambda: _profiles(config.profiles),
        "correct the named file, or install the profiles that came with the product",
    )
    yield (
        "TLS identity",
        lambda: client_context(ca=tls.ca, certificate=tls.certificate, key=tls.key),
        issue,
    )
    yield "certificate's name", lambda: _named(tls.certificate, config.dock), issue
    yield "signing key", lambda: load_signing_key(config.signing.key), issue
    yield (
        "archive's signing certificate",
        lambda: load_certificate_key(archive.signing_certificate),
        "copy pki/archive/signing.pem from the archive",
    )
    local = "use a private address or a name of your own network: docks never reach the internet"
    yield "broker's address", lambda: _local_host(archive.mqtt_host), local
    yield "archive's address", lambda: _local_host(_host_of(archive.url)), local
    yield (
        "staging folder",
        lambda: _writable(config.storage.staging),
        "create it, owned by the agent's user, mode 0700",
    )
    yield (
        "journal's folder",
        lambda: _writable(config.storage.journal.parent),
        "create it, owned by the agent's user, mode 0700",
    )
    lamp = "look at `ls /sys/class/leds`, and at docs/bay-lights.md for who may light them"
    for name in _lamp_names(config.bays):
        yield f"lamp {name}", partial(_lamp, config.lights.lamps / name), lamp
    if charger := config.lights.charger:
        plug = "plug it in; `ls /dev/serial/by-id` shows what there is"
        yield "charger", lambda: _serial_port(charger), plug
    yield (
        "control socket's name",
        lambda: _bindable(config.control.socket),
        "choose a shorter path, such as /run/bayward/edge.sock",
    )
    yield (
        "control socket's folder",
        lambda: _writable(config.control.socket.parent),
        "create it, owned by the agent's user",
    )


def _zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise _Wrong(f"{name!r} is no time zone") from None


def _distinct_bays(bays: tuple[Bay, ...]) -> None:
    numbers = Counter(bay.number for bay in bays)
    paths = Counter(os.path.realpath(bay.path) for bay in bays if bay.path is not None)
    if twice := [str(number) for number, count in numbers.items() if count > 1]:
        raise _Wrong(f"number {', '.join(twice)} stands more than once")
    if shared := [path for path, count in paths.items() if count > 1]:
        raise _Wrong(f"{', '.join(shared)} belongs to more than one bay")
    for one, another in permutations(bays, 2):
        for port in one.ports or ():
            if any(is_below(port, other) for other in another.ports or ()):
                raise _Wrong(f"USB port {port} of bay {one.number} is bay {another.number}'s, too")


def _apart(config: EdgeConfig) -> None:
    """What is written must never appear as what is docked, nor the other way round."""
    written = [config.storage.staging, config.storage.journal.parent]
    folders = ((bay, bay.path) for bay in config.bays if bay.path is not None)
    for bay, folder in folders:
        docked = Path(os.path.realpath(folder))
        for path in map(Path, map(os.path.realpath, written)):
            if path.is_relative_to(docked):
                raise _Wrong(f"{path} is in bay {bay.number}")
        if docked.is_relative_to(os.path.realpath(config.storage.staging)):
            raise _Wrong(f"bay {bay.number} is in {config.storage.staging}")


def _lamp_names(bays: tuple[Bay, ...]) -> list[str]:
    both = [name for bay in bays for name in (bay.green_lamp, bay.red_lamp)]
    return [name for name in both if name is not None]


def _lamp(folder: Path) -> None:
    if not os.access(folder / "brightness", os.W_OK):
        raise _Passing(f"{folder.name} cannot be lit")


def _serial_port(device: Path) -> None:
    try:
        mode = device.stat().st_mode
    except OSError as error:
        raise _Passing(f"{device}: {error.strerror}") from None
    if not stat.S_ISCHR(mode):
        raise _Wrong(f"{device} is no serial port")


def _bindable(socket: Path) -> None:
    size_bytes = len(os.fsencode(socket))
    if size_bytes > _MOST_SOCKET_BYTES:
        raise _Wrong(f"{size_bytes} bytes; a socket's path has at most {_MOST_SOCKET_BYTES}")


def _profiles(directory: Path) -> None:
    if not load_profiles(directory):
        raise _Wrong(f"{directory} holds no *.toml")


def _named(certificate: Path, dock: str) -> None:
    try:
        subject = x509.load_pem_x509_certificate(certificate.read_bytes()).subject
    except ValueError as error:
        raise _Wrong(f"{certificate}: not a certificate: {error}") from None
    names = [str(name.value) for name in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [dock]:
        raise _Wrong(f"{certificate} is for {', '.join(names) or 'nobody'}, not for {dock}")


def _host_of(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _Wrong(f"{url!r}: {error}") from None
    plain = parts.path in {"", "/"} and not parts.query and not parts.fragment
    if parts.scheme != "https" or not parts.hostname or not plain or port == 0 or parts.username:
        raise _Wrong(f"{url!r} is not of the form https://host:port")
    return parts.hostname


def _local_host(host: str) -> None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return  # a name; whatever it resolves to must show the site's certificate
    if not (address.is_private or address.is_loopback or address.is_link_local):
        raise _Wrong(f"{host} is an address of the internet")


def _writable(directory: Path) -> None:
    """The agent creates a folder of its own if the one above it is there."""
    existing = directory if directory.exists() else directory.parent
    mode = existing.stat().st_mode
    if not stat.S_ISDIR(mode):
        raise _Wrong(f"{existing} is no folder")
    if os.statvfs(existing).f_flag & os.ST_RDONLY:
        raise _Passing(f"{existing} is on a disk that is read-only")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise _Wrong(f"{existing} cannot be written to")
