"""Recorders' own logs, as they gave them over their serial ports; the newest ones, on this dock."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from edge_agent.drivers.driver import RecorderLog
from protocol.identifiers import BayNumber
from runtime.durable import make_directories, replace_file

# A choice: 1 MiB each at most, and a month of a dock with 24 bays would be too many.
MOST_LOGS: Final = 200
_UNSAFE: Final = re.compile(r"[^0-9A-Za-z_-]")
_MOST_SERIAL_CHARACTERS: Final = 40
_PART: Final = ".part"


class RecorderLogs:
    """One folder; a file is called by its time, bay and recorder. Every call blocks."""

    def __init__(self, folder: Path) -> None:
        """Use a folder, which is made when there is something to keep."""
        self._folder = folder

    def keep(self, log: RecorderLog, *, bay: BayNumber, serial: str, at: datetime) -> Path:
        """Keep a log, its exact bytes, and let the oldest go that are too many.

        Args:
            log: One that stopped coming is called ``….part.log``.
            bay: Where the recorder was.
            serial: By its own word; untrusted.
            at: Aware.

        Raises:
            OSError: Our disk failed.
        """
        make_directories(self._folder)
        time = at.astimezone(UTC).strftime("%Y%m%dT%H%M%S%fZ")
        safe = _UNSAFE.sub("_", serial)[:_MOST_SERIAL_CHARACTERS] or "unknown"
        end = "" if log.is_complete else _PART
        path = self._folder / f"{time}-bay-{bay:02d}-{safe}{end}.log"
        replace_file(path, log.content)
        for old in self._names()[:-MOST_LOGS]:
            old.unlink(missing_ok=True)
        return path

    def newest(self, bay: BayNumber) -> Path | None:
        """Return the last log that came from a bay."""
        return next(
            (path for path in reversed(self._names()) if f"-bay-{bay:02d}-" in path.name), None
        )

    def _names(self) -> list[Path]:
        return sorted(self._folder.glob("*-bay-*.log"))
