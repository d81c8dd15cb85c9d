"""A dock's station in use: recorders are put into bays, released, worn and put back."""

import json
import random
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from demo.docking import DirectoryDock
from demo.site import DOCK, Site
from soak.checker import Places, contents_of, find_bags, leftovers, not_archived
from soak.recorders import WornRecorder

_ANSWER_TIMEOUT_S: Final = 5
_LOOK_PAUSE_S: Final = 0.2


class StationError(Exception):
    """The site did something that it must never do; the text says what."""


@dataclass(slots=True)
class _Docked:
    recorder: WornRecorder
    since_s: float


def places_of(site: Site) -> Places:
    """Return where a site keeps what the checker looks at."""
    return Places(
        archive=site.archive,
        catalogue=site.root / "server" / "catalogue.sqlite",
        journal=site.journal,
        staging=site.staging,
        dock_certificate=site.pki / DOCK / "signing.pem",
        archive_certificate=site.pki / "archive" / "signing.pem",
    )


class Station:
    """Bays of one dock, and who stands before them.

    Attributes:
        dockings: How often a recorder was put into a bay.
        released: How often one was released, and taken.
        faults: What was released and is not in the archive.
    """

    def __init__(self, site: Site, recorders: Iterable[WornRecorder], dice: random.Random) -> None:
        self.site = site
        self.recorders = tuple(recorders)
        self.dockings = 0
        self.released = 0
        self.faults: list[str] = []
        self._dice = dice
        self._dock = DirectoryDock()
        self._docked: dict[int, _Docked] = {}
        self._archived: set[tuple[str, str]] = set()
        self._read_bags: set[Path] = set()

    @property
    def waiting(self) -> list[WornRecorder]:
        """Recorders that are in no bay."""
        docked = {one.recorder.folder for one in self._docked.values()}
        return [one for one in self.recorders if one.folder not in docked]

    @property
    def occupied(self) -> list[int]:
        """Bays that a recorder is in."""
        return sorted(self._docked)

    def fill_bays(self) -> None:
        """Put recorders that are in no bay into free bays, at random."""
        bays = [one for one in range(1, self.site.options.bays + 1) if one not in self._docked]
        recorders = self.waiting
        self._dice.shuffle(bays)
        self._dice.shuffle(recorders)
        for bay, recorder in zip(bays, recorders, strict=False):
            self._dock.insert(recorder.folder, self.site.bay(bay))
            self._docked[bay] = _Docked(recorder, time.time())
            self.dockings += 1

    def pull(self, bay: int) -> WornRecorder:
        """Take a recorder out, whatever the dock is doing with it."""
        self._dock.pull(self.site.bay(bay))
        return self._docked.pop(bay).recorder

    def take_released(self) -> None:
        """Take every released recorder; its wearer may empty it, and films on."""
        for bay in self._released_bays():
            recorder = self.pull(bay)
            self.released += 1
            self.faults += not_archived(recorder.on_card, self._read_archive())
            if self._dice.randrange(2):
                recorder.erase()
            recorder.film()

    def finish(self, *, patience_s: float) -> None:
        """Return when every recorder was put into a bay and released, and nothing is on its way.

        Raises:
            StationError: That takes longer than *patience_s*, or a program ended.
        """
        deadline_s = time.monotonic() + patience_s
        unseen = {one.folder for one in self.recorders}
        while unseen or self._pending() or leftovers(places_of(self.site)):
            for bay in self._released_bays():
                recorder = self.pull(bay)
                self.released += 1
                unseen.discard(recorder.folder)
                self.faults += not_archived(recorder.on_card, self._read_archive())
            self._fill_with(unseen)
            self._insist_on(deadline_s, unseen)
            time.sleep(_LOOK_PAUSE_S)

    def bays_told(self) -> dict[int, dict[str, Any]]:
        """Return what the dock says of its bays; nothing while it does not answer."""
        try:
            with socket.socket(socket.AF_UNIX) as asking:
                asking.settimeout(_ANSWER_TIMEOUT_S)
                asking.connect(str(self.site.control_socket))
                asking.sendall(b'{"command": "status"}\n')
                with asking.makefile("rb") as lines:
                    line = lines.readline()
        except OSError:
            return {}
        return {bay["bay"]: bay for bay in json.loads(line)["bays"]} if line else {}

    def _released_bays(self) -> list[int]:
        told = self.bays_told()
        return [
            bay
            for bay, docked in self._docked.items()
            if bay in told and _is_released(told[bay], docked)
        ]

    def _read_archive(self) -> set[tuple[str, str]]:
        """Return serial and digest of all that is archived; a bag is read once."""
        for bag in find_bags(self.site.archive):
            if bag not in self._read_bags:
                self._read_bags.add(bag)
                self._archived |= {(file.serial, file.sha256) for file in contents_of(bag)}
        return self._archived

    def _pending(self) -> bool:
        """Whether anybody says that something is on its way."""
        told = self.bays_told()
        return not told or any(bay["state"] != "empty" for bay in told.values())

    def _fill_with(self, unseen: set[Path]) -> None:
        if any(one.folder in unseen for one in self.waiting):
            self.fill_bays()

    def _insist_on(self, deadline_s: float, unseen: set[Path]) -> None:
        site = self.site
        for program in (site.edge, site.server, site.broker):
            if not program.running():
                raise StationError(f"{program.name} ended by itself:\n{program.last_lines()}")
        if time.monotonic() > deadline_s:
            states = {bay: one["state"] for bay, one in self.bays_told().items()}
            raise StationError(
                f"not done in time: {len(unseen)} recorders not released, bays {states}, "
                f"{leftovers(places_of(site))[:5]}"
            )


def _is_released(told: dict[str, Any], docked: _Docked) -> bool:
    """Whether the dock says so of this docking, and not of who was there before."""
    return (
        told["state"] == "releasable"
        and told.get("serial") == docked.recorder.registered.serial
        and datetime.fromisoformat(told["changed_at"]).timestamp() >= docked.since_s
    )
