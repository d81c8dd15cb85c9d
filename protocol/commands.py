"""What the archive may ask of a dock, signed, and what it answers: docs/remote-commands.md."""

from enum import Enum, unique
from typing import Annotated, Final

from msgspec import Meta

from protocol.identifiers import BayField, CommandField, DockField
from protocol.manifest import Label, UtcTime
from protocol.messages import Code
from protocol.strict_json import Message

# With its envelope and its escapes it fits into any telemetry message.
MAX_CONTENT_CHARACTERS: Final = 12_000
MAX_SECONDS: Final = 600
MAX_COMMAND_BYTES: Final = 16 * 1024
_MOST: Final = (1 << 63) - 1


@unique
class CommandVerb(Enum):
    """What can be asked."""

    RESCAN = "rescan"
    IDENTIFY = "identify"
    COLLECT_LOGS = "collect-logs"
    RESTART = "restart"
    DOCTOR = "doctor"
    ATTEST = "attest"


class Command(Message, frozen=True, kw_only=True):
    """One thing that a dock is asked to do, once.

    Attributes:
        sequence: Higher than that of every command before to the same dock.
        asked_by: The account that asked.
        bay: Of RESCAN, where None is all bays, and of IDENTIFY, which needs one.
        seconds: Of IDENTIFY.
    """

    command_id: CommandField
    dock: DockField
    sequence: Annotated[int, Meta(ge=1, le=_MOST)]
    verb: CommandVerb
    issued_at: UtcTime
    expires_at: UtcTime
    asked_by: Label
    bay: BayField | None = None
    seconds: Annotated[int, Meta(ge=1, le=MAX_SECONDS)] | None = None


@unique
class CommandOutcome(Enum):
    """How it went."""

    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"


class CommandAnswer(Message, frozen=True, kw_only=True):
    """What a dock says to a command.

    Attributes:
        content: What was asked for, such as log lines.
        last_sequence: Of a refusal for its number: the highest that the dock has taken.
    """

    command_id: CommandField
    dock: DockField
    at: UtcTime
    outcome: CommandOutcome
    code: Code | None = None
    text: Annotated[str, Meta(max_length=500)] = ""
    content: Annotated[str, Meta(max_length=MAX_CONTENT_CHARACTERS)] = ""
    last_sequence: Annotated[int, Meta(ge=0, le=_MOST)] = 0
