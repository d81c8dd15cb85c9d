"""What edge-mount needs to know of edge.toml; the rest of it is edge-agent's."""

from pathlib import Path
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field

from edge_agent.mounting.port_paths import PortField
from protocol.identifiers import BayField

DEFAULT_SOCKET: Final = Path("/run/bayward-mount/edge-mount.sock")
DEFAULT_FOLDER: Final = Path("/run/bayward-mount/bays")

# One for each speed, and as many again where a bay has a second connector.
PortList = Annotated[tuple[PortField, ...], Meta(min_length=1, max_length=4)]


class MountTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where edge-mount listens, where it mounts, and for whom."""

    socket: Path = DEFAULT_SOCKET
    folder: Path = DEFAULT_FOLDER
    user: Annotated[str, Meta(min_length=1, max_length=64)] = "bayward-edge"


class MountedBay(Struct, frozen=True, kw_only=True):
    """A bay, as far as it is mounted."""

    number: BayField
    source: Literal["directory", "usb"]
    ports: PortList | None = None


class MountedArchive(Struct, frozen=True, kw_only=True):
    """The archive, as far as its receipts are believed."""

    signing_certificate: Path


class MountConfig(Struct, frozen=True, kw_only=True):
    """edge.toml, as far as it is about mounting."""

    timezone: Annotated[str, Meta(min_length=1, max_length=255)]
    bays: Annotated[tuple[MountedBay, ...], Meta(min_length=1, max_length=99)]
    archive: MountedArchive | None = None
    mount: MountTable = field(default_factory=MountTable)
