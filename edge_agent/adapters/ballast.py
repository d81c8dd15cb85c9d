"""Room for the journal when the disk it shares is full: a file that is there to be given up.

Receipts need a little room before the copies that they release can go. Every call blocks.
"""

import contextlib
import os
from pathlib import Path
from typing import Final

from runtime import durable

BALLAST_BYTES: Final = 16 << 20
# Taken back only when there is so much more room than that.
_PLENTY: Final = 4


class Ballast:
    """The file beside a journal."""

    def __init__(self, journal: Path, *, size_bytes: int = BALLAST_BYTES) -> None:
        self._path = journal.with_name(f"{journal.name}.ballast")
        self._size_bytes = size_bytes

    def settle(self) -> None:
        """Give it up if there is no room beside it; take it back if there is plenty.

        Raises:
            OSError: The disk failed.
        """
        space = os.statvfs(self._path.parent)
        free_bytes = space.f_bavail * space.f_frsize
        if free_bytes < self._size_bytes:
            self.give_up()
        elif free_bytes >= _PLENTY * self._size_bytes:
            with contextlib.suppress(FileExistsError):
                fd = durable.create_exclusive(
                    self._path.parent, self._path.name, preallocate_bytes=self._size_bytes
                )
                os.close(fd)

    def give_up(self) -> None:
        """Let the journal have the room.

        Raises:
            OSError: The disk failed.
        """
        self._path.unlink(missing_ok=True)
