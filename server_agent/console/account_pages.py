"""Logging in and out, and what a browser remembers."""

import secrets

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from server_agent.access.login import Denied
from server_agent.access.sessions import TOKEN_BYTES, Token
from server_agent.console.answers import page, places_for
from server_agent.console.forms import local_address
from server_agent.console.guard import (
    LANGUAGE_COOKIE,
    THEME_COOKIE,
    THEMES,
    Desk,
    Visitor,
    give_session,
    remember,
    take_session,
)
from server_agent.console.speech import Language

_STATUS = {None: 200, Denied.WRONG: 401, Denied.LOCKED: 429}


async def home(desk: Desk, request: Request, visitor: Visitor) -> Response:
    """Answer ``GET /`` with the first page that this person may see."""
    del desk, request
    places = places_for(None if visitor.session is None else visitor.session.user)
    return RedirectResponse(places[0].path if places else "/login", status_code=303)


async def login_page(desk: Desk, request: Request, visitor: Visitor) -> Response:
    """Answer ``GET /login``."""
    if visitor.session is not None:
        return RedirectResponse("/", status_code=303)
    return _login(desk, request, visitor, next_=request.query_params.get("next"))


async def log_in(desk: Desk, request: Request, visitor: Visitor) -> Response:
    """Answer ``POST /login``: a session, or the form again."""
    name = visitor.form.get("name", "")
    next_ = visitor.form.get("next")
    token = Token(secrets.token_urlsafe(TOKEN_BYTES))
    result = await desk.gate.log_in(
        untrusted_name=name.strip(),
        untrusted_password=visitor.form.get("password", ""),
        token=token,
        now_utc=visitor.now_utc,
    )
    if isinstance(result, Denied):
        return _login(desk, request, visitor, next_=next_, name=name, denied=result)
    await desk.store.forget_sessions(opened_before_utc=visitor.now_utc - desk.limits.absolute)
    response = RedirectResponse(local_address(next_) or "/", status_code=303)
    give_session(response, token, secure=desk.secure)
    return response


async def log_out(desk: Desk, request: Request, visitor: Visitor) -> Response:
    """Answer ``POST /logout``."""
    del request
    if visitor.session is not None:
        await desk.store.close_session(visitor.session.token_sha256)
    response = RedirectResponse("/login", status_code=303)
    take_session(response, secure=desk.secure)
    return response


async def set_preferences(desk: Desk, request: Request, visitor: Visitor) -> Response:
    """Answer ``POST /preferences``: another language or theme, then the page it came from."""
    del request
    response = RedirectResponse(local_address(visitor.form.get("next")) or "/", status_code=303)
    language = visitor.form.get("language")
    theme = visitor.form.get("theme")
    if language in {one.value for one in Language}:
        remember(response, LANGUAGE_COOKIE, language or "", secure=desk.secure)
    if theme in THEMES:
        remember(response, THEME_COOKIE, theme or "", secure=desk.secure)
    return response


def _login(
    desk: Desk,
    request: Request,
    visitor: Visitor,
    *,
    next_: str | None,
    name: str = "",
    denied: Denied | None = None,
) -> Response:
    return page(
        desk,
        request,
        visitor,
        "login.html",
        status=_STATUS[denied],
        next=local_address(next_) or "/",
        name=name[:64],
        denied=None if denied is None else denied.value,
    )
