"""What each bay shows at this moment: written by the bays, read by the uplink and on the spot."""

from collections.abc import Iterable
from typing import Final

import msgspec

from edge_agent.adapters.pulse import Pulse
from protocol.identifiers import BayNumber, DockingId
from protocol.messages import BayMessage, BayState, Charging

# Every byte is there, whatever was counted.
_ARCHIVED: Final = frozenset({BayState.ERASING, BayState.RELEASABLE})


class BayBoard:
    """The latest message of each bay; everything happens in one event loop.

    Attributes:
        turns: Beats whenever a bay shows something else.
    """

    def __init__(self, initial: Iterable[BayMessage]) -> None:
        self.turns = Pulse()
        self._bays = {message.bay: message for message in initial}
        self._sent_bytes: dict[DockingId, int] = {}
        self._promised_bytes: dict[DockingId, int] = {}
        self._charging: dict[BayNumber, tuple[Charging | None, int | None]] = {}

    def show(self, message: BayMessage) -> None:
        """Replace what a bay shows."""
        docked = {other.docking_id for other in self._bays.values()} | {message.docking_id}
        for known in (self._sent_bytes, self._promised_bytes):
            for docking_id in known.keys() - docked:
                del known[docking_id]
        self._replace(message)

    def promise(self, docking_id: DockingId, size_bytes: int) -> None:
        """Note how many bytes the manifests of a docking promise; some may be there already."""
        self._promised_bytes[docking_id] = size_bytes
        self.add_uploaded(docking_id, 0)

    def add_uploaded(self, docking_id: DockingId, size_bytes: int) -> None:
        """Count bytes of a docking that the archive confirmed; negative when a file starts anew."""
        for message in self.bays():
            if message.docking_id == docking_id:
                sent_bytes = self._sent_bytes.get(docking_id, 0) + size_bytes
                self._sent_bytes[docking_id] = max(0, sent_bytes)
                self._replace(message)

    def show_charging(self, bay: BayNumber, charging: Charging | None, percent: int | None) -> None:
        """Show what a charger says of a bay; a recorder's own word for its battery goes first."""
        told = (charging, percent)
        if bay in self._bays and told != self._charging.get(bay, (None, None)):
            before = self._without_charging(self._bays[bay])
            self._charging[bay] = told
            self._replace(before)

    def bay(self, number: BayNumber) -> BayMessage:
        """Return what one bay shows."""
        return self._bays[number]

    def bays(self) -> tuple[BayMessage, ...]:
        """Return what all bays show, by number."""
        return tuple(self._bays[number] for number in sorted(self._bays))

    def _replace(self, message: BayMessage) -> None:
        charging, percent = self._charging.get(message.bay, (None, None))
        message = msgspec.structs.replace(
            message,
            uploaded_bytes=self._uploaded_of(message),
            charging=charging,
            battery_percent=percent if message.battery_percent is None else message.battery_percent,
        )
        if message != self._bays.get(message.bay):
            self._bays[message.bay] = message
            self.turns.beat()

    def _without_charging(self, message: BayMessage) -> BayMessage:
        """Return what a bay shows without what the charger said last."""
        _, percent = self._charging.get(message.bay, (None, None))
        if message.battery_percent != percent:
            return message
        return msgspec.structs.replace(message, battery_percent=None)

    def _uploaded_of(self, message: BayMessage) -> int:
        """Return how far the uploads are, as a part of what the docking had to read.

        Not all that was read is sent, nor is all that is sent read at this docking: contents that
        are there twice are sent once, and what an earlier docking left on the dock is sent, too.
        """
        if message.docking_id is None:
            return 0
        promised_bytes = self._promised_bytes.get(message.docking_id)
        if message.state in _ARCHIVED or promised_bytes == 0:
            return message.bytes_total
        sent_bytes = self._sent_bytes.get(message.docking_id, 0)
        if promised_bytes is not None:
            sent_bytes = message.bytes_total * sent_bytes // promised_bytes
        return min(sent_bytes, message.bytes_total)
