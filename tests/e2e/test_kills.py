import queue
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.docking import DirectoryDock
from demo.programs import Program, port_answers
from demo.site import Site, SiteOptions
from demo.watching import Watching
from protocol.messages import BayState
from tests.e2e.archive_reading import payload_digests, refuse_bad_bags
from tests.simulators.recorder_folders import RecorderFolder, build_recorder

pytestmark = pytest.mark.processes

MIB = 1 << 20
BAYS = 3
KILLS = 10
PATIENCE_S = 240


@pytest.fixture
def recorders(tmp_path: Path) -> list[RecorderFolder]:
    return [
        build_recorder(
            tmp_path / "recorders" / str(number),
            number=number,
            recordings=2,
            clips=3,
            clip_bytes=4 * MIB,
            seed=number,
        )
        for number in range(1, BAYS + 1)
    ]


@pytest.fixture
def site(tmp_path: Path, recorders: list[RecorderFolder]) -> Iterator[Site]:
    options = SiteOptions(bays=BAYS, read_limit_bytes_s=4 * MIB)
    site = Site(tmp_path / "site", [one.registered for one in recorders], options)
    site.prepare()
    try:
        yield site
    finally:
        site.stop()


class Killer:
    """Ends a program after some changes of the bays, as a power cut would, and starts it again."""

    def __init__(self, site: Site, seed: int) -> None:
        self._site = site
        self._dice = random.Random(seed)
        self._states: dict[int, BayState] = {}

    def kill_often(self, kills: int) -> None:
        for _ in range(kills):
            self._watch_until(changes=self._dice.randrange(1, 12))
            victim = self._dice.choice([self._site.edge, self._site.server, self._site.broker])
            victim.kill()
            self._start(victim)

    def wait_for_release(self) -> None:
        """Return when every bay is releasable, which needs every receipt."""
        deadline = time.monotonic() + PATIENCE_S
        while set(self._states.values()) != {BayState.RELEASABLE} or len(self._states) < BAYS:
            assert time.monotonic() < deadline, f"{self._states}: {self._site.edge.last_lines()}"
            for program in (self._site.edge, self._site.server, self._site.broker):
                assert program.running(), program.last_lines()
            self._watch_until(changes=1)

    def _watch_until(self, *, changes: int) -> None:
        with Watching(self._site.control_socket) as watching:
            # A new watch tells all bays as they are; only what follows is a change.
            for _ in range(BAYS + changes):
                try:
                    message = watching.next(timeout_s=2)
                except queue.Empty:
                    return
                self._states[message.bay] = message.state

    def _start(self, program: Program) -> None:
        if program is self._site.edge:
            self._site.control_socket.unlink(missing_ok=True)
            self._site.start_dock()
        else:
            port = self._site.https_port if program is self._site.server else self._site.mqtt_port
            program.start()
            program.wait_until(lambda: port_answers(port))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_programs_archive_exactly_once(
    site: Site, recorders: list[RecorderFolder], seed: int
) -> None:
    """Dock, archive and broker are killed at random moments; each file is archived exactly once."""
    site.start_archive()
    site.start_dock()
    dock = DirectoryDock()
    for number, recorder in enumerate(recorders, start=1):
        dock.insert(recorder.folder, site.bay(number))
    killer = Killer(site, seed)

    killer.kill_often(KILLS)
    killer.wait_for_release()

    wanted = [digest for one in recorders for digest in one.digests.values()]
    assert payload_digests(site.archive) == dict.fromkeys(wanted, 1)
    assert refuse_bad_bags(site.archive) > 0
