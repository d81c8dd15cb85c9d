import asyncio
import contextlib
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from edge_agent.adapters.control_socket import Command, Snapshot, ask
from edge_agent.errors import AgentNotRunningError
from protocol.identifiers import OfficerId, RecorderId
from protocol.messages import BayState
from protocol.registry import RecorderEntry, Registry
from runtime.tls import client_context, server_context
from tests.simulators.archive import Archive
from tests.simulators.archive_service import ArchiveService, Heard, serve_archive
from tests.simulators.bay_folders import CLIP_BYTES, dock_recorder, pull_recorder
from tests.simulators.broker import Broker
from tests.simulators.edge_site import EdgeSite, lay_out_edge_site
from tests.simulators.sealed_manifests import DOCK, NOW
from tests.simulators.tus_archive import TusArchive, serve_tus

pytestmark = pytest.mark.processes

REGISTRY: Final = Registry(
    version=1,
    issued_at=NOW,
    recorders=(
        RecorderEntry(
            recorder=RecorderId("R-0001"),
            make="DSJ",
            model="DSJ-A8",
            serial="0000017",
            officer=OfficerId("012345"),
        ),
    ),
)


@pytest.fixture
def site(tmp_path: Path) -> EdgeSite:
    return lay_out_edge_site(tmp_path)


@pytest.fixture
def broker(site: EdgeSite) -> Iterator[Broker]:
    with Broker(site.root / "broker", authority=site.authority) as running:
        yield running


@pytest.fixture
async def archive(site: EdgeSite, broker: Broker) -> AsyncIterator[ArchiveService]:
    """An archive that knows one recorder, on the ports that edge.toml names."""
    ca, pair = site.authority.ca, site.archive_tls
    tus = TusArchive()
    served = server_context(ca=ca, certificate=pair.certificate, key=pair.key)
    tls = client_context(ca=ca, certificate=pair.certificate, key=pair.key)
    brain = Archive(site.archive_key, site.dock_key, tus, dock=DOCK)
    async with (
        serve_tus(tus, tls=served),
        serve_archive(brain, host=broker.host, port=broker.port, tls=tls, dock=DOCK) as service,
    ):
        https_port = int(tus.url.rpartition(":")[2])
        site.config.write_text(site.edge_toml(mqtt_port=broker.port, https_port=https_port))
        yield service


@dataclass(slots=True)
class Agent:
    """The real program, as systemd starts it."""

    process: Process
    log: Path

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return await self.process.wait()


@contextlib.asynccontextmanager
async def running(site: EdgeSite) -> AsyncIterator[Agent]:
    log = site.root / "agent.log"
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            # A test run that is killed leaves no agent behind.
            *("setpriv", "--pdeathsig", "KILL"),
            *(sys.executable, "-m", "edge_agent", "--config", str(site.config)),
            stdout=output,
            stderr=output,
        )
    try:
        yield Agent(process, log)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def snapshot_when(site: EdgeSite, condition: Callable[[Snapshot], bool]) -> Snapshot:
    """Return the first snapshot over the control socket that fulfils *condition*."""
    while True:
        with contextlib.suppress(AgentNotRunningError):
            async with contextlib.aclosing(ask(site.socket, Command.WATCH)) as snapshots:
                async for snapshot in snapshots:
                    if condition(snapshot):
                        return snapshot
        await asyncio.sleep(0.05)


def released(heard: Heard) -> bool:
    return any(bay.state is BayState.RELEASABLE for bay in heard.bays)


def archived(service: ArchiveService) -> set[bytes]:
    return set(service.archive.tus.files.values())


async def test_from_docking_to_release(site: EdgeSite, archive: ArchiveService) -> None:
    """A docked recorder is read, archived and released, and its staged copies are freed."""
    await archive.publish_registry(REGISTRY)
    contents = dock_recorder(site.bay(1))
    staged = site.root / "staging/files"
    async with running(site) as agent:
        await archive.until(released)
        status = await snapshot_when(site, lambda _one: not any(staged.iterdir()))
        ended = await agent.stop()

    assert ended == 0, agent.log.read_text()
    assert archived(archive) == set(contents.values())
    assert status.bays[0].state is BayState.RELEASABLE
    assert status.bays[0].uploaded_bytes == len(contents) * CLIP_BYTES
    assert not archive.heard.alerts
    await archive.until(lambda heard: not heard.statuses[-1].online)


@pytest.mark.parametrize("kill_at", ["reading", "uploading", "sealed"])
async def test_killed_in_the_middle(site: EdgeSite, archive: ArchiveService, kill_at: str) -> None:
    """Killed while reading, uploading or waiting for the receipt, it goes on after a restart."""
    await archive.publish_registry(REGISTRY)
    site.config.write_text(f"{site.config.read_text()}read_limit_bytes_s = 800_000\n")
    contents = dock_recorder(site.bay(1))
    service_answers = archive.alter
    if kill_at == "uploading":
        archive.archive.tus.faults.gate = asyncio.Event()
    if kill_at == "sealed":
        archive.alter = lambda _answer: []
    moments: dict[str, Callable[[], Awaitable[object]]] = {
        "reading": lambda: snapshot_when(site, lambda one: one.bays[0].bytes_done > CLIP_BYTES),
        "uploading": lambda: archive.archive.tus.until_patching(1),
        "sealed": lambda: archive.until(lambda heard: bool(heard.manifests)),
    }
    async with running(site) as agent:
        await moments[kill_at]()
        assert await agent.stop(signal.SIGKILL) == -signal.SIGKILL
    archive.alter = service_answers
    if archive.archive.tus.faults.gate is not None:
        archive.archive.tus.faults.gate.set()
    archive.heard.bays.clear()
    async with running(site) as agent:
        await archive.until(released)
        assert await agent.stop() == 0, agent.log.read_text()

    assert archived(archive) == set(contents.values())


