"""Listens to the docks at the broker, and looks at the catalogue, for the live page."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from protocol.errors import ProtocolError
from protocol.topics import Channel, of_all_docks
from runtime.link import LinkError, LinkSettings, Message, open_link
from server_agent.console import live
from server_agent.console.board import Board
from server_agent.console.reader import CatalogueReader

Clock = Callable[[], datetime]

_CHANNELS: Final = (
    Channel.STATUS,
    Channel.BAYS,
    Channel.METRICS,
    Channel.ALERTS,
    Channel.DOCTOR,
)
_PAUSES_S: Final = (0.5, 1.0, 2.0, 5.0)
_LOOK_EVERY_S: Final = 3.0
# The archive hears an alert when we do, and needs a moment to keep it.
_KEEPING_S: Final = 0.3

_log = structlog.get_logger(__name__)


async def follow_docks(
    board: Board, settings: LinkSettings, clock: Clock, alert_heard: asyncio.Event
) -> None:
    """Take in what the docks say, for ever; a lost connection shows on the board.

    QoS 0: the broker must not keep what was live an hour ago for us; where a dock stands now is
    retained, and comes again with each subscription.
    """
    failures = 0
    while True:
        try:
            async with open_link(settings) as link:
                for channel in _CHANNELS:
                    await link.subscribe(of_all_docks(channel), qos=0)
                board.update_model(lambda model: live.connected(model, now_utc=clock()))
                _log.info("broker connected", host=settings.host, port=settings.port)
                failures = 0
                async for message in link.messages():
                    _take_in(board, message, clock(), alert_heard)
        except LinkError as error:
            _log.warning("broker lost", code=error.code, problem=str(error))
        finally:
            board.update_model(lambda model: live.disconnected(model, now_utc=clock()))
        await asyncio.sleep(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)])
        failures += 1


async def watch_catalogue(
    board: Board, reader: CatalogueReader, clock: Clock, alert_heard: asyncio.Event
) -> None:
    """Keep the catalogue's facts on the board, for ever: every few seconds, and at an alert."""
    while True:
        now_utc = clock()
        try:
            facts = await reader.read_site(now_utc=now_utc)
        except (SQLAlchemyError, ProtocolError, OSError) as error:
            if board.facts.failed_at_utc is None:
                _log.error("catalogue unreadable", problem=str(error))
            failed_at_utc = board.facts.failed_at_utc or now_utc
            facts = replace(board.facts, failed_at_utc=failed_at_utc)
        if replace(facts, read_at_utc=board.facts.read_at_utc) != board.facts:
            board.update_facts(facts)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_EVERY_S):
                await alert_heard.wait()
                await asyncio.sleep(_KEEPING_S)
        alert_heard.clear()


def _take_in(board: Board, message: Message, now_utc: datetime, alert_heard: asyncio.Event) -> None:
    before = board.model
    board.update_model(
        lambda model: live.received(
            model,
            topic=message.topic,
            untrusted=message.payload,
            retained=message.retain,
            now_utc=now_utc,
        )
    )
    if board.model.alerts_heard != before.alerts_heard:
        alert_heard.set()
    if board.model.unreadable != before.unreadable and board.model.last_unreadable is not None:
        refused = board.model.last_unreadable
        _log.warning(
            "message unreadable", topic=refused.topic, code=refused.code, problem=refused.reason
        )
