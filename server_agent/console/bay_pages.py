"""The live page and the stream that keeps it so."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from server_agent.access.roles import Permission, may
from server_agent.access.sessions import Session, is_alive
from server_agent.console.answers import page
from server_agent.console.guard import Desk, Visitor
from server_agent.console.parts import NOTHING, Parts, changed_parts
from server_agent.console.speech import Language
from server_agent.console.views import Wall
from server_agent.console.wall import build_wall

# The page takes three missed ones for a lost connection; static/console.js knows the figure.
TICK_S: Final = 2.0

# Twenty bays report every second: what comes within this time is sent together.
_TOGETHER_S: Final = 0.1
TICKS_BETWEEN_CHECKS: Final = 5


async def bays(desk: Desk, request: Request, visitor: Visitor) -> Response:
    """Answer ``GET /bays``."""
    return page(desk, request, visitor, "bays.html", wall=_wall(desk))


async def bay_stream(desk: Desk, request: Request, visitor: Visitor) -> Response:
    """Answer ``GET /bays/stream``: the whole wall at once, then what changes, and a tick."""
    del request
    if visitor.session is None:
        return Response(status_code=401)
    return StreamingResponse(
        _events(desk, visitor.session, visitor.language), media_type="text/event-stream"
    )


async def _events(desk: Desk, session: Session, language: Language) -> AsyncIterator[str]:
    shown: Wall | None = None
    loop = asyncio.get_running_loop()
    next_tick_s = loop.time()
    ticks = 0
    while not desk.board.closed:
        version = desk.board.version
        wall = _wall(desk)
        parts = changed_parts(shown, wall)
        if parts != NOTHING:
            yield _event(render_parts(desk, language, parts))
            shown = wall
        if loop.time() >= next_tick_s:
            next_tick_s = loop.time() + TICK_S
            ticks += 1
            if ticks % TICKS_BETWEEN_CHECKS == 0 and not await _still_alive(desk, session):
                yield _event("", name="session-ended")
                return
            yield _event(desk.pages.speech[language].clock(desk.clock()), name="tick")
        await desk.board.wait_beyond(version, timeout_s=max(0.0, next_tick_s - loop.time()))
        await asyncio.sleep(_TOGETHER_S)


def render_parts(desk: Desk, language: Language, parts: Parts) -> str:
    """Return the HTML that brings a page up to date."""
    return desk.pages.render("_parts.html", language, parts=parts)


def _wall(desk: Desk) -> Wall:
    return build_wall(desk.board.model, desk.board.facts, now_utc=desk.clock())


async def _still_alive(desk: Desk, session: Session) -> bool:
    """Look again; an open wall keeps a session alive only where no footage is at stake."""
    found = await desk.store.find_session(session.token_sha256)
    now_utc = desk.clock()
    if found is None or not is_alive(found, desk.limits, now_utc=now_utc):
        return False
    if not may(found.user.role, Permission.SEE_FOOTAGE):
        await desk.store.touch_session(found.token_sha256, now_utc=now_utc)
    return True


def _event(data: str, *, name: str | None = None) -> str:
    lines = [f"event: {name}"] if name is not None else []
    lines += [f"data: {line}" for line in data.splitlines() or [""]]
    return "\n".join([*lines, "", ""])
