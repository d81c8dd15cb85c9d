"""What each bay shows at this moment: written by the bays, read by the uplink and on the spot."""

from collections.abc import Iterable

import msgspec

from edge_agent.adapters.pulse import Pulse
from protocol.identifiers import BayNumber, DockingId
from protocol.messages import BayMessage


class BayBoard:
    """The latest message of each bay; everything happens in one event loop.

    Attributes:
        turns: Beats whenever a bay shows something else.
    """

    def __init__(self, initial: Iterable[BayMessage]) -> None:
        self.turns = Pulse()
        self._bays = {message.bay: message for message in initial}
        self._uploaded_bytes: dict[DockingId, int] = {}

    def show(self, message: BayMessage) -> None:
        """Replace what a bay shows."""
        uploaded_bytes = self._uploaded_of(message.docking_id)
        message = msgspec.structs.replace(message, uploaded_bytes=uploaded_bytes)
        docked = {other.docking_id for other in self._bays.values()} | {message.docking_id}
        self._uploaded_bytes = {
            docking: done for docking, done in self._uploaded_bytes.items() if docking in docked
        }
        if message != self._bays.get(message.bay):
            self._bays[message.bay] = message
            self.turns.beat()

    def add_uploaded(self, docking_id: DockingId, size_bytes: int) -> None:
        """Count bytes of a docking that the archive confirmed; negative when a file starts anew."""
        for bay, message in self._bays.items():
            if message.docking_id == docking_id:
                done = max(0, self._uploaded_of(docking_id) + size_bytes)
                self._uploaded_bytes[docking_id] = done
                self._bays[bay] = msgspec.structs.replace(message, uploaded_bytes=done)
                self.turns.beat()

    def bay(self, number: BayNumber) -> BayMessage:
        """Return what one bay shows."""
        return self._bays[number]

    def bays(self) -> tuple[BayMessage, ...]:
        """Return what all bays show, by number."""
        return tuple(self._bays[number] for number in sorted(self._bays))

    def _uploaded_of(self, docking_id: DockingId | None) -> int:
        return 0 if docking_id is None else self._uploaded_bytes.get(docking_id, 0)
