"""The console in a real browser: what people see, with scripts, policy and footage."""

import signal
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    async_playwright,
    expect,
)

from protocol.messages import BayMessage, BayState
from tests.simulators.console_data import DOCK, OTHER_DOCK, add_attestations
from tests.simulators.console_docks import bay, ingesting, status
from tests.simulators.console_site import PASSWORD, ConsoleSite, footage, say_evening

pytestmark = [pytest.mark.browser, pytest.mark.processes]

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 60_000
# What a browser says by itself when the console was stopped by a test, or a form was wrong.
EXPECTED = ("net::ERR_", "htmx:sse:error", "status of 401", "status of 404")

REACHES = """(video, seconds) => new Promise(done => {
    const look = () => video.currentTime >= seconds ? done() : requestAnimationFrame(look);
    look();
})"""

CUT_OFF = """() => [...document.querySelectorAll('.slot *, .rack-head *, dt, h1, h2, button')]
    .filter(e => e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 1
        && getComputedStyle(e).display !== 'inline')
    .map(e => e.className + ': ' + e.textContent.trim())
"""

expect.set_options(timeout=PATIENCE_MS)


class Witness:
    """Everything that a browser complained about, and every place that it asked."""

    def __init__(self, context: BrowserContext, origin: str) -> None:
        self.complaints: list[str] = []
        self.elsewhere: list[str] = []
        self._origin = origin
        context.on("console", self._hear)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("request", lambda request: self._see(request.url))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not any(
            one in message.text for one in EXPECTED
        ):
            self.complaints.append(message.text)

    def _see(self, url: str) -> None:
        parts = urlsplit(url)
        if f"{parts.scheme}://{parts.netloc}" != self._origin:
            self.elsewhere.append(url)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return footage(tmp_path_factory.mktemp("footage"))


@pytest.fixture
def running(tmp_path: Path, clip: bytes) -> Iterator[ConsoleSite]:
    site = ConsoleSite(tmp_path, recordings=12, clip=clip)
    site.add_user("zhangwei", "device_administrator")
    with site:
        yield site


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest.fixture
async def page(chromium: Browser, running: ConsoleSite) -> AsyncIterator[Page]:
    """A page of somebody who has logged in; at the end there must be nothing to complain about."""
    context = await chromium.new_context(viewport={"width": 1366, "height": 768})
    context.set_default_timeout(PATIENCE_MS)
    witness = Witness(context, running.address)
    page = await context.new_page()
    await page.add_init_script(
        "addEventListener('securitypolicyviolation', e => console.error('CSP', e.blockedURI))"
    )
    await log_in(page, running)
    yield page
    await context.close()
    assert not witness.complaints
    assert not witness.elsewhere


async def log_in(page: Page, site: ConsoleSite) -> None:
    await page.goto(f"{site.address}/login")
    await page.get_by_label("用户名").fill("zhangwei")
    await page.get_by_label("密码").fill(PASSWORD)
    await page.get_by_role("button", name="登录").click()
    await page.wait_for_url("**/bays")


async def is_live(page: Page) -> None:
    await expect(page.locator("html[data-link=live]")).to_have_count(1)


async def no_reload(page: Page) -> str:
    """Leave a mark that a reload would wipe off, and return how to look for it."""
    await page.evaluate("window.stillHere = true")
    return "window.stillHere === true"


async def test_bays_change_without_reload(page: Page, running: ConsoleSite) -> None:
    """A bay's message changes its card in place: state, figures, bar and the counts on top."""
    await is_live(page)
    mark = await no_reload(page)
    card = page.locator("#bay-dock-1-1")
    async with running.voice() as say:
        await say(status(at=NOW))
        await say(ingesting(1, 40, at=NOW))
        await expect(card).to_contain_text("采集中")
        await expect(card).to_contain_text("张伟")
        await expect(card.locator("progress").first).to_have_attribute("value", "40")

        await say(ingesting(1, 41, at=NOW))
        await expect(card.locator("progress").first).to_have_attribute("value", "41")

        await say(bay(1, BayState.RELEASABLE, at=NOW))
        await expect(card).to_have_attribute("data-look", "releasable")
        await expect(card).to_contain_text("可取走")
        await expect(page.locator(".figure[data-kind=done] dd")).to_have_text("1")
    assert await page.evaluate(mark)


