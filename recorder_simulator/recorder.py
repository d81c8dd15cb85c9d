"""What a recorder knows and can do, whatever protocol it is asked in."""

from collections.abc import Callable
from datetime import datetime
from random import Random
from typing import Final
from zoneinfo import ZoneInfo

from edge_agent.drivers.line_messages import CHALLENGE_BYTES
from recorder_simulator.script import FaultKind, Script

_LATEST: Final = datetime(9999, 12, 31, 23, 59, 59)  # noqa: DTZ001 - a recorder's clock has no zone


class SimulatedRecorder:
    """A recorder's state.

    Attributes:
        is_disk: Whether it was told to be a disk.
        is_indicator_on: Whether its lamp is lit.
    """

    def __init__(self, script: Script, *, utc: Callable[[], datetime], chance: Random) -> None:
        self.script = script
        self.is_disk = False
        self.is_indicator_on = False
        self._has_lock = script.password is not None or any(
            fault.kind is FaultKind.PASSWORD_REFUSED for fault in script.faults
        )
        self.is_unlocked = not self._has_lock
        self._chance = chance
        self._utc = utc
        self._set_at_utc = utc()
        self._set_to = script.clock or self._true_local()

    def plug_in_anew(self) -> None:
        """Forget what does not outlive a new connection."""
        self.is_unlocked = not self._has_lock

    def challenge(self) -> bytes:
        """Return a new challenge."""
        return self._chance.randbytes(CHALLENGE_BYTES)

    @property
    def clock(self) -> datetime:
        """Its own local time; it stands still at the end of all years."""
        try:
            return self._set_to + (self._utc() - self._set_at_utc)
        except OverflowError:
            return _LATEST

    def set_clock(self, local: datetime) -> None:
        """Take *local* for now."""
        self._set_at_utc = self._utc()
        self._set_to = local

    def _true_local(self) -> datetime:
        return self._utc().astimezone(ZoneInfo(self.script.zone)).replace(tzinfo=None)
