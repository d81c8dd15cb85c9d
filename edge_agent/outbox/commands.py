"""Whether a command is obeyed: whose it is, for whom, how old, and whether it came before."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum, unique
from typing import Final

from protocol.commands import MAX_COMMAND_BYTES, Command, CommandVerb
from protocol.envelope import open_statement
from protocol.errors import TooLargeError
from protocol.identifiers import BayNumber, DockId
from protocol.keys import KeyId, VerifyingKey
from protocol.versions import Statement

# Clocks of an isolated network differ; a replay is refused by its number, not by its age.
SLACK: Final = timedelta(minutes=5)
# Nobody waits longer for a dock; what holds for ever could be kept for another day.
LONGEST: Final = timedelta(minutes=10)


@unique
class Refusal(Enum):
    """Why a command is not obeyed; the value is its code."""

    OTHER_DOCK = "E-CMD-101"
    EXPIRED = "E-CMD-102"
    SEEN_BEFORE = "E-CMD-103"
    CANNOT = "E-CMD-104"


def read_command(untrusted: bytes, archive_keys: Mapping[KeyId, VerifyingKey]) -> Command:
    """Return the command that an envelope holds.

    Raises:
        ProtocolError: It is none, or not signed by the archive.
    """
    if len(untrusted) > MAX_COMMAND_BYTES:
        raise TooLargeError(f"{len(untrusted)} bytes, at most {MAX_COMMAND_BYTES} are read")
    return open_statement(untrusted, Statement.COMMAND, Command, archive_keys)


def refusal_of(
    command: Command, *, dock: DockId, bays: frozenset[BayNumber], last: int, now: datetime
) -> tuple[Refusal, str] | None:
    """Return why a command is not obeyed, and in words; None if it is.

    Args:
        command: Signed by the archive.
        dock: Ourselves.
        bays: Those that there are.
        last: The highest sequence that was taken, 0 for none.
        now: Aware.
    """
    if command.dock != dock:
        return Refusal.OTHER_DOCK, f"it is for {command.dock}"
    if command.sequence <= last:
        return Refusal.SEEN_BEFORE, f"number {command.sequence}, and {last} was taken already"
    if words := _out_of_time(command, now):
        return Refusal.EXPIRED, words
    if words := _what_is_missing(command, bays):
        return Refusal.CANNOT, words
    return None


def _out_of_time(command: Command, now: datetime) -> str | None:
    if command.expires_at - command.issued_at > LONGEST:
        return "it would hold for too long"
    if now > command.expires_at + SLACK:
        return f"it held until {command.expires_at:%Y-%m-%d %H:%M:%S} UTC"
    if command.issued_at > now + SLACK:
        return "it is from the future: the clocks of dock and archive differ"
    return None


def _what_is_missing(command: Command, bays: frozenset[BayNumber]) -> str | None:
    if command.bay is None:
        return "it names no bay" if command.verb is CommandVerb.IDENTIFY else None
    return None if command.bay in bays else f"there is no bay {command.bay}"
