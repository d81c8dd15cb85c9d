"""What one bay shows: its state, and what is known of the recorder in it."""

from typing import Final

import msgspec
import structlog

from edge_agent.adapters.bay_board import BayBoard
from edge_agent.adapters.notice_store import Clock, plain_text
from edge_agent.bay.machine import BayEvent, advance
from edge_agent.ingest.progress import BayProgress
from edge_agent.mounting.messages import Erased, Progress
from protocol.identifiers import BayNumber, DockId
from protocol.messages import BayMessage, BayState

_MAX_TEXT: Final = 500
_MAX_LABEL: Final = 128

_log = structlog.get_logger(__name__)


def empty_bay(dock: DockId, bay: BayNumber, clock: Clock) -> BayMessage:
    """Return what a bay shows with nothing in it."""
    return BayMessage(dock=dock, bay=bay, state=BayState.EMPTY, changed_at=clock())


class BayFace:
    """Writes one bay's message to the board; the table of transitions decides its state."""

    def __init__(self, dock: DockId, bay: BayNumber, board: BayBoard, clock: Clock) -> None:
        self._message = empty_bay(dock, bay, clock)
        self._board = board
        self._clock = clock
        self._problem: tuple[str, str] | None = None
        self._disk_problem: tuple[str, str] | None = None

    @property
    def state(self) -> BayState:
        """Where the bay stands."""
        return self._message.state

    def reset(self) -> None:
        """Show an empty bay: nothing of what was before is known any more."""
        self._message = empty_bay(self._message.dock, self._message.bay, self._clock)
        self.show_problem(None)

    def advance(self, event: BayEvent, *, problem: tuple[str, str] | None = None) -> None:
        """Let *event* happen; an empty bay and a new attempt show nothing of what was before.

        Args:
            event: One that the table has a row for.
            problem: The code and the words of what keeps the bay from going on.
        """
        before = self._message
        state = advance(before.state, event)
        if event in {BayEvent.LEFT, BayEvent.RETRY}:
            self._message = empty_bay(before.dock, before.bay, self._clock)
        self._message = msgspec.structs.replace(
            self._message, state=state, changed_at=self._clock()
        )
        _log.info("bay", bay=before.bay, state=state.value, because=event.value)
        self.show_problem(problem)

    def show_problem(self, problem: tuple[str, str] | None) -> None:
        """Show what keeps the bay from going on, or that nothing does any more."""
        self._problem = problem
        self._show_problems()

    def show_disk_problem(self, problem: tuple[str, str] | None) -> None:
        """Show what is wrong with the dock's disk; as long as it is, nothing else matters."""
        self._disk_problem = problem
        self._show_problems()

    def _show_problems(self) -> None:
        code, text = self._disk_problem or self._problem or (None, None)
        shown = None if text is None else plain_text(text, _MAX_TEXT)
        self._replace(problem=code, problem_text=shown)

    def show_name(self, *, model: str, serial: str) -> None:
        """Show how the recorder names itself."""
        shown_model, shown_serial = plain_text(model, _MAX_LABEL), plain_text(serial, _MAX_LABEL)
        self._replace(model=shown_model, serial=shown_serial)

    def show_step(self, words: str) -> None:
        """Show what a recorder was asked last, where the file that is read is shown later."""
        self._replace(current_file=words)

    def show_battery(self, charge_percent: int | None) -> None:
        """Show how full the recorder's battery is, as far as it told."""
        self._replace(battery_percent=charge_percent, current_file=None)

    def show_progress(self, progress: BayProgress) -> None:
        """Show how far the docking is."""
        recorder = progress.recorder
        self._replace(
            recorder=recorder.recorder_id,
            model=recorder.model,
            serial=recorder.serial,
            officer=progress.officer,
            docking_id=progress.docking_id,
            files_total=progress.files_total,
            files_done=progress.files_done,
            bytes_total=progress.bytes_total,
            bytes_done=progress.bytes_done,
            rate_bytes_s=progress.rate_bytes_s,
            remaining_s=progress.remaining_s,
            current_file=progress.current_file,
            findings=progress.findings,
        )

    def show_erasing(self, progress: Progress) -> None:
        """Show how much of what is to be erased was read once more; nothing while that waits."""
        total = progress.bytes_total
        percent = 100 * progress.bytes_done // total if total else 0
        self._replace(erasing_percent=min(100, percent))

    def show_erased(self, erased: Erased) -> None:
        """Show what is gone from the recorder."""
        self._replace(erasing_percent=None, erased_files=erased.files)

    def show_end(self, *, findings: int) -> None:
        """Show a docking that is over: nothing moves any more."""
        self._replace(findings=findings, rate_bytes_s=0, remaining_s=None, current_file=None)

    def _replace(self, **changes: object) -> None:
        self._message = msgspec.structs.replace(self._message, **changes)
        self._board.show(self._message)
