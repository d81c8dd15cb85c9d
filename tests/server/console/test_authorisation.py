"""Who may see what, address by address: a new address without a row here fails."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import pytest

from server_agent.access.roles import Role
from server_agent.console.app import ADDRESSES
from tests.server.console.conftest import Answer, Browser, Console

EVERYBODY: Final = frozenset(Role)
BAYS: Final = EVERYBODY - {Role.AUDITOR}
FOOTAGE: Final = EVERYBODY - {Role.AUDITOR, Role.SYSTEM_ADMINISTRATOR}
VIEWINGS: Final = EVERYBODY - {Role.OFFICER, Role.SYSTEM_ADMINISTRATOR}
COMMANDS: Final = frozenset({Role.DEVICE_ADMINISTRATOR, Role.SYSTEM_ADMINISTRATOR})


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An address, who may use it, and what those get; nobody: it is open to anybody."""

    method: str
    path: str
    who: frozenset[Role]
    status: int = 200
    anybody: bool = False


RECORDING: Final = "/recordings/{recording_id}"
TABLE: Final = (
    Row(method="GET", path="/", who=EVERYBODY, status=303),
    Row(method="GET", path="/login", who=EVERYBODY, status=303, anybody=True),
    Row(method="POST", path="/login", who=EVERYBODY, status=401, anybody=True),
    Row(method="POST", path="/logout", who=EVERYBODY, status=303),
    Row(method="POST", path="/preferences", who=EVERYBODY, status=303, anybody=True),
    Row(method="GET", path="/bays", who=BAYS),
    Row(method="GET", path="/bays/stream", who=BAYS),
    # Nobody has heard of it yet.
    Row(method="GET", path="/docks/{dock}", who=BAYS, status=404),
    Row(method="GET", path="/docks/{dock}/attestations", who=BAYS, status=404),
    Row(method="GET", path="/docks/{dock}/attestations/{number:int}", who=BAYS, status=404),
    Row(method="POST", path="/docks/{dock}/commands", who=COMMANDS, status=404),
    Row(method="GET", path="/recordings", who=FOOTAGE),
    Row(method="GET", path=RECORDING, who=FOOTAGE),
    Row(
        method="POST",
        path=f"{RECORDING}/files/{{file_id:int}}/viewings",
        who=FOOTAGE,
        status=303,
    ),
    # Of a viewing that this session did not start there is nothing, whoever asks.
    Row(method="GET", path="/viewings/{viewing_id}/media", who=FOOTAGE, status=404),
    Row(method="GET", path="/viewings", who=VIEWINGS),
)
IDS: Final = [f"{row.method} {row.path}" for row in TABLE]


def test_every_address_has_its_row() -> None:
    """The table knows all addresses of the application, and no other."""
    assert [(row.method, row.path) for row in TABLE] == [
        (address.method, address.path) for address in ADDRESSES
    ]


async def ask(console: Console, browser: Browser, row: Row) -> Answer:
    filed = next(one for one in console.site.filed if one.officer == "012301")
    path = row.path.replace("{recording_id}", filed.recording_id)
    path = path.replace("{dock}", "dock-99").replace("{number:int}", "1")
    path = path.replace("{file_id:int}", str(filed.file_ids[0])).replace("{viewing_id}", "none")
    if row.method == "GET":
        # The stream has no end: closing the board ends it after what it has to say.
        console.desk.board.closed = row.path == "/bays/stream"
        return await browser.get(path)
    token = browser.form_token if browser.token else (await browser.get("/login")).form_token
    return await browser.post(path, {"form_token": token})


@pytest.mark.parametrize("row", TABLE, ids=IDS)
async def test_roles(console: Console, row: Row) -> None:
    """Whoever may, gets the page; whoever may not, gets 403 and nothing of it."""
    answers: dict[Role, Answer] = {}
    for role in Role:
        async with console.browser(role) as browser:
            answers[role] = await ask(console, browser, row)
        console.clock.turn(timedelta(hours=1))  # wrong log-ins of one role do not lock the next

    assert {role: answer.status for role, answer in answers.items()} == {
        role: row.status if role in row.who else 403 for role in Role
    }
    assert not [role for role in EVERYBODY - row.who if "R-000" in answers[role].text]


@pytest.mark.parametrize("row", TABLE, ids=IDS)
async def test_nobody(console: Console, row: Row) -> None:
    """Without a session a page leads to the log-in, anything else is 401; a few are open."""
    async with console.browser() as browser:
        answer = await ask(console, browser, row)

    if row.anybody:
        assert answer.status in {200, 303, 401}
        assert answer.headers.get("location", "") in {"", "/"}
    elif row.method == "GET":
        assert answer.status == 303
        assert answer.headers["location"].startswith("/login?next=")
    else:
        assert answer.status == 401


async def test_home_is_where_one_may_be(console: Console) -> None:
    """After logging in everybody lands on a page that he or she may see."""
    for role in Role:
        async with console.browser(role) as browser:
            home = await browser.get("/")
            landed = await browser.get(home.headers["location"])

        assert landed.status == 200, role


async def test_the_navigation_offers_what_is_allowed(console: Console) -> None:
    """A link that would only be refused is not offered."""
    async with console.browser(Role.SYSTEM_ADMINISTRATOR) as browser:
        page = (await browser.get("/bays")).text

    assert 'href="/bays"' in page
    assert 'href="/recordings"' not in page
    assert 'href="/viewings"' not in page


async def test_officers_find_their_own_only(console: Console) -> None:
    """An officer's list has his or her recordings; another's is not there, by any address."""
    own = {one.recording_id for one in console.site.filed if one.officer == "012301"}
    other = next(one for one in console.site.filed if one.officer != "012301")
    async with console.browser(Role.OFFICER) as browser:
        page = await browser.get("/recordings")
        asked = await browser.get(f"/recordings?officer={other.officer}")
        one = await browser.get(f"/recordings/{other.recording_id}")
        play = await browser.post(
            f"/recordings/{other.recording_id}/files/{other.file_ids[0]}/viewings",
            {"form_token": browser.form_token},
        )

    assert own
    assert all(recording in page.text for recording in own)
    assert other.recording_id not in page.text + asked.text
    assert (one.status, play.status) == (404, 404)
    assert (await console.desk.store.list_viewings(limit=9, offset=0))[1] == 0
