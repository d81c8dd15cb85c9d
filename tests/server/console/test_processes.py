"""The console as a program, with a real broker and real certificates."""

import asyncio
import signal
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import create_engine

from protocol.messages import BayState
from protocol.topics import Channel, of_dock
from tests.simulators.certificates import Authority
from tests.simulators.console_data import DOCK, add_alerts
from tests.simulators.console_docks import alert, bay, status
from tests.simulators.console_site import PASSWORD, ConsoleSite, say_evening

pytestmark = pytest.mark.processes

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[ConsoleSite]:
    site = ConsoleSite(tmp_path)
    site.add_user("zhangwei", "device_administrator")
    with site:
        yield site


async def log_in(client: aiohttp.ClientSession, site: ConsoleSite) -> None:
    async with client.get(f"{site.address}/login") as answer:
        form = (await answer.text()).split('name="form_token" value="')[1][:64]
    fields = {"form_token": form, "name": "zhangwei", "password": PASSWORD}
    async with client.post(f"{site.address}/login", data=fields) as answer:
        assert answer.url.path == "/bays"


async def until(client: aiohttp.ClientSession, site: ConsoleSite, *shown: str) -> None:
    """Listen to the stream until it has said all of *shown*."""
    missing = set(shown)
    async with asyncio.timeout(60), client.get(f"{site.address}/bays/stream") as stream:
        async for line in stream.content:
            missing = {one for one in missing if one not in line.decode()}
            if not missing:
                return
    raise AssertionError(missing)


def client() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))


async def test_what_docks_say_is_shown(running: ConsoleSite) -> None:
    """Retained words of before, and what is said now, reach the page."""
    await say_evening(running, NOW)
    async with client() as browser:
        await log_in(browser, running)
        await until(browser, running, "欧阳建国", "记录仪未登记", "62%")
        async with running.voice() as say:
            await say(bay(8, BayState.IDENTIFYING, at=NOW, recorder="R-0042"))
            await until(browser, running, "R-0042")


async def test_what_docks_may_not_say_is_counted(running: ConsoleSite) -> None:
    """A message that breaks the contract shows as unreadable; the console goes on."""
    async with client() as browser, running.raw_voice() as publish:
        await log_in(browser, running)
        await publish(of_dock(DOCK, Channel.STATUS), b'{"dock": "dock-1"')
        await until(browser, running, "无法解读的消息 1 条", "E-PRO-102")
        async with running.voice() as say:
            await say(status(at=NOW))
            await until(browser, running, "一楼值班室采集站")


async def test_an_alert_is_shown_when_it_is_kept(running: ConsoleSite) -> None:
    """An alert's message makes the console look into the catalogue, where it is kept."""
    engine = create_engine(f"sqlite:///{running.site.catalogue}")
    async with client() as browser, running.voice() as say:
        await log_in(browser, running)
        with engine.begin() as connection:
            add_alerts(connection, start=100)
        engine.dispose()
        await say(alert(100, at=NOW))
        await until(browser, running, 'id="alert-', '<span class="num quiet">8</span>')


async def test_a_broker_that_goes_and_comes_back(running: ConsoleSite) -> None:
    """Without the broker the page says so; with it, it goes on by itself."""
    async with client() as browser:
        await log_in(browser, running)
        running.broker.kill()
        await until(browser, running, "收不到采集站的消息")
        running.broker.start()
        await say_evening(running, NOW)
        await until(browser, running, "欧阳建国")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_stopping_is_orderly(running: ConsoleSite, how: signal.Signals) -> None:
    """A signal ends the console with status 0, even while somebody watches the live page."""
    async with client() as browser:
        await log_in(browser, running)
        async with browser.get(f"{running.address}/bays/stream") as stream:
            await stream.content.readline()
            assert await asyncio.to_thread(running.stop, how) == 0


async def test_tls(tmp_path: Path) -> None:
    """With a certificate browsers speak TLS to it, and the cookies are for TLS alone."""
    site = ConsoleSite(tmp_path)
    pair = Authority(tmp_path / "web").issue_tls("console")
    lines = f'port = 0\ncertificate = "{pair.certificate}"\nkey = "{pair.key}"\n'
    site.config.write_text(site.config.read_text().replace("port = 0\n", lines, 1))
    trust = ssl.create_default_context(cafile=tmp_path / "web/ca.pem")
    with site:
        async with client() as browser, browser.get(f"{site.address}/login", ssl=trust) as answer:
            assert answer.status == 200
            assert site.address.startswith("https://")
            cookie = answer.cookies["__Host-bayward_visit"]

    assert cookie["secure"]
    assert cookie["path"] == "/"
