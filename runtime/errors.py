"""What can go wrong in the adapters that both agents share, as a tree.

`OSError` is not in it: our own disk, or the service manager, failed. It is never wrapped.
"""

from enum import Enum, unique
from pathlib import Path
from typing import ClassVar


@unique
class Retry(Enum):
    """When trying the same step again can help."""

    SOON = "soon"
    NEXT_DOCKING = "next_docking"
    NEVER = "never"


class RuntimeFault(Exception):  # noqa: N818 -- RuntimeError is taken, and this is not one
    """Base of every error that this package raises on purpose.

    Subclasses set both class variables: `code` is stable and documented in docs/errors.md;
    `retry` is read by the caller, which never parses text.
    """

    code: ClassVar[str]
    retry: ClassVar[Retry]


class SettingsError(RuntimeFault):
    """A configuration file cannot be used as it is.

    Attributes:
        file: The configuration file.
        key_path: Where in it, such as ``$.bays[2].source``; ``$`` is the whole file.
        problem: What is wrong, and what is allowed instead.
    """

    code = "E-RUN-101"
    retry = Retry.NEVER

    def __init__(self, file: Path, *, key_path: str, problem: str) -> None:
        super().__init__(f"{file}: {key_path}: {problem}")
        self.file = file
        self.key_path = key_path
        self.problem = problem


class KeyExposedError(RuntimeFault):
    """A private key file can be read by others than its owner."""

    code = "E-RUN-111"
    retry = Retry.NEVER

    def __init__(self, file: Path, *, mode: int) -> None:
        super().__init__(f"{file}: mode {mode:04o} lets others in; a private key is 0600")
        self.file = file
        self.mode = mode


class KeyUnusableError(RuntimeFault):
    """A file does not hold the key or certificate that it should."""

    code = "E-RUN-112"
    retry = Retry.NEVER

    def __init__(self, file: Path, *, problem: str) -> None:
        super().__init__(f"{file}: {problem}")
        self.file = file
        self.problem = problem


class LinkError(RuntimeFault):
    """Base of the MQTT link's errors."""


class LinkLostError(LinkError):
    """There is no connection to the broker, or it ended.

    What was published but not confirmed may have arrived or not: publish it again on the next
    connection. What was received but not acknowledged comes again by itself.
    """

    code = "E-RUN-121"
    retry = Retry.SOON


class LinkRefusedError(LinkError):
    """The broker answered no; the connection itself goes on, unless it was refused.

    Attributes:
        reason_code: MQTT 5.0 §2.4, such as 0x87 "not authorized".
    """

    code = "E-RUN-122"
    retry = Retry.NEVER

    def __init__(self, step: str, *, reason_code: int, reason: str) -> None:
        super().__init__(f"{step}: refused with 0x{reason_code:02x} ({reason})")
        self.reason_code = reason_code


class ForeignMessageError(LinkError):
    """A message was acknowledged twice, or on another connection than it came by: our bug."""

    code = "E-RUN-123"
    retry = Retry.NEVER
