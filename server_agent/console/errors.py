"""What can keep the console from showing something."""

from pathlib import PurePosixPath

from runtime.errors import Retry
from server_agent.errors import ServerError


class ConsoleError(ServerError):
    """Base of the console's errors."""


class FootagePathError(ConsoleError):
    """The catalogue names a file that is not a plain file below the archive's root.

    Attributes:
        path: As the catalogue has it, relative to the archive.
    """

    code = "E-CON-101"
    retry = Retry.NEVER

    def __init__(self, path: PurePosixPath, *, problem: str) -> None:
        super().__init__(f"{str(path)!r}: {problem}")
        self.path = path


class MessagesFileError(ConsoleError):
    """A catalogue of translations in the program's own folder cannot be used."""

    code = "E-CON-102"
    retry = Retry.NEVER


class BrowserFilesError(ConsoleError):
    """The browser's files are not where the installation puts them."""

    code = "E-CON-103"
    retry = Retry.NEVER