async def test_a_dock_that_goes_is_plain_to_see(page: Page, running: ConsoleSite) -> None:
    """When a dock is cut off its bays are hatched, say since when, and count as nothing live."""
    await say_evening(running, NOW)
    card = page.locator("#bay-dock-1-1")
    await expect(card).to_have_attribute("data-look", "ingesting")
    async with running.voice() as say:
        await say(status(at=NOW, online=False))

    await expect(card).to_have_attribute("data-stale", "offline")
    await expect(card).to_contain_text("停留在")
    await expect(page.locator("#dock-dock-1")).to_contain_text("离线")
    await expect(page.locator(".figure[data-kind=busy] dd")).to_have_text("0")
    assert await page.locator(f"#dock-{OTHER_DOCK}").is_visible()


async def test_a_console_that_stops_and_comes_back(page: Page, running: ConsoleSite) -> None:
    """When the console stops, a banner says so and the wall is grey; later it is live by itself."""
    await say_evening(running, NOW)
    await is_live(page)
    mark = await no_reload(page)
    banner = page.locator(".banner-lost")
    await expect(banner).to_be_hidden()

    running.stop(signal.SIGKILL)
    await expect(banner).to_be_visible()
    await expect(page.locator(".pulse-lost")).to_be_visible()
    assert await page.locator("#wall").evaluate("e => getComputedStyle(e).filter") == "grayscale(1)"

    running.start()
    await is_live(page)
    await expect(banner).to_be_hidden()
    await expect(page.locator("#bay-dock-1-3")).to_contain_text("欧阳建国")
    assert await page.evaluate(mark)


async def test_a_console_that_hangs_is_noticed(page: Page, running: ConsoleSite) -> None:
    """A console that neither answers nor hangs up is noticed by its silence."""
    await is_live(page)
    running.freeze()
    await expect(page.locator(".banner-lost")).to_be_visible()
    running.thaw()
    await is_live(page)


async def test_a_session_that_ends_elsewhere(page: Page, running: ConsoleSite) -> None:
    """When somebody logs out in another tab, the wall says so and leads to the log-in."""
    await is_live(page)
    other = await page.context.new_page()
    await other.goto(f"{running.address}/viewings")
    await other.locator(".account summary").click()
    await other.get_by_role("button", name="退出").click()
    await other.wait_for_url("**/login")

    await expect(page.locator(".banner-ended")).to_be_visible()
    await page.get_by_role("link", name="重新登录").click()
    await expect(page.get_by_label("用户名")).to_be_focused()


async def test_finding_a_recording(page: Page, running: ConsoleSite) -> None:
    """The filter shows an officer's recordings of a day, and a row leads to the recording."""
    await page.get_by_role("link", name="录像").click()
    await expect(page.locator("tbody tr")).to_have_count(12)
    filed = running.site.filed[0]
    await page.get_by_label("日期").fill(filed.day.isoformat())
    await page.get_by_label("审计人员").select_option(filed.officer)
    await page.get_by_role("button", name="查询").click()
    await expect(page.locator("tbody tr")).to_have_count(
        len([x for x in running.site.filed if (x.day, x.officer) == (filed.day, filed.officer)])
    )
    await page.locator(f"a[href='/recordings/{filed.recording_id}']").click()
    await expect(page.get_by_text(filed.bag_path)).to_be_visible()


async def test_footage_plays(page: Page, running: ConsoleSite) -> None:
    """A click plays the clip in place, in the browser's own player, and is in the viewing log."""
    filed = running.site.filed[0]
    await page.goto(f"{running.address}/recordings/{filed.recording_id}")
    mark = await no_reload(page)
    await page.get_by_role("button", name="播放第 1 个片段").click()
    video = page.locator("video")
    await video.evaluate("v => { v.muted = true; return v.play(); }")
    await video.evaluate(REACHES, 0.2)
    await video.evaluate("v => { v.currentTime = 2.5; }")
    await video.evaluate(REACHES, 2.5)
    assert await video.evaluate("v => [v.videoWidth, v.videoHeight]") == [640, 360]
    assert await page.evaluate(mark)

    await page.get_by_role("link", name="调阅记录").click()
    await expect(page.locator("tbody tr")).to_have_count(1)
    await expect(page.locator("tbody tr")).to_contain_text("zhangwei")


