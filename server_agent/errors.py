"""What can stop the archive, as a tree.

A verdict about evidence ("digest differs") is data: see protocol.findings. An exception here means
that the archive could not finish a step. `OSError` is not in the tree: our own disk failed, and
that is never wrapped.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar

from runtime.errors import Retry


class ServerError(Exception):
    """Base of every error that the archive raises on purpose.

    Subclasses set both class variables: ``code`` is stable and documented in docs/errors.md;
    ``retry`` is read by the caller, which never parses text.
    """

    code: ClassVar[str]
    retry: ClassVar[Retry]


class AdmissionError(ServerError):
    """Base of errors while messages are admitted."""


class KeptManifestError(AdmissionError):
    """A manifest that the catalogue keeps can no longer be read: our own disk or our own bug."""

    code = "E-ADM-101"
    retry = Retry.NEVER


class UnknownSignerError(AdmissionError):
    """No certificate is known for the key that signed a manifest, so its bag cannot be closed."""

    code = "E-ADM-102"
    retry = Retry.NEVER


class UnprocessableMessageError(AdmissionError):
    """A message could not be taken in though no check refused it: our bug. It is kept."""

    code = "E-ADM-103"
    retry = Retry.NEVER


class CommandError(ServerError):
    """Base of what keeps a dock from being asked, or its answer from coming."""

    retry = Retry.SOON


class DockUnknownError(CommandError):
    """The registry in force does not know the dock."""

    code = "E-CMD-201"


class NoAnswerError(CommandError):
    """The dock did not answer in time."""

    code = "E-CMD-202"


class CommandSocketError(CommandError):
    """The running archive cannot be asked."""

    code = "E-CMD-203"


class ArchiveError(ServerError):
    """Base of errors while a bag is filled or closed."""


class ReadBackError(ArchiveError):
    """Files of a bag, read back from the disk, are not what was written.

    Attributes:
        safe_names: The files below ``data/`` that are missing or differ.
    """

    code = "E-ARC-101"
    retry = Retry.SOON

    def __init__(self, bag: PurePosixPath, *, safe_names: Sequence[str]) -> None:
        super().__init__(f"{bag}: {len(safe_names)} files differ from what was written")
        self.bag = bag
        self.safe_names = tuple(safe_names)


class BagOccupiedError(ArchiveError):
    """Another bag, or something that is no bag, stands where this one belongs.

    Attributes:
        bag: The path, relative to the archive's root.
    """

    code = "E-ARC-102"
    retry = Retry.NEVER

    def __init__(self, bag: PurePosixPath, *, problem: str) -> None:
        super().__init__(f"{bag}: {problem}")
        self.bag = bag


class CatalogueError(ServerError):
    """Base of errors of the catalogue's database."""


class CatalogueNewerError(CatalogueError):
    """The catalogue was migrated by a newer release than this one."""

    code = "E-ARC-111"
    retry = Retry.NEVER


class CatalogueUnreadableError(CatalogueError):
    """The catalogue cannot be read: it is not there, or its database says no."""

    code = "E-ARC-112"
    retry = Retry.SOON


class LogError(ServerError):
    """Base of what keeps the custody log from going on: it is not the one that was signed."""

    retry = Retry.NEVER


class LogChangedError(LogError):
    """Files of the log are missing, cut, or not what the archive signed."""

    code = "E-LOG-101"


class LogKeyError(LogError):
    """The log was signed by another key than the archive's."""

    code = "E-LOG-103"


class ConfigurationError(ServerError):
    """Base of errors in what the site configured, beyond what one key can say."""


class RegistryFileError(ConfigurationError):
    """The registry file contradicts itself, or names a certificate that may not stand there.

    Attributes:
        file: The registry file.
        problem: What is wrong, and with which entry.
    """

    code = "E-CFG-101"
    retry = Retry.NEVER

    def __init__(self, file: Path, *, problem: str) -> None:
        super().__init__(f"{file}: {problem}")
        self.file = file
        self.problem = problem


class SigningKeyError(ConfigurationError):
    """The archive's signing key and its certificate do not belong together."""

    code = "E-CFG-102"
    retry = Retry.NEVER
