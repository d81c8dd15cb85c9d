"""How far a docking is, told as it goes on."""

import dataclasses
from collections.abc import Callable
from typing import Any

from edge_agent.ingest.progress import BayProgress, RateMeter
from edge_agent.ports import OpenDocking
from protocol.manifest import name_of

Report = Callable[[BayProgress], None]


class Teller:
    """Counts what a docking has done, and reports it; used in the event loop only."""

    def __init__(
        self, opened: OpenDocking, report: Report, *, monotonic_s: Callable[[], float]
    ) -> None:
        """Say nothing yet."""
        self._report = report
        self._monotonic_s = monotonic_s
        self._rate = RateMeter()
        self._done_bytes = 0
        self._skipped_bytes = 0
        self._is_first_word = True
        self._progress = BayProgress(
            docking_id=opened.docking_id, recorder=opened.recorder, officer=opened.officer
        )

    def expect(self, *, files: int, size_bytes: int) -> None:
        """Change how much there is to do in all."""
        self._tell(
            files_total=max(0, self._progress.files_total + files),
            bytes_total=max(0, self._progress.bytes_total + size_bytes),
        )

    def begin(self, path: bytes) -> None:
        """Say which file is being read."""
        self._is_first_word = True
        self._tell(current_file=name_of(path).path)

    def note_held(self, held_bytes: int) -> None:
        """Tell how much of the current file is held; the first word says what we had of it."""
        if self._is_first_word:
            self._is_first_word = False
            self._skipped_bytes += held_bytes
        bytes_done = self._done_bytes + held_bytes
        self._rate.note(at_s=self._monotonic_s(), bytes_done=bytes_done - self._skipped_bytes)
        self._tell(
            bytes_done=bytes_done,
            rate_bytes_s=self._rate.bytes_s,
            remaining_s=self._rate.remaining_s(self._progress.bytes_total - bytes_done),
        )

    def note_read(self, size_bytes: int) -> None:
        """Count a file that is held whole now."""
        self._done_bytes += size_bytes
        self._rate.note(at_s=self._monotonic_s(), bytes_done=self._done_bytes - self._skipped_bytes)
        self._tell(files_done=self._progress.files_done + 1, bytes_done=self._done_bytes)

    def note_findings(self, count: int) -> None:
        """Say how many findings there are so far; shown with what is told next."""
        self._progress = dataclasses.replace(self._progress, findings=count)

    def pause(self) -> None:
        """Say that no file is being read."""
        self._tell(current_file=None, bytes_done=self._done_bytes)

    def _tell(self, **changes: Any) -> None:
        self._progress = dataclasses.replace(self._progress, **changes)
        self._report(self._progress)
