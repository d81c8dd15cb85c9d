"""A broker that is killed, loses everything, and says again whatever was ever said on it."""

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from demo.docking import DirectoryDock
from demo.programs import port_answers
from demo.site import DOCK, Site, SiteOptions
from demo.watching import Watching
from protocol.identifiers import DockId
from protocol.messages import BayState
from protocol.topics import REGISTRY, Channel, of_dock
from runtime.errors import LinkError
from runtime.link import LinkSettings, Message, open_link
from runtime.tls import client_context
from tests.e2e.archive_reading import payload_digests, refuse_bad_bags
from tests.simulators.recorder_folders import RecorderFolder, build_recorder

pytestmark = pytest.mark.processes

BAYS = 3
PATIENCE_S = 120
MANIFESTS = of_dock(DockId(DOCK), Channel.MANIFESTS)
RECEIPTS = of_dock(DockId(DOCK), Channel.RECEIPTS)


@pytest.fixture
def recorders(tmp_path: Path) -> list[RecorderFolder]:
    return [
        build_recorder(
            tmp_path / "recorders" / str(number),
            number=number,
            recordings=2,
            clips=2,
            clip_bytes=100_000,
            seed=number,
        )
        for number in range(1, BAYS + 1)
    ]


@pytest.fixture
def site(tmp_path: Path, recorders: list[RecorderFolder]) -> Iterator[Site]:
    registered = [one.registered for one in recorders]
    site = Site(tmp_path / "site", registered, SiteOptions(bays=BAYS, reconcile_s=2))
    site.prepare()
    try:
        yield site
    finally:
        site.stop()


def link_of(site: Site, name: str, client_id: str) -> LinkSettings:
    folder = site.pki / name
    tls = client_context(
        ca=site.pki / "ca.pem", certificate=folder / "tls.pem", key=folder / "tls.key"
    )
    return LinkSettings(host="127.0.0.1", port=site.mqtt_port, client_id=client_id, tls=tls)


@contextmanager
def listening(site: Site) -> Iterator[list[Message]]:
    """Write down what is said on the broker, from a thread of its own."""
    heard: list[Message] = []
    loop, there = asyncio.new_event_loop(), threading.Event()

    async def listen() -> None:
        async with open_link(link_of(site, "console", "console")) as link:
            for topic in (MANIFESTS, RECEIPTS, REGISTRY):
                await link.subscribe(topic)
            there.set()
            async for message in link.messages():
                heard.append(message)
                await link.acknowledge(message)

    task = loop.create_task(listen())
    thread = threading.Thread(target=lambda: run(loop, task), name="listener", daemon=True)
    thread.start()
    try:
        assert there.wait(PATIENCE_S)
        yield heard
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(PATIENCE_S)
        loop.close()


def run(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))


async def say_again(site: Site, messages: Sequence[Message]) -> None:
    """Publish as those who said it first, whose connections the broker ends for it."""
    async with asyncio.TaskGroup() as group:
        of_the_dock = [one for one in messages if one.topic == MANIFESTS]
        group.create_task(say(link_of(site, DOCK, DOCK), of_the_dock))
        of_the_archive = [one for one in messages if one.topic != MANIFESTS]
        group.create_task(say(link_of(site, "archive", "archive"), of_the_archive))


async def say(settings: LinkSettings, messages: Sequence[Message]) -> None:
    waiting = deque(messages)
    while waiting:
        # The program whose name we use takes its place back now and then.
        with contextlib.suppress(LinkError):
            async with open_link(settings) as link:
                while waiting:
                    topic = waiting[0].topic
                    await link.publish(topic, waiting[0].payload, retain=topic == REGISTRY)
                    waiting.popleft()


def wait_for_release(site: Site, bays: set[int]) -> None:
    """Return when these bays are releasable, which needs their receipts."""
    deadline = time.monotonic() + PATIENCE_S
    states: dict[int, BayState] = {}
    with Watching(site.control_socket) as watching:
        while {bay for bay, state in states.items() if state is BayState.RELEASABLE} < bays:
            assert time.monotonic() < deadline, f"{states}: {site.edge.last_lines()}"
            try:
                message = watching.next(timeout_s=5)
            except queue.Empty:
                continue
            states[message.bay] = message.state


def wipe_broker(site: Site) -> None:
    """Kill it, and let it begin with nothing."""
    site.broker.kill()
    for file in list((site.root / "broker").rglob("mosquitto.db")):
        file.unlink()
    site.broker.start()
    site.broker.wait_until(lambda: port_answers(site.mqtt_port))


@pytest.mark.timeout(400)
def test_a_broker_that_forgets_and_repeats_changes_nothing(
    site: Site, recorders: list[RecorderFolder]
) -> None:
    """Wiped, and with every message of before said again twice, it causes no second archiving."""
    dock = DirectoryDock()
    site.start_archive()
    with listening(site) as heard:
        site.start_dock()
        dock.insert(recorders[0].folder, site.bay(1))
        wait_for_release(site, {1})
    wipe_broker(site)
    dock.insert(recorders[1].folder, site.bay(2))
    wait_for_release(site, {1, 2})
    asyncio.run(say_again(site, [*heard, *heard, *reversed(heard)]))
    dock.insert(recorders[2].folder, site.bay(3))
    wait_for_release(site, {1, 2, 3})

    assert {message.topic for message in heard} >= {MANIFESTS, RECEIPTS}
    wanted = [digest for one in recorders for digest in one.digests.values()]
    assert payload_digests(site.archive) == dict.fromkeys(wanted, 1)
    assert refuse_bad_bags(site.archive) > 0
    with closing(sqlite3.connect(site.root / "server" / "catalogue.sqlite")) as catalogue:
        sequences = catalogue.execute("SELECT sequence FROM manifests ORDER BY 1").fetchall()
        refused = catalogue.execute("SELECT count(*) FROM refused_messages").fetchone()
    assert [number for (number,) in sequences] == list(range(1, len(sequences) + 1))
    assert refused == (0,)
