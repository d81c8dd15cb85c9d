"""Ends programs as a power cut would, at random milliseconds, and starts them again."""

import random
import time
from collections import Counter
from typing import Final

from demo.programs import Program
from demo.site import Site
from soak.station import StationError

# The longest of the two waits before a kill. The programs need half a second and more to start:
# some are killed while they do.
_LONGEST_WAIT_MS: Final = 1_200


class Killer:
    """Kills dock, archive and broker.

    Attributes:
        kills: How often each program was killed.
    """

    def __init__(self, site: Site, dice: random.Random) -> None:
        self.kills: Counter[str] = Counter()
        self._site = site
        self._dice = dice
        programs = (site.edge, site.server, site.broker)
        self._rounds: tuple[tuple[Program, ...], ...] = (*((one,) for one in programs), programs)

    def wait(self) -> None:
        """Let a random number of milliseconds go by."""
        time.sleep(self._dice.randint(0, _LONGEST_WAIT_MS) / 1_000)

    def kill(self) -> None:
        """Kill one program, or all at once, and start what was killed.

        Raises:
            StationError: A program had ended by itself.
        """
        (victims,) = self._dice.choices(self._rounds, weights=(5, 3, 1, 1))
        for victim in victims:
            if not victim.running():
                raise StationError(f"{victim.name} ended by itself:\n{victim.last_lines()}")
            victim.kill()
            self.kills[victim.name] += 1
        # In the order in which a site is started; nobody waits until they are ready.
        for victim in reversed(victims):
            victim.start()
