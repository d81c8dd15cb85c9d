"""Plug recorders into a dock's bays that answer over a serial port, and pull them out."""

import os
import shutil
from pathlib import Path
from typing import Final

from demo.programs import DemoError, Program, ours
from demo.site import Registered, Site

# As a real one takes to come back as a disk.
_DISK_MODE_AFTER_S: Final = 2.0


class RecorderPlug:
    """Recorders, each played by a recorder-simulator: a serial port first, then a volume."""

    def __init__(self, site: Site) -> None:
        """Plug in nothing yet."""
        self._site = site
        self._programs: dict[int, Program] = {}

    def insert(self, bay: int, volume: Path, recorder: Registered, *flags: str) -> None:
        """Plug a recorder into a bay; its volume's files are hard links, and stay.

        Args:
            bay: Where.
            volume: What is on it; on the file system of the site's folders.
            recorder: Whose serial number and officer it tells.
            flags: More of recorder-simulator's.

        Raises:
            OSError: The files cannot be linked.
        """
        card = self._card(bay)
        card.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(volume, card, symlinks=True, copy_function=os.link)
        self._site.port(bay).parent.mkdir(parents=True, exist_ok=True)
        program = Program(
            f"recorder-{bay}",
            ours(
                "recorder-simulator",
                *("--link", str(self._site.port(bay)), "--volume", str(card)),
                *("--bay", str(self._site.bay(bay)), "--serial", recorder.serial),
                *("--user-number", recorder.officer, "--user-name", recorder.officer_name),
                *("--disk-mode-after", str(_DISK_MODE_AFTER_S), *flags),
            ),
            self._site.logs / f"recorder-{bay}.log",
        )
        program.start()
        self._programs[bay] = program

    def pull(self, bay: int) -> None:
        """Take a recorder out, whoever is reading it."""
        status = self._programs.pop(bay).stop()
        if status != 0:
            raise DemoError(f"recorder-simulator of bay {bay} ended with {status}")
        shutil.rmtree(self._card(bay))

    def pull_all(self) -> None:
        """Take all recorders out."""
        for bay in tuple(self._programs):
            self.pull(bay)

    @property
    def programs(self) -> tuple[Program, ...]:
        """Those that run now."""
        return tuple(self._programs.values())

    def _card(self, bay: int) -> Path:
        return self._site.root / "cards" / str(bay)
