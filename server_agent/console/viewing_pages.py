"""The viewing log: who watched what, and when."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from server_agent.console.answers import page
from server_agent.console.guard import Desk, Visitor
from server_agent.console.paging import Paging, page_number

_ROWS: Final = 100


async def viewings(desk: Desk, request: Request, visitor: Visitor) -> Response:
    """Answer ``GET /viewings``."""
    number = page_number(request.query_params.get("page"))
    rows, total = await desk.store.list_viewings(limit=_ROWS, offset=(number - 1) * _ROWS)
    return page(
        desk,
        request,
        visitor,
        "viewings.html",
        rows=rows,
        names=await desk.reader.names(),
        paging=Paging(number=number, total=total, rows=_ROWS),
    )
