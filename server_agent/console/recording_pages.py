"""Archived recordings: the list, one recording, and playing a clip."""

import asyncio
import secrets
from datetime import date, timedelta
from typing import Final
from urllib.parse import urlencode

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from protocol.errors import IdentifierError
from protocol.identifiers import parse_officer, parse_recorder, parse_recording_id
from protocol.manifest import DateBasis, Incomplete
from server_agent.access.roles import sees_own_footage_only
from server_agent.access.sessions import Session
from server_agent.access.store import Viewing
from server_agent.console.answers import page
from server_agent.console.errors import FootagePathError
from server_agent.console.footage import locate, media_type
from server_agent.console.guard import Desk, Visitor
from server_agent.console.paging import Paging, page_number
from server_agent.console.reader import PAGE_ROWS
from server_agent.console.records import ClipRecord, RecordingDetail, Wanted

_VIEWING_BYTES: Final = 16
# A page that was asked for with a viewing in its address plays it; the same address later does not.
_STARTED_JUST_NOW: Final = timedelta(minutes=1)
_UNFINISHED_SHOWN: Final = 50
_PLAYERS: Final = frozenset({"audio", "empty", "image", "video"})

_log = structlog.get_logger(__name__)


async def recordings(desk: Desk, request: Request, visitor: Visitor) -> Response:
    """Answer ``GET /recordings``: newest first, by day, officer and recorder if asked."""
    asked = {name: request.query_params.get(name, "") for name in ("day", "officer", "recorder")}
    wanted = _wanted(asked, _session(visitor))
    number = page_number(request.query_params.get("page"))
    rows, total = await desk.reader.list_recordings(wanted, offset=(number - 1) * PAGE_ROWS)
    names = await desk.reader.names()
    kept = urlencode({name: value for name, value in asked.items() if value})
    return page(
        desk,
        request,
        visitor,
        "recordings.html",
        rows=rows,
        asked=asked,
        filtered=any(asked.values()),
        names=names,
        own_only=wanted.own is not None,
        paging=Paging(number=number, total=total, rows=PAGE_ROWS, kept=kept),
    )


async def recording(desk: Desk, request: Request, visitor: Visitor) -> Response:
    """Answer ``GET /recordings/{recording_id}``."""
    detail = await _detail(desk, request, visitor)
    viewing = await _viewing_just_started(desk, request, visitor, detail)
    names = await desk.reader.names()
    return page(
        desk,
        request,
        visitor,
        "recording.html",
        detail=detail,
        names=names,
        media_type=media_type,
        basis=_date_basis(detail),
        unfinished=_unfinished(detail, _session(visitor)),
        unfinished_shown=_UNFINISHED_SHOWN,
        clip=None if viewing is None else _clip(detail, viewing.file_id),
        viewing=viewing,
    )


async def start_viewing(desk: Desk, request: Request, visitor: Visitor) -> Response:
    """Answer ``POST /recordings/{recording_id}/files/{file_id}/viewings``.

    Nothing is played that was not written into the viewing log first.
    """
    session = _session(visitor)
    detail = await _detail(desk, request, visitor)
    clip = _clip(detail, request.path_params["file_id"])
    if clip is None or media_type(clip.safe_name) is None:
        raise HTTPException(404)
    viewing = Viewing(
        viewing_id=secrets.token_urlsafe(_VIEWING_BYTES),
        token_sha256=session.token_sha256,
        user=session.user.name,
        role=session.user.role,
        address="" if request.client is None else request.client.host,
        started_at_utc=visitor.now_utc,
        recording_id=detail.recording.recording_id,
        recorder=detail.recording.recorder,
        officer=detail.recording.officer,
        file_id=clip.file_id,
        original_name=clip.original_name,
        sha256=clip.sha256,
    )
    await desk.store.record_viewing(viewing)
    if "hx-request" not in request.headers:
        address = f"/recordings/{detail.recording.recording_id}?viewing={viewing.viewing_id}"
        return RedirectResponse(address, status_code=303)
    content = desk.pages.render(
        "_player.html", visitor.language, clip=clip, viewing=viewing, media_type=media_type
    )
    return HTMLResponse(content)


async def media(desk: Desk, request: Request, visitor: Visitor) -> Response:
    """Answer ``GET /viewings/{viewing_id}/media`` to the session that started the viewing."""
    viewing = await desk.store.find_viewing(request.path_params["viewing_id"])
    if viewing is None or viewing.token_sha256 != _session(visitor).token_sha256:
        raise HTTPException(404)
    # Opened by itself, the address would offer the file for saving.
    if request.headers.get("sec-fetch-dest", "video") not in _PLAYERS:
        raise HTTPException(403)
    found = await desk.reader.find_file(viewing.file_id)
    if found is None:
        raise HTTPException(404)
    bag_path, safe_name = found
    try:
        file = await asyncio.to_thread(locate, desk.archive_root, bag_path, safe_name)
    except FileNotFoundError:
        _log.error("footage missing", bag=bag_path, file=safe_name)
        raise HTTPException(404) from None
    except FootagePathError as error:
        _log.error("footage refused", code=error.code, problem=str(error))
        raise HTTPException(404) from None
    return FileResponse(
        file,
        media_type=media_type(safe_name) or "application/octet-stream",
        headers={"Cache-Control": "no-store", "Content-Disposition": "inline"},
    )


def _session(visitor: Visitor) -> Session:
    if visitor.session is None:
        raise HTTPException(401)
    return visitor.session


def _own(session: Session) -> str | None:
    return session.user.officer if sees_own_footage_only(session.user.role) else None


def _wanted(asked: dict[str, str], session: Session) -> Wanted:
    try:
        return Wanted(
            day=date.fromisoformat(asked["day"]) if asked["day"] else None,
            officer=parse_officer(asked["officer"]) if asked["officer"] else None,
            recorder=parse_recorder(asked["recorder"]) if asked["recorder"] else None,
            own=_own(session),
        )
    except (ValueError, IdentifierError):
        raise HTTPException(400) from None


async def _detail(desk: Desk, request: Request, visitor: Visitor) -> RecordingDetail:
    try:
        recording_id = parse_recording_id(request.path_params["recording_id"])
    except IdentifierError:
        raise HTTPException(404) from None
    wanted = Wanted(own=_own(_session(visitor)))
    detail = await desk.reader.find_recording(recording_id, wanted)
    if detail is None:
        raise HTTPException(404)
    return detail


def _clip(detail: RecordingDetail, file_id: int) -> ClipRecord | None:
    return next((clip for clip in detail.clips if clip.file_id == file_id), None)


def _date_basis(detail: RecordingDetail) -> DateBasis | None:
    claimed = () if detail.manifest is None else detail.manifest.recordings
    wanted = detail.recording.recording_id
    return next((one.date_basis for one in claimed if one.recording_id == wanted), None)


def _unfinished(detail: RecordingDetail, session: Session) -> tuple[Incomplete, ...]:
    """Return what its manifest lists as not whole; names of other officers' files are not shown."""
    if detail.manifest is None or sees_own_footage_only(session.user.role):
        return ()
    return detail.manifest.incomplete


async def _viewing_just_started(
    desk: Desk, request: Request, visitor: Visitor, detail: RecordingDetail
) -> Viewing | None:
    viewing = await desk.store.find_viewing(request.query_params.get("viewing", ""))
    if (
        viewing is None
        or viewing.token_sha256 != _session(visitor).token_sha256
        or viewing.recording_id != detail.recording.recording_id
        or visitor.now_utc >= viewing.started_at_utc + _STARTED_JUST_NOW
    ):
        return None
    return viewing
