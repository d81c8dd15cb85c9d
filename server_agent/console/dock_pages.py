"""One dock: what it found when it looked at itself."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from protocol.errors import IdentifierError
from protocol.identifiers import parse_dock
from server_agent.console.answers import page
from server_agent.console.guard import Desk, Visitor


async def dock(desk: Desk, request: Request, visitor: Visitor) -> Response:
    """Answer ``GET /docks/{dock}``; 404 for one that nobody has heard of."""
    try:
        name = parse_dock(request.path_params["dock"])
    except IdentifierError:
        raise HTTPException(404) from None
    live = desk.board.model.docks.get(name)
    if live is None:
        raise HTTPException(404)
    names = desk.board.facts.names
    return page(
        desk,
        request,
        visitor,
        "dock.html",
        dock=name,
        name=names.docks.get(name) or name,
        report=live.report,
    )
