"""The console in this process: the real application on a real port, with a clock that we turn."""

import asyncio
import contextlib
import re
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from protocol.identifiers import OfficerId
from server_agent.access.passwords import hash_password
from server_agent.access.roles import Role
from server_agent.access.sessions import Session, Token, digest_of, form_token
from server_agent.access.store import AccessStore, open_access
from server_agent.access.users import User, parse_user_name
from server_agent.console.app import build_app
from server_agent.console.assets import load_assets
from server_agent.console.config import ConsoleSettings, Listen, load_settings
from server_agent.console.guard import Desk
from server_agent.console.serving import open_desk
from server_agent.console.web_server import WebServer
from tests.simulators.console_data import FilledSite, console_toml, fill_site

NOW: Final = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
PASSWORD: Final = "correct horse battery"
_FORM_TOKEN: Final = re.compile(r'name="form_token" value="([0-9a-f]{64})"')


class Clock:
    """A clock that stands still until it is turned."""

    def __init__(self, at: datetime = NOW) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at

    def turn(self, by: timedelta) -> None:
        self.at += by


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back, whole."""

    status: int
    headers: Mapping[str, str]
    cookies: Mapping[str, Any]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def form_token(self) -> str:
        found = _FORM_TOKEN.search(self.text)
        assert found is not None
        return found[1]


class Browser:
    """A browser that keeps cookies, follows nothing and runs nothing."""

    def __init__(self, client: aiohttp.ClientSession, address: str) -> None:
        self.client = client
        self.address = address
        self.token: Token | None = None

    async def get(self, path: str, **headers: str) -> Answer:
        shown = {"Accept": "text/html"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        async with self.client.get(
            self.address + path, headers=shown, allow_redirects=False
        ) as response:
            return await _answer(response)

    async def post(self, path: str, fields: Mapping[str, str], **headers: str) -> Answer:
        shown = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.post(
            self.address + path, data=dict(fields), headers=shown, allow_redirects=False
        ) as response:
            return await _answer(response)

    @property
    def form_token(self) -> str:
        assert self.token is not None
        return form_token(self.token)


async def _answer(response: aiohttp.ClientResponse) -> Answer:
    return Answer(
        status=response.status,
        headers=response.headers,
        cookies=response.cookies,
        body=await response.read(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """A running console: its insides, its site, its clock."""

    desk: Desk
    site: FilledSite
    clock: Clock
    address: str

    @contextlib.asynccontextmanager
    async def browser(self, role: Role | None = None) -> AsyncIterator[Browser]:
        """A browser of nobody, or of somebody with *role* who has logged in."""
        jar = aiohttp.CookieJar(unsafe=True)  # cookies of an address instead of a name
        async with aiohttp.ClientSession(cookie_jar=jar) as client:
            browser = Browser(client, self.address)
            if role is not None:
                browser.token = await self.enter(user_of(role))
                jar.update_cookies({"bayward_session": browser.token})
            yield browser

    async def enter(self, user: User) -> Token:
        """Open a session as logging in does, without the slow password."""
        token = Token(secrets.token_urlsafe(32))
        if await self.desk.store.find_user(user.name) is None:
            await self.desk.store.add_user(user, password_hash="none", now_utc=self.clock())
        session = Session(
            token_sha256=digest_of(token),
            user=user,
            opened_at_utc=self.clock(),
            seen_at_utc=self.clock(),
        )
        await self.desk.store.open_session(session)
        return token

    async def add_user(self, name: str, role: Role = Role.DEVICE_ADMINISTRATOR) -> User:
        """Make an account that logs in with PASSWORD."""
        user = User(name=parse_user_name(name), role=role)
        await self.desk.store.add_user(
            user, password_hash=hash_password(PASSWORD), now_utc=self.clock()
        )
        return user


def user_of(role: Role, *, officer: str = "012301") -> User:
    return User(
        name=parse_user_name(role.value),
        role=role,
        officer=OfficerId(officer) if role is Role.OFFICER else None,
    )


@pytest.fixture
def site(tmp_path: Path) -> FilledSite:
    return fill_site(tmp_path)


@pytest.fixture
def settings(site: FilledSite) -> ConsoleSettings:
    config = site.root / "console.toml"
    config.write_text(console_toml(site, mqtt_port=1883))
    return load_settings(config)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def desk(site: FilledSite, settings: ConsoleSettings, clock: Clock) -> AsyncIterator[Desk]:
    async with open_desk(settings, load_assets(), base=site.root) as opened:
        yield replace(opened, clock=clock)


@pytest.fixture
async def console(desk: Desk, site: FilledSite, clock: Clock) -> AsyncIterator[Console]:
    async with serving(desk) as address:
        yield Console(desk=desk, site=site, clock=clock, address=address)


@contextlib.asynccontextmanager
async def serving(desk: Desk) -> AsyncIterator[str]:
    """Serve *desk* on a free port for the length of the block."""
    server = WebServer(build_app(desk, load_assets()), Listen(port=0))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve())
        await server.started()
        yield server.address
        desk.board.close()
        server.stop()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[AccessStore]:
    async with open_access(tmp_path / "access.sqlite") as opened:
        yield opened
