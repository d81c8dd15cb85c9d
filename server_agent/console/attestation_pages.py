"""What docks attested about the no-internet rule: the last word, all of them, and to take away."""

from dataclasses import dataclass
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from protocol.errors import IdentifierError
from protocol.identifiers import DockId, parse_dock
from server_agent.console.answers import page
from server_agent.console.guard import Desk, Visitor
from server_agent.console.paging import Paging, page_number
from server_agent.console.reader import PAGE_ROWS
from server_agent.console.records import AttestationRecord
from server_agent.intake.attestations import PATIENCE

_HIGHEST: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LastAttested:
    """How a dock stood when it attested last; *is_late*: the next one should have come."""

    record: AttestationRecord
    is_late: bool


async def last_attested(desk: Desk, dock: DockId, visitor: Visitor) -> LastAttested | None:
    """Return a dock's last attestation; None if it never made one."""
    newest, _ = await desk.reader.attestations_of(dock, offset=0, limit=1)
    for record in newest:
        is_late = visitor.now_utc - record.received_at_utc > PATIENCE
        return LastAttested(record=record, is_late=is_late)
    return None


async def attestations(desk: Desk, request: Request, visitor: Visitor) -> Response:
    """Answer ``GET /docks/{dock}/attestations``: newest first; 404 if there is none."""
    dock = _dock(request)
    number = page_number(request.query_params.get("page"))
    rows, total = await desk.reader.attestations_of(dock, offset=(number - 1) * PAGE_ROWS)
    if not total:
        raise HTTPException(404)
    return page(
        desk,
        request,
        visitor,
        "attestations.html",
        dock=dock,
        has_page=dock in desk.board.model.docks,
        name=desk.board.facts.names.docks.get(dock) or dock,
        rows=rows,
        paging=Paging(number=number, total=total, rows=PAGE_ROWS),
    )


async def envelope(desk: Desk, request: Request, visitor: Visitor) -> Response:
    """Answer ``GET /docks/{dock}/attestations/{number}``: the bytes as they came; 404 for none."""
    del visitor
    dock, number = _dock(request), int(request.path_params["number"])
    kept = await desk.reader.find_attestation(dock, number) if number <= _HIGHEST else None
    if kept is None:
        raise HTTPException(404)
    name = f"{dock}-{number:08d}.dsse.json"
    return Response(
        kept,
        media_type="application/json",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _dock(request: Request) -> DockId:
    try:
        return parse_dock(request.path_params["dock"])
    except IdentifierError:
        raise HTTPException(404) from None
