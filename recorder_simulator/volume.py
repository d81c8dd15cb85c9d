"""A folder that stands for a recorder's volume: it appears in a bay, and goes away."""

import contextlib
import os
from pathlib import Path


class Volume:
    """Moves a folder to where a dock looks for it, and back, each in one step.

    A dock follows no links, so the folder itself is moved: both places are on one file system.
    """

    def __init__(self, folder: Path, *, bay: Path) -> None:
        """Move nothing yet.

        Args:
            folder: What is on the volume.
            bay: Where it appears; an empty folder there is replaced.
        """
        self._folder = folder
        self._bay = bay
        self.is_present = False

    def appear(self) -> None:
        """Be there; again is harmless.

        Raises:
            OSError: The bay is occupied, or on another file system.
        """
        if self.is_present:
            return
        with contextlib.suppress(FileNotFoundError):
            self._bay.rmdir()
        os.rename(self._folder, self._bay)  # noqa: PTH104 - says that nothing is replaced but an empty folder
        self.is_present = True

    def vanish(self) -> None:
        """Be gone; again is harmless."""
        if self.is_present:
            self._bay.rename(self._folder)
            self.is_present = False
