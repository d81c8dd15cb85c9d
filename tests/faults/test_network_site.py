"""A whole site of real programs, with a bad network between the dock and everything else."""

import itertools
import queue
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from demo.docking import DirectoryDock
from demo.site import Site, SiteOptions
from demo.watching import Watching
from protocol.messages import BayState
from tests.e2e.archive_reading import payload_digests, refuse_bad_bags
from tests.simulators.fault_proxy import (
    HOST,
    Ending,
    Fault,
    ProxyThread,
    proxy_thread,
    seeded_faults,
)
from tests.simulators.recorder_folders import RecorderFolder, build_recorder

pytestmark = pytest.mark.processes

MIB = 1 << 20
BAYS = 2
PATIENCE_S = 200


@pytest.fixture
def recorders(tmp_path: Path) -> list[RecorderFolder]:
    return [
        build_recorder(
            tmp_path / "recorders" / str(number),
            number=number,
            recordings=2,
            clips=2,
            clip_bytes=2 * MIB,
            seed=number,
        )
        for number in range(1, BAYS + 1)
    ]


@pytest.fixture
def site(tmp_path: Path, recorders: list[RecorderFolder]) -> Iterator[Site]:
    options = SiteOptions(bays=BAYS, reconcile_s=2)
    site = Site(tmp_path / "site", [one.registered for one in recorders], options)
    try:
        yield site
    finally:
        site.stop()


def cuts(seed: int, *, share: float, most_bytes: int, connections: int) -> Iterator[Fault]:
    """Yield what befalls the first connections; not silence, which lasts for minutes."""
    faults = seeded_faults(seed, share=share, most_bytes=most_bytes)
    told = (one for one in faults if one.ending is not Ending.SILENCE)
    return itertools.islice(told, connections)


@pytest.fixture
def networks(site: Site, seed: int) -> Iterator[tuple[ProxyThread, ProxyThread]]:
    """The ways to the broker and to the archive, bad for their first connections."""
    with ExitStack() as stack:
        to_broker = stack.enter_context(
            proxy_thread(
                HOST,
                site.mqtt_port,
                faults=cuts(seed, share=0.8, most_bytes=20_000, connections=4),
            )
        )
        to_archive = stack.enter_context(
            proxy_thread(
                HOST,
                site.https_port,
                faults=cuts(seed + 1, share=0.6, most_bytes=4 * MIB, connections=12),
            )
        )
        site.dock_mqtt_port, site.dock_https_port = to_broker.port, to_archive.port
        site.prepare()
        yield to_broker, to_archive


def wait_for_release(site: Site) -> None:
    """Return when every bay is releasable, which needs every receipt."""
    deadline = time.monotonic() + PATIENCE_S
    states: dict[int, BayState] = {}
    with Watching(site.control_socket) as watching:
        while set(states.values()) != {BayState.RELEASABLE} or len(states) < BAYS:
            assert time.monotonic() < deadline, f"{states}: {site.edge.last_lines()}"
            try:
                message = watching.next(timeout_s=5)
            except queue.Empty:
                continue
            states[message.bay] = message.state


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [11, 12])
def test_a_bad_network_archives_everything_once(
    site: Site,
    recorders: list[RecorderFolder],
    networks: tuple[ProxyThread, ProxyThread],
) -> None:
    """However connections to broker and archive are cut, each file is archived exactly once."""
    site.start_archive()
    site.start_dock()
    dock = DirectoryDock()
    for number, recorder in enumerate(recorders, start=1):
        dock.insert(recorder.folder, site.bay(number))

    wait_for_release(site)

    wanted = [digest for one in recorders for digest in one.digests.values()]
    assert payload_digests(site.archive) == dict.fromkeys(wanted, 1)
    assert refuse_bad_bags(site.archive) > 0
    assert all(network.struck for network in networks)
