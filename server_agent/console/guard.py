"""Who is at the other end, and may he or she do this. Every route passes here."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum, unique
from pathlib import Path
from secrets import compare_digest, token_urlsafe
from typing import Final
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from server_agent.access.login import Gate
from server_agent.access.roles import Permission, may
from server_agent.access.sessions import (
    TOKEN_BYTES,
    Limits,
    Session,
    Token,
    digest_of,
    form_token,
    is_alive,
    should_touch,
)
from server_agent.access.store import AccessStore
from server_agent.console.board import Board
from server_agent.console.errands import Errands
from server_agent.console.forms import Form, read_form
from server_agent.console.pages import Pages
from server_agent.console.reader import CatalogueReader
from server_agent.console.speech import Language

LANGUAGE_COOKIE: Final = "bayward_language"
THEME_COOKIE: Final = "bayward_theme"
THEMES: Final = ("auto", "light", "dark")

_SESSION_COOKIE: Final = "bayward_session"
_VISIT_COOKIE: Final = "bayward_visit"
_YEAR: Final = timedelta(days=365)


@unique
class Needs(Enum):
    """What a route asks of those without a particular permission."""

    NOTHING = "nothing"
    SESSION = "session"


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """All that handlers work with. `clock` returns the time in UTC; `secure`: we speak TLS."""

    store: AccessStore
    gate: Gate
    reader: CatalogueReader
    board: Board
    errands: Errands
    pages: Pages
    archive_root: Path
    limits: Limits
    clock: Callable[[], datetime]
    secure: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """One request's other end.

    Attributes:
        session: None for somebody who has not logged in.
        token: What the browser's cookie says; drawn anew if it had none.
        new: Whether the token was drawn for this request.
        language: What to speak.
        theme: One of THEMES.
        now_utc: When the request came.
        form: The fields of a posted form.
    """

    session: Session | None
    token: Token
    new: bool
    language: Language
    theme: str
    now_utc: datetime
    form: Form = field(default_factory=dict)

    @property
    def form_token(self) -> str:
        """What this browser's forms carry."""
        return form_token(self.token)


Handler = Callable[[Desk, Request, Visitor], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


class Guard:
    """Turns handlers into endpoints that look before they answer."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def endpoint(
        self, handler: Handler, needs: Needs | Permission, *, background: bool = False
    ) -> Endpoint:
        """Return *handler* for those who may.

        Args:
            handler: What answers.
            needs: Who may.
            background: The page asks by itself: that is no sign of life of a person.

        The endpoint answers a page's request without a session by the login page, and any other
        with 401; without the permission, or with a form that is not ours, it raises 403.
        """

        async def answer(request: Request) -> Response:
            visitor = await self.visitor(request, signs_of_life=not background)
            if needs is not Needs.NOTHING and visitor.session is None:
                return _to_login(request)
            self._refuse_forbidden(visitor, needs)
            if request.method == "POST":
                visitor = replace(visitor, form=await read_form(request))
                _refuse_foreign_form(request, visitor.form, visitor.form_token)
            response = await handler(self._desk, request, visitor)
            if visitor.new:
                _set_secret(response, _VISIT_COOKIE, visitor.token, secure=self._desk.secure)
            return response

        return answer

    async def visitor(self, request: Request, *, signs_of_life: bool = False) -> Visitor:
        """Return who sends *request*, and note the sign of life if it is one."""
        now_utc = self._desk.clock()
        session, token = await self._session(request, now_utc)
        if session is not None and signs_of_life and should_touch(session, now_utc=now_utc):
            await self._desk.store.touch_session(session.token_sha256, now_utc=now_utc)
        new = False
        if session is None:
            known = request.cookies.get(_named(_VISIT_COOKIE, secure=self._desk.secure))
            new = not known
            token = Token(known or token_urlsafe(TOKEN_BYTES))
        return Visitor(
            session=session,
            token=token,
            new=new,
            language=_language(request),
            theme=_theme(request),
            now_utc=now_utc,
        )

    async def _session(self, request: Request, now_utc: datetime) -> tuple[Session | None, Token]:
        name = _named(_SESSION_COOKIE, secure=self._desk.secure)
        token = Token(request.cookies.get(name, ""))
        session = await self._desk.store.find_session(digest_of(token)) if token else None
        if session is None or not is_alive(session, self._desk.limits, now_utc=now_utc):
            return None, token
        return session, token

    @staticmethod
    def _refuse_forbidden(visitor: Visitor, needs: Needs | Permission) -> None:
        if isinstance(needs, Permission) and (
            visitor.session is None or not may(visitor.session.user.role, needs)
        ):
            raise HTTPException(403)


def give_session(response: Response, token: Token, *, secure: bool) -> None:
    """Give the browser its session."""
    _set_secret(response, _SESSION_COOKIE, token, secure=secure)


def take_session(response: Response, *, secure: bool) -> None:
    """Take the session from the browser."""
    name = _named(_SESSION_COOKIE, secure=secure)
    response.delete_cookie(name, secure=secure, httponly=True, samesite="strict")


def remember(response: Response, name: str, value: str, *, secure: bool) -> None:
    """Let the browser remember a preference; it is no secret."""
    age_s = int(_YEAR.total_seconds())
    response.set_cookie(name, value, max_age=age_s, secure=secure, httponly=True, samesite="strict")


def _named(name: str, *, secure: bool) -> str:
    # With TLS the name itself makes browsers refuse the cookie from anybody else.
    return f"__Host-{name}" if secure else name


def _set_secret(response: Response, name: str, token: Token, *, secure: bool) -> None:
    response.set_cookie(
        _named(name, secure=secure), token, secure=secure, httponly=True, samesite="strict"
    )


def _refuse_foreign_form(request: Request, form: Form, token: str) -> None:
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise HTTPException(403)
    if not compare_digest(form.get("form_token", "").encode(), token.encode()):
        raise HTTPException(403)


def _to_login(request: Request) -> Response:
    if request.method != "GET" or "text/html" not in request.headers.get("accept", ""):
        return Response(status_code=401)
    if "hx-request" in request.headers:
        return Response(status_code=401)
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/login?next={quote(here, safe='')}", status_code=303)


def _language(request: Request) -> Language:
    try:
        return Language(request.cookies.get(LANGUAGE_COOKIE, ""))
    except ValueError:
        return Language.CHINESE


def _theme(request: Request) -> str:
    theme = request.cookies.get(THEME_COOKIE, "")
    return theme if theme in THEMES else THEMES[0]
