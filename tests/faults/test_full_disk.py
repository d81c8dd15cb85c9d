"""A dock whose disk is full when its agent starts: the uplink works, so that room can be made."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent import app
from edge_agent.adapters.control_socket import Command, Snapshot, ask
from edge_agent.adapters.disk_word import DISK_FULL
from edge_agent.config import load_config
from edge_agent.errors import AgentNotRunningError
from edge_agent.ports import DockingOutcome
from tests.simulators.broker import Broker
from tests.simulators.edge_site import EdgeSite, lay_out_edge_site
from tests.simulators.full_database import full_database

pytestmark = pytest.mark.processes


async def snapshot_when(site: EdgeSite, condition: Callable[[Snapshot], bool]) -> Snapshot:
    while True:
        with contextlib.suppress(AgentNotRunningError):
            async with contextlib.aclosing(ask(site.socket, Command.WATCH)) as snapshots:
                async for snapshot in snapshots:
                    if condition(snapshot):
                        return snapshot
        await asyncio.sleep(0.05)


async def test_a_full_journal_stops_ingest_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing can be sealed the dock is connected and its bays say why; then they go on."""
    full = True

    async def close(*_world: object) -> tuple[DockingOutcome, ...]:
        if full:
            raise full_database()
        return ()

    monkeypatch.setattr(app, "close_interrupted_dockings", close)
    site = lay_out_edge_site(tmp_path)
    with Broker(site.root / "broker", authority=site.authority) as broker:
        site.config.write_text(site.edge_toml(mqtt_port=broker.port))
        agent = asyncio.create_task(app._serve_until_stopped(load_config(site.config)))  # noqa: SLF001 -- run_agent brings a loop of its own
        try:
            waiting = await snapshot_when(
                site, lambda found: found.dock.online and found.bays[0].problem is not None
            )
            full = False
            await snapshot_when(site, lambda found: found.bays[0].problem is None)
        finally:
            agent.cancel()
            await asyncio.wait({agent})

    assert waiting.bays[0].problem == DISK_FULL
