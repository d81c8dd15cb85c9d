"""Wiring: the console as a process, from its settings to an orderly stop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from runtime import service, tls
from runtime.link import LinkSettings
from server_agent.access.login import Gate
from server_agent.access.store import open_access
from server_agent.adapters.command_socket import ask_server
from server_agent.console.app import build_app
from server_agent.console.assets import Assets, load_assets
from server_agent.console.board import Board
from server_agent.console.config import ConsoleSettings, Mqtt, catalogue_url
from server_agent.console.errands import Errands
from server_agent.console.guard import Desk
from server_agent.console.live_link import follow_docks, watch_catalogue
from server_agent.console.pages import Pages
from server_agent.console.reader import CatalogueReader, open_catalogue
from server_agent.console.web_server import WebServer

CLIENT_ID: Final = "console"

_log = structlog.get_logger(__name__)


async def run(
    settings: ConsoleSettings, *, base: Path, listening: Callable[[str], None] = lambda _: None
) -> None:
    """Serve the console until SIGTERM or SIGINT.

    Args:
        settings: From `load_settings`.
        base: What a relative path in the catalogue's URL is relative to.
        listening: Called with the console's address once it answers.

    Raises:
        OSError, sqlite3.Error: The address is taken, or our own disk failed.
        RuntimeFault, ServerError: A key, a file of the program or the database is unusable.
    """
    assets = load_assets()
    link = link_settings(settings.mqtt)
    with service.stop_event() as stop:
        async with open_desk(settings, assets, base=base) as desk:
            server = WebServer(build_app(desk, assets), settings.listen)
            heard = asyncio.Event()
            async with asyncio.TaskGroup() as tasks:
                endless = (
                    tasks.create_task(follow_docks(desk.board, link, desk.clock, heard)),
                    tasks.create_task(watch_catalogue(desk.board, desk.reader, desk.clock, heard)),
                )
                tasks.create_task(service.keep_watchdog(stop), name="watchdog")
                tasks.create_task(server.serve(), name="web server")
                await server.started()
                _log.info("console listens", address=server.address)
                service.notify("READY=1")
                listening(server.address)
                await stop.wait()
                service.notify("STOPPING=1")
                desk.board.close()
                desk.errands.close()
                server.stop()
                for task in endless:
                    task.cancel()


@contextlib.asynccontextmanager
async def open_desk(
    settings: ConsoleSettings, assets: Assets, *, base: Path
) -> AsyncIterator[Desk]:
    """Open all that handlers work with, for the length of the block.

    Raises:
        OSError, sqlite3.Error: Our own disk failed.
        ServerError: The access database is a newer release's, or a file of the program is damaged.
    """
    engine = open_catalogue(catalogue_url(settings, base=base))
    try:
        async with open_access(settings.access.database) as store:
            yield Desk(
                store=store,
                gate=Gate(store),
                reader=CatalogueReader(engine),
                board=Board(),
                errands=Errands(partial(ask_server, settings.commands.socket)),
                pages=Pages(assets, settings.zone),
                archive_root=settings.archive.root,
                limits=settings.access.limits,
                clock=_now_utc,
                secure=settings.listen.tls,
            )
    finally:
        await engine.dispose()


def link_settings(mqtt: Mqtt) -> LinkSettings:
    """Return how to reach the broker.

    Raises:
        KeyExposedError, KeyUnusableError: A key or certificate may not or cannot be used.
        OSError: A file cannot be read.
    """
    context = None
    if mqtt.tls is not None:
        context = tls.client_context(
            ca=mqtt.tls.ca, certificate=mqtt.tls.certificate, key=mqtt.tls.key
        )
    return LinkSettings(host=mqtt.host, port=mqtt.port, client_id=CLIENT_ID, tls=context)


def _now_utc() -> datetime:
    return datetime.now(UTC)
