"""What can keep a bag from being closed, beside server_agent.errors.ReadBackError."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from runtime.errors import Retry
from server_agent.errors import ArchiveError


class TagReadBackError(ArchiveError):
    """Tag files of a bag, read back from the disk, are not what was written.

    Attributes:
        bag: The bag's folder, relative to the archive.
        tags: Their paths in the bag.
    """

    code = "E-ARC-103"
    retry = Retry.SOON

    def __init__(self, bag: PurePosixPath, *, tags: Sequence[str]) -> None:
        super().__init__(f"{bag}: {', '.join(tags)}: not what was written")
        self.bag = bag
        self.tags = tuple(tags)


class UnexpectedFileError(ArchiveError):
    """Something lies in a bag being filled that no manifest promised; it was left alone.

    Attributes:
        bag: The bag's folder, relative to the archive.
        untrusted_paths: Where it lies, relative to the bag.
    """

    code = "E-ARC-104"
    retry = Retry.NEVER

    def __init__(self, bag: PurePosixPath, *, untrusted_paths: Sequence[str]) -> None:
        super().__init__(f"{bag}: nobody promised {list(untrusted_paths[:3])!r}")
        self.bag = bag
        self.untrusted_paths = tuple(untrusted_paths)