async def test_footage_plays_without_scripts(chromium: Browser, running: ConsoleSite) -> None:
    """Without JavaScript a click still leads to the player, and bays say they are not live."""
    context = await chromium.new_context(java_script_enabled=False)
    page = await context.new_page()
    await log_in(page, running)
    await expect(page.get_by_text("脚本没有运行")).to_be_visible()
    await page.goto(f"{running.address}/recordings/{running.site.filed[0].recording_id}")
    await page.get_by_role("button", name="播放第 1 个片段").click()
    await expect(page.locator("video")).to_be_visible()
    await context.close()


async def test_language_and_colours(page: Page) -> None:
    """One click speaks English; the next ones choose light and dark, and it stays so."""
    await page.get_by_role("button", name="English").click()
    await expect(page.locator("html")).to_have_attribute("lang", "en")
    await expect(page.get_by_role("link", name="Recordings")).to_be_visible()
    await page.get_by_role("button", name="Colours: as the system").click()
    await page.get_by_role("button", name="Colours: light").click()
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    dark = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark == "rgb(10, 14, 19)"


async def test_the_keyboard_is_enough(page: Page, running: ConsoleSite) -> None:
    """From the top of a recording's page the keyboard alone plays the first clip."""
    await page.goto(f"{running.address}/recordings/{running.site.filed[2].recording_id}")
    await page.keyboard.press("Tab")
    await expect(page.get_by_text("跳到正文")).to_be_focused()
    play = page.get_by_role("button", name="播放第 1 个片段")
    for _ in range(30):
        await page.keyboard.press("Tab")
        if await play.evaluate("e => e === document.activeElement"):
            break
    outline = await play.evaluate("e => getComputedStyle(e).outlineStyle")
    assert outline == "solid"
    await page.keyboard.press("Enter")
    await expect(page.locator("video")).to_be_visible()


@pytest.mark.parametrize("language", ["zh_CN", "en"])
async def test_nothing_is_cut_off(page: Page, running: ConsoleSite, language: str) -> None:
    """From a telephone to a wall screen no page is wider than its window, and no text is cut."""
    await page.context.add_cookies(
        [{"name": "bayward_language", "value": language, "url": running.address}]
    )
    await say_evening(running, NOW)
    async with running.voice() as say:
        await say(_chatty())
    recording = f"/recordings/{running.site.filed[0].recording_id}"
    add_attestations(running.site, 60, at=NOW)
    dock = f"/docks/{DOCK}"
    attestations = f"{dock}/attestations"
    for path in ("/bays", "/recordings", recording, "/viewings", dock, attestations, "/nothing"):
        await page.goto(running.address + path)
        if path == "/bays":
            await expect(page.locator(".slot")).to_have_count(12)
        for width in (360, 600, 768, 1024, 1366, 1920, 3840):
            await page.set_viewport_size({"width": width, "height": 900})
            assert await page.evaluate("document.documentElement.scrollWidth") == width, path
            assert await page.evaluate(CUT_OFF) == [], (path, width)


async def test_an_attestation_is_taken_away(page: Page, running: ConsoleSite) -> None:
    """From the dock's page to the list, and from there the exact bytes into a file."""
    sent = add_attestations(running.site, 3, at=NOW)
    await say_evening(running, NOW)
    await expect(page.locator("#dock-dock-1")).to_contain_text("隔离有效")
    await page.goto(f"{running.address}/docks/{DOCK}")
    await page.get_by_role("link", name="全部隔离证明").click()
    await expect(page.locator("tbody tr")).to_have_count(3)
    await page.locator("summary", has_text="1").click()
    await expect(page.get_by_text("E-ISO-102")).to_be_visible()
    async with page.expect_download() as waiting:
        await page.get_by_role("link", name="下载第 2 份隔离证明").click()
    taken = await waiting.value

    assert taken.suggested_filename == f"{DOCK}-00000002.dsse.json"
    assert (await taken.path()).read_bytes() == sent[1]


def _chatty() -> BayMessage:
    """A bay that says as much as it may."""
    return bay(
        8,
        BayState.ATTENTION,
        at=NOW,
        recorder="R" * 32,
        officer="9" * 32,
        model="W" * 128,
        serial="界" * 128,
        files_total=10**18,
        files_done=10**17,
        bytes_total=(1 << 63) - 1,
        bytes_done=1 << 62,
        findings=10**18,
        problem="E-NEW-999",
        problem_text="x" * 500,
    )
