"""The stream behind the live page."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import aiohttp
import pytest

from server_agent.access.roles import Role
from server_agent.console import bay_pages
from server_agent.console.live import connected
from server_agent.console.records import SiteFacts
from tests.server.console.conftest import NOW, Browser, Console
from tests.server.console.test_live import hear_all
from tests.simulators.console_docks import evening, ingesting

ADMINISTRATOR = Role.DEVICE_ADMINISTRATOR


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    name: str
    data: str


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[Event]:
    name, lines = "", list[str]()
    async for raw in response.content:
        line = raw.decode().rstrip("\n")
        field, _, value = line.partition(": ")
        if not line:
            yield Event(name=name, data="\n".join(lines))
            name, lines = "", []
        elif field == "event":
            name = value
        else:
            assert field.rstrip(":") == "data"
            lines.append(value)


@asynccontextmanager
async def listening(console: Console, browser: Browser) -> AsyncIterator[AsyncIterator[Event]]:
    async with browser.client.get(f"{console.address}/bays/stream") as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/event-stream")
        yield events(response)


async def next_html(stream: AsyncIterator[Event]) -> str:
    async with asyncio.timeout(60):
        async for event in stream:
            if not event.name:
                return event.data
    raise AssertionError("the stream ended")


async def next_named(stream: AsyncIterator[Event], name: str) -> Event:
    async with asyncio.timeout(60):
        async for event in stream:
            if event.name == name:
                return event
    raise AssertionError("the stream ended")


@pytest.fixture
def evening_console(console: Console) -> Console:
    console.desk.board.update_model(
        lambda model: hear_all(connected(model, now_utc=NOW), *evening(NOW))
    )
    return console


async def test_the_whole_wall_comes_first(evening_console: Console) -> None:
    """Whoever connects, for the first time or again, gets everything."""
    async with (
        evening_console.browser(ADMINISTRATOR) as browser,
        listening(evening_console, browser) as stream,
    ):
        first = await next_html(stream)

    assert first.count('class="slot"') == 12
    assert first.count("<hx-partial") == 1


async def test_what_changes_comes_alone(evening_console: Console) -> None:
    """One bay's message brings one card, and the figures if they changed."""
    async with (
        evening_console.browser(ADMINISTRATOR) as browser,
        listening(evening_console, browser) as stream,
    ):
        await next_html(stream)
        evening_console.desk.board.update_model(
            lambda model: hear_all(model, ingesting(1, 63, at=NOW))
        )
        change = await next_html(stream)

    assert 'hx-target="#bay-dock-1-1"' in change
    assert "63%" in change
    assert change.count("<hx-partial") == 1


async def test_alerts_come_as_they_are_kept(evening_console: Console) -> None:
    """A new alert in the catalogue's facts brings the panel."""
    facts = await evening_console.desk.reader.read_site(now_utc=NOW)
    async with (
        evening_console.browser(ADMINISTRATOR) as browser,
        listening(evening_console, browser) as stream,
    ):
        await next_html(stream)
        evening_console.desk.board.update_facts(replace(SiteFacts(), alerts=facts.alerts))
        change = await next_html(stream)

    assert 'hx-target="#alerts"' in change
    assert "记录仪未登记" in change


async def test_everybody_reads_his_own_language(evening_console: Console) -> None:
    """Two readers of one wall, two languages."""
    async with evening_console.browser(ADMINISTRATOR) as browser:
        async with listening(evening_console, browser) as stream:
            assert "可取走" in await next_html(stream)
        browser.client.cookie_jar.update_cookies({"bayward_language": "en"})
        async with listening(evening_console, browser) as stream:
            assert "May be taken" in await next_html(stream)


async def test_silence_has_a_tick(evening_console: Console) -> None:
    """While nothing changes, the console still says what time it is."""
    async with (
        evening_console.browser(ADMINISTRATOR) as browser,
        listening(evening_console, browser) as stream,
    ):
        tick = await next_named(stream, "tick")
        assert tick.data == "18:00:00"
        evening_console.clock.turn(timedelta(seconds=1))
        assert (await next_named(stream, "tick")).data == "18:00:01"


async def test_logging_out_ends_the_stream(
    evening_console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wall that is left open says that its session has ended, and ends."""
    monkeypatch.setattr(bay_pages, "TICK_S", 0.01)
    async with (
        evening_console.browser(ADMINISTRATOR) as browser,
        listening(evening_console, browser) as stream,
    ):
        await next_html(stream)
        await browser.post("/logout", {"form_token": browser.form_token})
        await next_named(stream, "session-ended")
        async with asyncio.timeout(60):
            assert [event async for event in stream] == []


@pytest.mark.parametrize(
    ("role", "alive"), [(ADMINISTRATOR, False), (Role.SYSTEM_ADMINISTRATOR, True)]
)
async def test_an_open_wall_keeps_only_harmless_sessions(
    evening_console: Console,
    monkeypatch: pytest.MonkeyPatch,
    role: Role,
    alive: bool,  # noqa: FBT001 -- a table's column
) -> None:
    """A wall screen stays; a desk where footage could be opened does not stay logged in."""
    monkeypatch.setattr(bay_pages, "TICK_S", 0.01)
    console = evening_console
    async with console.browser(role) as browser:
        async with listening(console, browser) as stream:
            for _ in range(3):
                console.clock.turn(timedelta(minutes=20))
                for _ in range(2 * bay_pages.TICKS_BETWEEN_CHECKS):
                    event = await anext(stream, None)
                    if event is None or event.name == "session-ended":
                        break
        answer = await browser.get("/bays")

    assert (answer.status == 200) == alive


async def test_stopping_ends_all_streams(evening_console: Console) -> None:
    """When the console stops, nobody is kept waiting."""
    async with (
        evening_console.browser(ADMINISTRATOR) as browser,
        listening(evening_console, browser) as stream,
    ):
        await next_html(stream)
        evening_console.desk.board.close()
        async with asyncio.timeout(60):
            assert all([event.name == "tick" async for event in stream])
