"""What edge-agent and edge-mount say to each other: one JSON object a message, each way."""

from enum import Enum, unique
from typing import Annotated, Final

from msgspec import Meta, Struct

from edge_agent.mounting.superblock import FileSystemKind
from protocol import strict_json
from protocol.identifiers import BayField

# A request is two words; a reply names some volumes and why others were left out.
MAX_REQUEST_BYTES: Final = 256
MAX_REPLY_BYTES: Final = 16 * 1024
# Recorders have one volume, or two; a card that shows more is not read to its end.
MAX_VOLUMES: Final = 8

Text = Annotated[str, Meta(max_length=1_000)]


@unique
class Verb(Enum):
    """What may be asked."""

    MOUNT = "mount"
    DETACH = "detach"


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request: a verb and a bay, nothing else."""

    verb: Verb
    bay: BayField


class MountedVolume(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A volume that is mounted, read-only.

    Attributes:
        name: Its folder below that of the bay.
        label: As the volume has it: shown by repr, never believed.
    """

    name: Annotated[str, Meta(pattern="^[1-8]$")]
    file_system: FileSystemKind
    volume_id: Annotated[str, Meta(pattern="^[0-9a-f]{0,32}$")]
    label: Text
    size_bytes: Annotated[int, Meta(ge=0)]


class Reply(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What came of a request.

    Attributes:
        volumes: All that are mounted for the bay now, largest first.
        code: The E-code of what failed; None if nothing did.
        text: The same in English; also what was left out, where the rest was mounted.
    """

    volumes: Annotated[tuple[MountedVolume, ...], Meta(max_length=MAX_VOLUMES)] = ()
    code: Annotated[str, Meta(max_length=16)] | None = None
    text: Text = ""


def encode(message: Request | Reply) -> bytes:
    """Return a message as it is sent."""
    return strict_json.encode(message)


def parse_request(untrusted: bytes) -> Request:
    """Return the request that came.

    Raises:
        ProtocolError: It is none.
    """
    return strict_json.parse(untrusted, Request, max_bytes=MAX_REQUEST_BYTES)


def parse_reply(untrusted: bytes) -> Reply:
    """Return the reply that came.

    Raises:
        ProtocolError: It is none.
    """
    return strict_json.parse(untrusted, Reply, max_bytes=MAX_REPLY_BYTES)
