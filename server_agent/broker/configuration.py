"""mosquitto's configuration and access list, as texts, for Debian's 2.0.11 and later.

Custody does not rest on the broker: it may lose everything it holds. What these files must get
right is who may say what.
"""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from protocol.envelope import MAX_PACKET_BYTES
from protocol.identifiers import HIGHEST_BAY
from protocol.topics import DOCKS, ROOT, Channel

ARCHIVE: Final = "archive"
CONSOLE: Final = "console"
SITE: Final = f"{ROOT}/site/#"

_MAX_PORT: Final = 65_535
_DOCK_WRITES: Final = (
    Channel.STATUS,
    Channel.BAYS,
    Channel.METRICS,
    Channel.ALERTS,
    Channel.DOCTOR,
    Channel.ANSWERS,
    Channel.COSIGNATURES,
    Channel.ATTESTATIONS,
    Channel.MANIFESTS,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSettings:
    """What a site decides about its broker.

    Attributes:
        host: The address that it listens on; never all of a machine's.
        port: 1 to 65535.
        ca: PEM of the site's authority; this and the other paths absolute.
        certificate: PEM of the broker's certificate.
        key: PEM of its private key, readable by *run_as*.
        acl: Where the text of `acl` stands.
        data: The folder for what outlives a restart, writable by *run_as*.
        run_as: The user that mosquitto becomes when root starts it; None for Debian's
            ``mosquitto``. When another user starts it, it stays that user.
        max_connections: Docks, archive, console, and to spare.
        max_queued_messages: Kept for one client that is away.
        max_queued_bytes: Likewise; what is more is dropped, and docks send it again.
        memory_bytes: The broker takes no more from the system; below its unit's MemoryMax.
    """

    host: str
    port: int
    ca: PurePath
    certificate: PurePath
    key: PurePath
    acl: PurePath
    data: PurePath
    run_as: str | None = None
    max_connections: int = 512
    max_queued_messages: int = 20_000
    max_queued_bytes: int = 512 * 1024 * 1024
    memory_bytes: int = 1536 * 1024 * 1024


def mosquitto_conf(settings: BrokerSettings) -> str:
    """Return the text of mosquitto.conf.

    Raises:
        ValueError: *settings* has a value that the file cannot say, and which.
    """
    lines = [
        "# Written by `server-agent broker-config`; changes are lost when it runs again.",
        "per_listener_settings false",
        "",
        "# Who may connect: whoever shows a certificate of the site's authority. Its common name",
        "# is the user's name, and the client id as well: nobody can take over another's session.",
        f"listener {_port(settings.port)} {_address(settings.host)}",
        f"cafile {_path(settings.ca)}",
        f"certfile {_path(settings.certificate)}",
        f"keyfile {_path(settings.key)}",
        "tls_version tlsv1.2",
        "require_certificate true",
        "use_identity_as_username true",
        "use_username_as_clientid true",
        f"max_connections {settings.max_connections}",
        "allow_anonymous false",
        f"acl_file {_path(settings.acl)}",
        *([f"user {_word(settings.run_as)}"] if settings.run_as is not None else []),
        "",
        "# How much: a broker that runs out of memory serves nobody. Clients learn the size when",
        "# they connect; message_size_limit would break their connection instead (2.0.11 answers",
        "# with a reason code that MQTT 5 does not allow there).",
        f"max_packet_size {MAX_PACKET_BYTES}",
        "max_inflight_messages 20",
        f"max_queued_messages {settings.max_queued_messages}",
        f"max_queued_bytes {settings.max_queued_bytes}",
        f"memory_limit {settings.memory_bytes}",
        "max_keepalive 120",
        "queue_qos0_messages false",
        "persistent_client_expiration 30d",
        "",
        "# What outlives a restart: sessions, retained and waiting messages.",
        "persistence true",
        f"persistence_location {_path(settings.data)}/",
        "autosave_interval 60",
        "",
        "log_dest stderr",
        "log_type error",
        "log_type warning",
        "log_type notice",
        "log_type information",
        "log_timestamp_format %Y-%m-%dT%H:%M:%S%z",
        "",
    ]
    return "\n".join(lines)


def acl() -> str:
    """Return the text of the access list: docs/architecture.md, 'MQTT'.

    It names no dock: ``%u`` stands for the common name of whoever asks. The patterns hold for the
    archive's own programs as well, so each of these is kept out of the topics of a dock of its
    name; no dock may have such a name.
    """
    dock = f"{DOCKS}/%u"
    lines = [
        "# Written by `server-agent broker-config`; changes are lost when it runs again.",
        "",
        "# A dock: writes its own topics, reads its own receipts and what the site publishes.",
        *(f"pattern write {dock}/{topic}" for topic in _dock_writes()),
        f"pattern read {dock}/{Channel.RECEIPTS.value}",
        f"pattern read {dock}/{Channel.COMMANDS.value}",
        f"pattern read {dock}/{Channel.ATTESTED.value}",
        "# mosquitto warns that the next line names nobody; everybody is meant.",
        f"pattern read {SITE}",
        "",
        f"user {ARCHIVE}",
        f"topic deny {DOCKS}/{ARCHIVE}/#",
        f"topic read {DOCKS}/#",
        f"topic write {DOCKS}/+/{Channel.RECEIPTS.value}",
        f"topic write {DOCKS}/+/{Channel.COMMANDS.value}",
        f"topic write {DOCKS}/+/{Channel.ATTESTED.value}",
        f"topic write {SITE}",
        "",
        f"user {CONSOLE}",
        f"topic deny {DOCKS}/{CONSOLE}/#",
        f"topic read {DOCKS}/#",
        "",
    ]
    return "\n".join(lines)


def _dock_writes() -> Iterator[str]:
    """Yield the ends of topics: each bay by its number, for a retained message outlives its bay."""
    for channel in _DOCK_WRITES:
        if channel is Channel.BAYS:
            yield from (f"{channel.value}/{bay}" for bay in range(1, HIGHEST_BAY + 1))
        else:
            yield channel.value


def _port(port: int) -> int:
    if not 1 <= port <= _MAX_PORT:
        raise ValueError(f"port {port} is not 1 to {_MAX_PORT}")
    return port


def _address(host: str) -> str:
    """Return an address or the name of this machine; mosquitto listens everywhere without one."""
    word = _word(host)
    try:
        address = ipaddress.ip_address(word)
    except ValueError:
        return word
    if address.is_unspecified:
        raise ValueError(f"{word} is every address of this machine; name the one that docks use")
    return word


def _path(path: PurePath) -> str:
    text = str(path)
    if not path.is_absolute() or not text.isprintable() or text != text.strip():
        raise ValueError(f"{text!r} is not an absolute path that mosquitto can read")
    return text


def _word(text: str) -> str:
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"{text!r} is not one word")
    return text
