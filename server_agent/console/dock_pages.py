"""One dock: what it found when it looked at itself, what went wrong, what it can be asked to do."""

from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from protocol.commands import CommandVerb
from protocol.errors import IdentifierError
from protocol.identifiers import BayNumber, DockId, parse_bay, parse_dock
from server_agent.access.roles import Permission, may
from server_agent.adapters.command_socket import Request as CommandRequest
from server_agent.console.answers import page
from server_agent.console.attestation_pages import last_attested
from server_agent.console.guard import Desk, Visitor
from server_agent.console.paging import Paging, page_number
from server_agent.console.reader import PAGE_ROWS
from server_agent.console.wall import alert_line

_IDENTIFY_S: Final = 30


async def dock(desk: Desk, request: Request, visitor: Visitor) -> Response:
    """Answer ``GET /docks/{dock}``; 404 for one that nobody has heard of.

    With ``?bay=3`` what went wrong is that bay's alone.
    """
    name = _known(desk, request)
    live = desk.board.model.docks[name]
    session = visitor.session
    may_command = session is not None and may(session.user.role, Permission.COMMAND_DOCKS)
    bays = 0 if live.status is None else live.status.message.bays
    bay = _asked_bay(request.query_params.get("bay", ""))
    number = page_number(request.query_params.get("page"))
    rows, total = await desk.reader.alerts_of(name, bay=bay, offset=(number - 1) * PAGE_ROWS)
    names = desk.board.facts.names
    return page(
        desk,
        request,
        visitor,
        "dock.html",
        dock=name,
        name=names.docks.get(name) or name,
        report=live.report,
        attested=await last_attested(desk, name, visitor),
        may_command=may_command,
        errands=desk.errands.of(name) if may_command else (),
        bays=range(1, bays + 1),
        bay=bay,
        alerts=[alert_line(row, names) for row in rows],
        paging=Paging(
            number=number, total=total, rows=PAGE_ROWS, kept="" if bay is None else f"bay={bay}"
        ),
    )


async def ask(desk: Desk, request: Request, visitor: Visitor) -> Response:
    """Answer ``POST /docks/{dock}/commands``: the answer is on the dock's page when it comes."""
    name = _known(desk, request)
    if visitor.session is None:
        raise HTTPException(401)
    try:
        verb = CommandVerb(visitor.form.get("verb", ""))
        bay = _bay(visitor.form.get("bay", ""))
    except (ValueError, IdentifierError):
        raise HTTPException(400) from None
    desk.errands.start(
        CommandRequest(
            dock=name,
            verb=verb,
            asked_by=visitor.session.user.name,
            bay=bay,
            seconds=_IDENTIFY_S if verb is CommandVerb.IDENTIFY else None,
        ),
        now_utc=visitor.now_utc,
    )
    return RedirectResponse(f"/docks/{name}", status_code=303)


def _known(desk: Desk, request: Request) -> DockId:
    try:
        name = parse_dock(request.path_params["dock"])
    except IdentifierError:
        raise HTTPException(404) from None
    if name not in desk.board.model.docks:
        raise HTTPException(404)
    return name


def _asked_bay(untrusted: str) -> BayNumber | None:
    try:
        return _bay(untrusted)
    except IdentifierError:
        return None


def _bay(untrusted: str) -> BayNumber | None:
    return parse_bay(untrusted) if untrusted else None
