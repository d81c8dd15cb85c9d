"""What edge-agent and edge-mount say to each other: one JSON object a message, each way.

With a request to erase comes an open file that holds the proof: `edge_agent.adapters.proof_file`.
"""

from enum import Enum, unique
from typing import Annotated, Final

from msgspec import Meta, Struct

from edge_agent.mounting.superblock import FileSystemKind
from protocol import strict_json
from protocol.identifiers import BayField, DockingField

# A request is two words; a reply names some volumes and why others were left out.
MAX_REQUEST_BYTES: Final = 256
MAX_REPLY_BYTES: Final = 16 * 1024
# Recorders have one volume, or two: of one that shows more, nothing is mounted.
MAX_VOLUMES: Final = 8
# Disks and partitions of one bay, whatever is on them; each is held open for a moment.
MAX_DEVICES: Final = 16

Text = Annotated[str, Meta(max_length=1_000)]
Count = Annotated[int, Meta(ge=0)]


@unique
class Verb(Enum):
    """What may be asked."""

    MOUNT = "mount"
    DETACH = "detach"
    ERASE = "erase"


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One request: a verb and a bay; to erase, also which docking says what is in it."""

    verb: Verb
    bay: BayField
    docking_id: DockingField | None = None

    def __post_init__(self) -> None:
        """Refuse one that lacks what its verb needs, or has what it has no use for."""
        if (self.verb is Verb.ERASE) != (self.docking_id is not None):
            raise ValueError("to erase takes a docking_id, and nothing else does")


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


class Erased(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much was erased."""

    files: Count = 0
    size_bytes: Count = 0


class Progress(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far a recorder has been read once more, before anything of it is erased."""

    files_done: Count
    files_total: Count
    bytes_done: Count
    bytes_total: Count


class Reply(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What came of a request.

    Attributes:
        volumes: After mounting: all that are mounted for the bay now, largest first.
        progress: Of a request that is still being obeyed: another reply follows.
        erased: After erasing, also where it failed in the middle.
        left_out: How many disks and partitions cannot be read, where others were mounted.
        code: The E-code of what failed; None if nothing did.
        text: The same in English; also what was left out, and why.
    """

    volumes: Annotated[tuple[MountedVolume, ...], Meta(max_length=MAX_VOLUMES)] = ()
    left_out: Annotated[int, Meta(ge=0, le=MAX_DEVICES)] = 0
    code: Annotated[str, Meta(max_length=16)] | None = None
    text: Text = ""
    progress: Progress | None = None
    erased: Erased | None = None


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
