"""What befalls a station in half an hour that a year would bring; dice decide the order."""

import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from soak.bad_network import BadNetwork
from soak.killing import Killer
from soak.own_disk import SmallDisk
from soak.station import Station

# For so many kills a cut network stays cut, and a full disk full.
_LONGEST_ROUNDS: Final = 12
_MIB: Final = 1 << 20


@dataclass(slots=True)
class _Lasting:
    """Something that lasts for a number of rounds."""

    rounds: int
    end: Callable[[], None]


class Mischief:
    """Does one thing after the other to a station.

    Attributes:
        done: How often each thing was done; kills are counted by the killer.
    """

    def __init__(
        self,
        station: Station,
        killer: Killer,
        network: BadNetwork,
        disk: SmallDisk | None,
        dice: random.Random,
    ) -> None:
        self.done: Counter[str] = Counter()
        self._station = station
        self._killer = killer
        self._network = network
        self._disk = disk
        self._dice = dice
        self._lasting: dict[str, _Lasting] = {}

    def go_on(self) -> None:
        """Let a random time go by, while recorders come and go, and do the next thing."""
        self._station.fill_bays()
        self._killer.wait()
        self._station.take_released()
        self._killer.wait()
        self._end_what_is_over()
        things = {
            self._killer.kill: 60,
            self._pull: 20,
            self._cut_network: 4,
            self._fill_disk: 4,
            self._wipe_broker: 2,
            self._let_be: 6,
        }
        (thing,) = self._dice.choices(list(things), weights=list(things.values()))
        thing()

    def end(self) -> None:
        """Put everything right that was done and lasts."""
        for lasting in self._lasting.values():
            lasting.end()
        self._lasting.clear()
        self._network.be_good()

    def _end_what_is_over(self) -> None:
        for name, lasting in list(self._lasting.items()):
            lasting.rounds -= 1
            if lasting.rounds <= 0:
                lasting.end()
                del self._lasting[name]

    def _let_be(self) -> None:
        """Give everybody the time to get something done."""
        for _ in range(_LONGEST_ROUNDS):
            self._killer.wait()
            self._station.take_released()
            self._station.fill_bays()

    def _pull(self) -> None:
        if occupied := self._station.occupied:
            recorder = self._station.pull(self._dice.choice(occupied))
            self.done["pulled"] += 1
            if self._dice.randrange(2):
                recorder.film()

    def _cut_network(self) -> None:
        self._begin("network cut", self._network.cut, self._network.plug_in)

    def _fill_disk(self) -> None:
        if self._disk is not None:
            self._begin("disk filled", self._fill_up, self._disk.free)

    def _begin(self, name: str, begin: Callable[[], None], end: Callable[[], None]) -> None:
        if name not in self._lasting:
            begin()
            self.done[name] += 1
            self._lasting[name] = _Lasting(self._dice.randint(1, _LONGEST_ROUNDS), end)

    def _fill_up(self) -> None:
        if self._disk is not None:
            # To the last byte now and then; else so that some files still fit.
            self._disk.fill(leave_bytes=self._dice.choice([0, 1, 64, 300]) * _MIB)

    def _wipe_broker(self) -> None:
        site = self._station.site
        site.broker.kill()
        for kept in (site.root / "broker" / "data").iterdir():
            shutil.rmtree(kept) if kept.is_dir() else kept.unlink()
        site.broker.start()
        self.done["broker wiped"] += 1
