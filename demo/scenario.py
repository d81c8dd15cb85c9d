"""The main job on four bays: three recorders that the site knows, one that it does not."""

import queue
import time
from collections.abc import Callable
from typing import Final

from demo.plugging import RecorderPlug
from demo.programs import DemoError
from demo.site import Registered, Site
from demo.volumes import DemoVolume, DemoVolumes
from demo.watching import Watching
from protocol.messages import BayMessage, BayState

MIB: Final = 1 << 20
# What is docked where; bay 2 has the recorder that is pulled out in mid-copy.
PULLED_BAY: Final = 2
UNREGISTERED_BAY: Final = 4
# Its clock began anew when the battery was empty.
DEAD_BATTERY_BAY: Final = 3
_PULL_AT_SHARE: Final = 0.4
_TIMEOUT_S: Final = 180.0


def registered(volumes: DemoVolumes) -> list[Registered]:
    """Return what the site's registry says of the demo's recorders."""
    return [as_registered(volume) for volume in volumes.registered]


def as_registered(volume: DemoVolume) -> Registered:
    """Return what a recorder says of itself, as a registry would have it."""
    return Registered(
        recorder_id=str(volume.recorder_id),
        make=volume.make,
        model=volume.model,
        serial=volume.serial,
        officer=volume.officer,
        officer_name=volume.officer_name,
    )


class Evening:
    """Officers hand in their recorders; one of them is in a hurry."""

    def __init__(self, site: Site, volumes: DemoVolumes, say: Callable[[str], None]) -> None:
        self._site = site
        self._say = say
        self._plug = RecorderPlug(site)
        self._volumes = dict(enumerate(volumes, start=1))
        self._states: dict[int, BayState] = {}
        self._pulled = self._docked_again = False

    def run(self, watching: Watching, show: Callable[[BayMessage], None]) -> None:
        """Dock all recorders and return when each is archived, or refused as it should be.

        Raises:
            DemoError: A program ended by itself, or it took longer than three minutes.
        """
        for number in self._volumes:
            self._insert(number)
        self._say("four recorders are docked: R-0001, R-0002, R-0003, and one nobody registered")
        self._say("each is asked over its serial port who it is; R-0003 believes that it is 1980")
        deadline = time.monotonic() + _TIMEOUT_S
        while not self._over():
            if time.monotonic() > deadline:
                raise DemoError(f"not archived after {_TIMEOUT_S:.0f} s: {self._states}")
            self._all_running()
            try:
                message = watching.next(timeout_s=1)
            except queue.Empty:
                continue
            show(message)
            self._states[message.bay] = message.state
            if message.bay == PULLED_BAY:
                self._hurry(message)

    def _over(self) -> bool:
        wanted = {
            number: BayState.QUARANTINED if number == UNREGISTERED_BAY else BayState.RELEASABLE
            for number in self._volumes
        }
        return self._docked_again and self._states == wanted

    def _hurry(self, message: BayMessage) -> None:
        if not self._pulled:
            reading = message.state is BayState.INGESTING and message.bytes_total > 0
            if reading and message.bytes_done > _PULL_AT_SHARE * message.bytes_total:
                self._plug.pull(PULLED_BAY)
                self._pulled = True
                self._say(
                    f"R-0002 was pulled out of bay {PULLED_BAY} after "
                    f"{message.bytes_done / MIB:.0f} of {message.bytes_total / MIB:.0f} MiB"
                )
        elif not self._docked_again and message.state is BayState.EMPTY:
            self._insert(PULLED_BAY)
            self._docked_again = True
            self._say(f"R-0002 is docked again in bay {PULLED_BAY}: it goes on where it was")

    def _insert(self, number: int) -> None:
        volume = self._volumes[number]
        battery = ("--battery", str(95 - 17 * number))
        clock = ("--clock", "1980-01-01T00:00:00") if number == DEAD_BATTERY_BAY else ()
        self._plug.insert(number, volume.folder, as_registered(volume), *battery, *clock)

    def end(self) -> None:
        """Take all recorders out of their bays."""
        self._plug.pull_all()

    def _all_running(self) -> None:
        for program in (*self._site.programs, *self._plug.programs):
            if not program.running():
                raise DemoError(f"{program.name} ended by itself:\n{program.last_lines()}")