async def test_stopped_while_reading_seals_nothing(site: EdgeSite, archive: ArchiveService) -> None:
    """SIGTERM in the middle of a copy ends the agent soon, and no manifest claims the half."""
    await archive.publish_registry(REGISTRY)
    site.config.write_text(f"{site.config.read_text()}read_limit_bytes_s = 100_000\n")
    dock_recorder(site.bay(1))
    async with running(site) as agent:
        await snapshot_when(site, lambda one: one.bays[0].bytes_done > 0)
        ended = await agent.stop()

    assert ended == 0, agent.log.read_text()
    assert not archive.heard.manifests


async def test_without_a_network_ingest_goes_on(site: EdgeSite, archive: ArchiveService) -> None:
    """With the registry of before, recorders are read while nothing answers; all follows later."""
    await archive.publish_registry(REGISTRY)
    online = site.config.read_text()
    async with running(site) as agent:
        await snapshot_when(site, lambda one: one.dock.registry_version == 1)
        await agent.stop()
    site.config.write_text(site.edge_toml(mqtt_port=1, https_port=1))
    contents = dock_recorder(site.bay(1))
    async with running(site) as agent:
        status = await snapshot_when(site, lambda one: one.bays[0].state is BayState.SEALED)
        await agent.stop()
    site.config.write_text(online)
    async with running(site):
        await archive.until(released)

    assert not status.dock.online
    assert status.problem is not None
    assert archived(archive) == set(contents.values())


async def test_nothing_is_read_before_the_registry(site: EdgeSite, archive: ArchiveService) -> None:
    """A bay waits for the first registry and says so; then it goes on by itself."""
    dock_recorder(site.bay(1))
    async with running(site):
        waiting = await snapshot_when(site, lambda one: one.bays[0].problem is not None)
        await archive.publish_registry(REGISTRY)
        await archive.until(released)

    assert waiting.bays[0].state is BayState.IDENTIFYING
    assert waiting.bays[0].problem == "E-BAY-102"


async def test_a_stranger_is_reported_and_not_read(site: EdgeSite, archive: ArchiveService) -> None:
    """An unregistered recorder raises one alert; once registered it is read without redocking."""
    await archive.publish_registry(REGISTRY)
    contents = dock_recorder(site.bay(1), serial="9999999")
    async with running(site):
        await archive.until(lambda heard: bool(heard.alerts))
        quarantined = await snapshot_when(
            site, lambda one: one.bays[0].state is BayState.QUARANTINED
        )
        [alert] = archive.heard.alerts
        known = RecorderEntry(
            recorder=RecorderId("R-0009"), make="DSJ", model="DSJ-A8", serial="9999999"
        )
        await archive.publish_registry(Registry(version=2, issued_at=NOW, recorders=(known,)))
        await archive.until(released)

    assert (alert.code, alert.bay) == ("E-ING-206", 1)
    assert alert.facts == {"model": "DSJ-A8", "serial": "9999999"}
    assert quarantined.bays[0].serial == "9999999"
    assert archive.heard.alerts == [alert]
    assert archived(archive) == set(contents.values())


async def test_a_pulled_recorder_leaves_an_empty_bay(
    site: EdgeSite, archive: ArchiveService
) -> None:
    """Pulled in mid-copy, what is whole is claimed; docked again, the rest follows."""
    await archive.publish_registry(REGISTRY)
    site.config.write_text(f"{site.config.read_text()}read_limit_bytes_s = 800_000\n")
    contents = dock_recorder(site.bay(1))
    async with running(site):
        await snapshot_when(site, lambda one: one.bays[0].bytes_done > CLIP_BYTES)
        pulled = pull_recorder(site.bay(1))
        await snapshot_when(site, lambda one: one.bays[0].state is BayState.EMPTY)
        await archive.until(lambda heard: bool(heard.manifests))
        pulled.rename(site.bay(1))
        await archive.until(released)

    assert archived(archive) == set(contents.values())


async def test_killed_and_pulled(site: EdgeSite, archive: ArchiveService) -> None:
    """A docking that was cut short is sealed at the next start, though its recorder is gone."""
    await archive.publish_registry(REGISTRY)
    site.config.write_text(f"{site.config.read_text()}read_limit_bytes_s = 800_000\n")
    dock_recorder(site.bay(1))
    async with running(site) as agent:
        await snapshot_when(site, lambda one: one.bays[0].files_done > 0)
        await agent.stop(signal.SIGKILL)
    pull_recorder(site.bay(1))
    stray = site.root / "staging/files/nobodys"
    stray.write_bytes(b"left by a power cut")
    async with running(site) as agent:
        await archive.until(lambda heard: bool(heard.manifests))
        assert await agent.stop() == 0

    assert not stray.exists()


async def test_one_agent_for_one_journal(site: EdgeSite, archive: ArchiveService) -> None:
    """A second agent with the same journal says so in one line and leaves the first one alone."""
    del archive
    other = site.root / "other.toml"
    other.write_text(site.config.read_text().replace("control.socket", "other.socket"))
    async with running(site) as first:
        await snapshot_when(site, lambda _one: True)
        second = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL"),
            *(sys.executable, "-m", "edge_agent", "run", "--config", str(other)),
            stderr=asyncio.subprocess.PIPE,
        )
        _, told = await second.communicate()
        assert await first.stop() == 0

    assert second.returncode == 1
    assert told.decode().splitlines()[-1].startswith("E-CTL-503: ")
