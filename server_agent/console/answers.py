"""Pages as answers: what every page needs beside its own content."""

from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import HTMLResponse

from server_agent.access.roles import Permission, may
from server_agent.access.users import User
from server_agent.console import wording
from server_agent.console.guard import THEMES, Desk, Visitor
from server_agent.console.wording import N_


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An entry of the navigation."""

    path: str
    label: str
    icon: str
    needs: Permission


PLACES: Final = (
    Place(path="/bays", label=N_("Bays"), icon="bays", needs=Permission.SEE_BAYS),
    Place(path="/recordings", label=N_("Recordings"), icon="film", needs=Permission.SEE_FOOTAGE),
    Place(path="/viewings", label=N_("Viewings"), icon="eye", needs=Permission.READ_VIEWINGS),
)


def places_for(user: User | None) -> tuple[Place, ...]:
    """Return the navigation of *user*; the first entry is home."""
    if user is None:
        return ()
    return tuple(place for place in PLACES if may(user.role, place.needs))


def page(
    desk: Desk,
    request: Request,
    visitor: Visitor,
    template: str,
    *,
    status: int = 200,
    **values: Any,
) -> HTMLResponse:
    """Return *template* as a whole page."""
    user = None if visitor.session is None else visitor.session.user
    here = request.url.path
    query = f"?{request.url.query}" if request.url.query else ""
    next_theme = THEMES[(THEMES.index(visitor.theme) + 1) % len(THEMES)]
    content = desk.pages.render(
        template,
        visitor.language,
        user=user,
        places=places_for(user),
        path=here,
        # What was posted cannot be fetched again; the page that it belongs to can.
        here=here + query if request.method == "GET" else "/",
        form_token=visitor.form_token,
        theme=visitor.theme,
        theme_names=wording.THEMES,
        next_theme=next_theme,
        now_utc=visitor.now_utc,
        **values,
    )
    return HTMLResponse(content, status_code=status)
