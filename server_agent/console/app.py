"""The web application: every address, what it needs, and who answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from server_agent.access.roles import Permission
from server_agent.console import (
    account_pages,
    attestation_pages,
    bay_pages,
    dock_pages,
    recording_pages,
    viewing_pages,
)
from server_agent.console.answers import page
from server_agent.console.assets import Assets
from server_agent.console.guard import Desk, Guard, Handler, Needs
from server_agent.console.headers import SecurityHeaders

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One route. `background`: a page asks by itself, nobody did anything."""

    method: str
    path: str
    handler: Handler
    needs: Needs | Permission
    background: bool = False


_FILE: Final = "/recordings/{recording_id}/files/{file_id:int}"

ADDRESSES: Final = (
    Address(method="GET", path="/", handler=account_pages.home, needs=Needs.SESSION),
    Address(method="GET", path="/login", handler=account_pages.login_page, needs=Needs.NOTHING),
    Address(method="POST", path="/login", handler=account_pages.log_in, needs=Needs.NOTHING),
    Address(method="POST", path="/logout", handler=account_pages.log_out, needs=Needs.SESSION),
    Address(
        method="POST",
        path="/preferences",
        handler=account_pages.set_preferences,
        needs=Needs.NOTHING,
    ),
    Address(method="GET", path="/bays", handler=bay_pages.bays, needs=Permission.SEE_BAYS),
    Address(
        method="GET",
        path="/bays/stream",
        handler=bay_pages.bay_stream,
        needs=Permission.SEE_BAYS,
        background=True,
    ),
    Address(method="GET", path="/docks/{dock}", handler=dock_pages.dock, needs=Permission.SEE_BAYS),
    Address(
        method="GET",
        path="/docks/{dock}/attestations",
        handler=attestation_pages.attestations,
        needs=Permission.SEE_BAYS,
    ),
    Address(
        method="GET",
        path="/docks/{dock}/attestations/{number:int}",
        handler=attestation_pages.envelope,
        needs=Permission.SEE_BAYS,
    ),
    Address(
        method="POST",
        path="/docks/{dock}/commands",
        handler=dock_pages.ask,
        needs=Permission.COMMAND_DOCKS,
    ),
    Address(
        method="GET",
        path="/recordings",
        handler=recording_pages.recordings,
        needs=Permission.SEE_FOOTAGE,
    ),
    Address(
        method="GET",
        path="/recordings/{recording_id}",
        handler=recording_pages.recording,
        needs=Permission.SEE_FOOTAGE,
    ),
    Address(
        method="POST",
        path=f"{_FILE}/viewings",
        handler=recording_pages.start_viewing,
        needs=Permission.SEE_FOOTAGE,
    ),
    Address(
        method="GET",
        path="/viewings/{viewing_id}/media",
        handler=recording_pages.media,
        needs=Permission.SEE_FOOTAGE,
    ),
    Address(
        method="GET",
        path="/viewings",
        handler=viewing_pages.viewings,
        needs=Permission.READ_VIEWINGS,
    ),
)


def build_app(desk: Desk, assets: Assets) -> ASGIApp:
    """Return the console as an ASGI application."""
    guard = Guard(desk)
    routes = [
        Route(
            address.path,
            guard.endpoint(address.handler, address.needs, background=address.background),
            methods=[address.method],
        )
        for address in ADDRESSES
    ]
    routes += [
        Route("/static/{name:path}", assets.answer, methods=["GET"]),
        Route("/healthz", _healthz, methods=["GET"]),
    ]

    async def problem(request: Request, error: Exception) -> Response:
        if isinstance(error, SQLAlchemyError):
            _log.error("catalogue unreadable", problem=str(error))
        status = _status_of(error)
        headers: Mapping[str, Any] = getattr(error, "headers", None) or {}
        visitor = await guard.visitor(request)
        answer = page(desk, request, visitor, "problem.html", status=status, problem=status)
        answer.headers.update(headers)
        return answer

    handlers = dict.fromkeys((HTTPException, SQLAlchemyError, Exception), problem)
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False  # it would answer with whatever Host the request names
    return SecurityHeaders(app)


def _status_of(error: Exception) -> int:
    if isinstance(error, HTTPException):
        return error.status_code
    return 503 if isinstance(error, SQLAlchemyError) else 500


async def _healthz(request: Request) -> Response:
    """Answer ``GET /healthz``: this process is there; nothing else is looked at."""
    del request
    return PlainTextResponse("ok\n")
