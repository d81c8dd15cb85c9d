"""How far a docking is, and how fast it goes."""

from collections import deque
from dataclasses import dataclass
from typing import Final

from protocol.identifiers import DockingId, OfficerId
from protocol.manifest import RecorderFacts

_WINDOW_S: Final = 5.0
# Two samples closer than this say nothing about a rate.
_SHORTEST_S: Final = 0.001
# At one sample for each MiB, the window is shorter than this from 200 MiB/s on.
_MAX_SAMPLES: Final = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class BayProgress:
    """One docking as it is now, for the bay's message and light.

    Files that were known already are in none of the counts. There is a progress only once the
    recorder has been identified.

    Attributes:
        current_file: As text; None between two files.
        remaining_s: None until there is a rate.
        findings: How many so far.
    """

    docking_id: DockingId
    recorder: RecorderFacts
    officer: OfficerId | None
    files_total: int = 0
    files_done: int = 0
    bytes_total: int = 0
    bytes_done: int = 0
    rate_bytes_s: int = 0
    remaining_s: int | None = None
    current_file: str | None = None
    findings: int = 0


class RateMeter:
    """Bytes per second over the last seconds; time is an argument."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque(maxlen=_MAX_SAMPLES)

    def note(self, *, at_s: float, bytes_done: int) -> None:
        """Take in how many bytes were done at a moment; moments never go back."""
        self._samples.append((at_s, bytes_done))
        while at_s - self._samples[0][0] > _WINDOW_S:
            self._samples.popleft()

    @property
    def bytes_s(self) -> int:
        """The rate over the window; 0 until there are two moments."""
        if not self._samples:
            return 0
        (first_s, first_bytes), (last_s, last_bytes) = self._samples[0], self._samples[-1]
        elapsed_s = last_s - first_s
        if elapsed_s < _SHORTEST_S:
            return 0
        return max(0, int((last_bytes - first_bytes) / elapsed_s))

    def remaining_s(self, remaining_bytes: int) -> int | None:
        """Return how long the rest takes at this rate, rounded up; None while nothing moves."""
        rate = self.bytes_s
        return -(-remaining_bytes // rate) if rate > 0 else None
