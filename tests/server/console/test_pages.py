"""The pages as a browser gets them."""

import html
import re
from datetime import timedelta

import pytest
from sqlalchemy import create_engine, update

from protocol.messages import BayState
from server_agent.access.roles import Role
from server_agent.access.throttle import MAX_FAILURES
from server_agent.catalogue import tables
from server_agent.console.headers import CONTENT_SECURITY_POLICY
from server_agent.console.live import connected
from server_agent.console.records import Wanted
from tests.server.console.conftest import NOW, PASSWORD, Browser, Console
from tests.server.console.test_live import hear_all
from tests.simulators.console_docks import bay, evening, ingesting, status

ADMINISTRATOR = Role.DEVICE_ADMINISTRATOR


async def log_in(browser: Browser, name: str, password: str, next_: str = "") -> tuple[int, str]:
    form = (await browser.get("/login")).form_token
    fields = {"form_token": form, "name": name, "password": password, "next": next_}
    answer = await browser.post("/login", fields)
    return answer.status, answer.headers.get("location", answer.text)


# ── logging in and out ──────────────────────────────────────────────────────


async def test_logging_in_and_out(console: Console) -> None:
    """The password opens the pages; logging out closes them, also for who kept the cookie."""
    await console.add_user("zhangwei")
    async with console.browser() as browser:
        assert await log_in(browser, "ZhangWei", PASSWORD) == (303, "/")
        page = await browser.get("/bays")
        assert page.status == 200
        kept = {one.key: one.value for one in browser.client.cookie_jar}

        out = await browser.post("/logout", {"form_token": page.form_token})
        assert (out.status, out.headers["location"]) == (303, "/login")
        browser.client.cookie_jar.update_cookies(kept)
        assert (await browser.get("/bays")).status == 303


async def test_after_logging_in_one_is_where_one_wanted(console: Console) -> None:
    """The page that was asked for first comes after the log-in."""
    await console.add_user("zhangwei")
    async with console.browser() as browser:
        refused = await browser.get("/recordings?day=2026-11-23")
        login = await browser.get(refused.headers["location"])
        assert 'name="next" value="/recordings?day=2026-11-23"' in login.text
        wanted = await log_in(browser, "zhangwei", PASSWORD, "/recordings?day=2026-11-23")

    assert wanted == (303, "/recordings?day=2026-11-23")


@pytest.mark.parametrize("next_", ["//evil.example/", "https://evil.example/", "/\\evil.example"])
async def test_logging_in_leads_nowhere_else(console: Console, next_: str) -> None:
    """A crafted link to the log-in does not lead to another site afterwards."""
    await console.add_user("zhangwei")
    async with console.browser() as browser:
        assert await log_in(browser, "zhangwei", PASSWORD, next_) == (303, "/")


async def test_wrong_and_unknown_look_alike(console: Console) -> None:
    """A wrong password and an unknown name get the same page, but for the name typed."""
    await console.add_user("somebody")
    async with console.browser() as browser:
        wrong = await log_in(browser, "somebody", "wrong password")
        nobody = await log_in(browser, "nobodyxx", "wrong password")

    assert wrong[0] == nobody[0] == 401
    assert wrong[1].replace("somebody", "nobodyxx") == nobody[1]


async def test_a_locked_name_is_told_to_wait(console: Console) -> None:
    """After five wrong tries even the right password must wait; after a quarter it is right."""
    await console.add_user("zhangwei")
    async with console.browser() as browser:
        for _ in range(MAX_FAILURES):
            assert (await log_in(browser, "zhangwei", "wrong password"))[0] == 401
        assert (await log_in(browser, "zhangwei", PASSWORD))[0] == 429
        console.clock.turn(timedelta(minutes=15))
        assert (await log_in(browser, "zhangwei", PASSWORD))[0] == 303


async def test_the_session_cookie(console: Console) -> None:
    """The cookie is for this site's own requests, hidden from scripts, gone with the browser."""
    await console.add_user("zhangwei")
    async with console.browser() as browser:
        form = (await browser.get("/login")).form_token
        fields = {"form_token": form, "name": "zhangwei", "password": PASSWORD}
        cookie = (await browser.post("/login", fields)).cookies["bayward_session"]

    assert cookie["httponly"]
    assert cookie["samesite"].lower() == "strict"
    assert cookie["max-age"] == cookie["expires"] == ""
    assert cookie["path"] == "/"
    assert len(cookie.value) >= 43  # 256 bits


async def test_sitting_idle_ends_a_session(console: Console) -> None:
    """After half an hour without a request the log-in page comes."""
    async with console.browser(ADMINISTRATOR) as browser:
        console.clock.turn(timedelta(minutes=29))
        assert (await browser.get("/recordings")).status == 200
        console.clock.turn(timedelta(minutes=29))
        assert (await browser.get("/recordings")).status == 200
        console.clock.turn(timedelta(minutes=30))
        assert (await browser.get("/recordings")).status == 303


async def test_no_session_is_endless(console: Console) -> None:
    """After twelve hours somebody logs in again, however busy."""
    async with console.browser(ADMINISTRATOR) as browser:
        for _ in range(11 * 3):
            console.clock.turn(timedelta(minutes=20))
            assert (await browser.get("/recordings")).status == 200
        console.clock.turn(timedelta(minutes=25))
        assert (await browser.get("/recordings")).status == 200
        console.clock.turn(timedelta(minutes=25))
        assert (await browser.get("/recordings")).status == 200
        console.clock.turn(timedelta(minutes=10))
        assert (await browser.get("/recordings")).status == 303


# ── forms ───────────────────────────────────────────────────────────────────

FORMS = ["/login", "/logout", "/preferences", "/recordings/{recording}/files/{file}/viewings"]


def path_of(console: Console, form: str) -> str:
    filed = console.site.filed[0]
    return form.replace("{recording}", filed.recording_id).replace("{file}", str(filed.file_ids[0]))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("token", ["", "0" * 64, "é"])
async def test_a_form_that_is_not_ours_is_refused(console: Console, form: str, token: str) -> None:
    """Without this browser's own token nothing that a form asks for happens."""
    async with console.browser(ADMINISTRATOR) as browser:
        answer = await browser.post(path_of(console, form), {"form_token": token})
        still_in = await browser.get("/bays")

    assert answer.status == 403
    assert still_in.status == 200
    assert (await console.desk.store.list_viewings(limit=1, offset=0))[1] == 0


async def test_another_sessions_token_is_not_ours(console: Console) -> None:
    """A token that was read from one session's page does not work in another."""
    async with console.browser(ADMINISTRATOR) as one, console.browser(Role.SECTION_HEAD) as other:
        stolen = (await one.get("/bays")).form_token
        answer = await other.post("/logout", {"form_token": stolen})

    assert answer.status == 403


@pytest.mark.parametrize("origin", ["cross-site", "same-site"])
async def test_a_form_from_elsewhere_is_refused(console: Console, origin: str) -> None:
    """Even with the right token a form on another page does nothing."""
    async with console.browser(ADMINISTRATOR) as browser:
        answer = await browser.post(
            "/logout", {"form_token": browser.form_token}, sec_fetch_site=origin
        )

    assert answer.status == 403


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"a=" + b"x" * 20_000, "application/x-www-form-urlencoded", 413),
        (b"&".join(b"a=1" for _ in range(30)), "application/x-www-form-urlencoded", 400),
        (b"a=%ff", "application/x-www-form-urlencoded", 400),
        (b"\xff", "application/x-www-form-urlencoded", 400),
        (b"{}", "application/json", 415),
        (b"", "multipart/form-data; boundary=x", 415),
    ],
)
async def test_odd_bodies_are_refused(
    console: Console, body: bytes, kind: str, status: int
) -> None:
    """What is no small form of ours is not read on."""
    async with console.browser() as browser:
        url = f"{console.address}/login"
        async with browser.client.post(url, data=body, headers={"Content-Type": kind}) as answer:
            assert answer.status == status


# ── language and colours ────────────────────────────────────────────────────


async def test_chinese_first(console: Console) -> None:
    """Whoever has not chosen reads Chinese."""
    async with console.browser() as browser:
        page = (await browser.get("/login", accept_language="en")).text

    assert '<html lang="zh-CN"' in page
    assert "登录" in page


async def test_choosing_a_language_and_colours(console: Console) -> None:
    """A choice is remembered, and one is back on the same page."""
    async with console.browser(ADMINISTRATOR) as browser:
        for choice in ({"language": "en"}, {"theme": "dark"}):
            fields = {"form_token": browser.form_token, "next": "/recordings?page=1"} | choice
            answer = await browser.post("/preferences", fields)
            assert answer.headers["location"] == "/recordings?page=1"
        page = (await browser.get("/recordings")).text

    assert '<html lang="en" data-theme="dark"' in page
    assert "Recordings" in page


@pytest.mark.parametrize(("name", "value"), [("language", "xx"), ("theme", '"><script>')])
async def test_other_choices_are_ignored(console: Console, name: str, value: str) -> None:
    """Only what is offered can be chosen; a made-up cookie is the default."""
    async with console.browser() as browser:
        form = (await browser.get("/login")).form_token
        answer = await browser.post("/preferences", {"form_token": form, name: value})
        assert not answer.cookies
        browser.client.cookie_jar.update_cookies({f"bayward_{name}": "made-up"})
        page = (await browser.get("/login")).text

    assert '<html lang="zh-CN" data-theme="auto"' in page


# ── what every answer says ──────────────────────────────────────────────────


@pytest.mark.parametrize(
    "path", ["/login", "/bays", "/recordings", "/nothing", "/static/none", "/healthz"]
)
async def test_every_answer_is_strict(console: Console, path: str) -> None:
    """Policy and friends are on every answer, and only static files are kept by browsers."""
    async with console.browser(ADMINISTRATOR) as browser:
        headers = (await browser.get(path)).headers

    assert headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"
    assert "server" not in {name.lower() for name in headers}


async def test_static_files_are_kept_under_their_digest(console: Console) -> None:
    """A file at the address that a page gives it never changes; any other is asked for again."""
    async with console.browser() as browser:
        page = (await browser.get("/login")).text
        address = page.split('rel="stylesheet" href="')[1].split('"')[0]
        kept = await browser.get(address)
        old = await browser.get("/static/console.css?v=old")

    assert kept.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert kept.headers["Content-Type"].startswith("text/css")
    assert old.headers["Cache-Control"] == "no-cache"
    assert old.body == kept.body


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static/vendor/.lock-sha256",
        "/static//etc/passwd",
        "/static/",
    ],
)
async def test_static_files_are_the_listed_ones(console: Console, path: str) -> None:
    """No other file of the program is given out."""
    async with console.browser() as browser:
        assert (await browser.get(path)).status == 404


@pytest.mark.parametrize(
    "path", ["/nothing", "/recordings/none", "/bays/", "/%00", "/viewings/x/media"]
)
async def test_what_is_not_there_has_a_page(console: Console, path: str) -> None:
    """An address that leads nowhere says so in the reader's language."""
    async with console.browser(ADMINISTRATOR) as browser:
        answer = await browser.get(path)

    assert answer.status == 404
    assert "这里没有内容" in answer.text


async def test_a_fault_of_ours_has_a_page(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in the program is a page that says so, without a word of the error itself."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("server_agent.console.bay_pages.build_wall", broken)
    async with console.browser(ADMINISTRATOR) as browser:
        answer = await browser.get("/bays")

    assert answer.status == 500
    assert "出错了" in answer.text
    assert "secret detail" not in answer.text
    assert answer.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY


async def test_a_catalogue_that_is_gone_has_a_page(console: Console) -> None:
    """When the catalogue cannot be read the page says that recordings are safe."""
    engine = create_engine(f"sqlite:///{console.site.catalogue}")
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE groups RENAME TO elsewhere")
    engine.dispose()
    async with console.browser(ADMINISTRATOR) as browser:
        answer = await browser.get("/recordings")

    assert answer.status == 503
    assert "目录暂时无法读取" in answer.text


# ── bays ────────────────────────────────────────────────────────────────────


async def test_the_wall_shows_an_evening(console: Console) -> None:
    """Recorders, officers, figures and problems are on the page, in Chinese."""
    facts = await console.desk.reader.read_site(now_utc=NOW)
    console.desk.board.update_facts(facts)
    console.desk.board.update_model(
        lambda model: hear_all(connected(model, now_utc=NOW), *evening(NOW))
    )
    async with console.browser(ADMINISTRATOR) as browser:
        page = (await browser.get("/bays")).text

    for shown in (
        "一楼值班室采集站",
        "张伟",
        "欧阳建国",
        "R-0003",
        "记录仪未登记",
        "14.9 GB",
        "剩余",
    ):
        assert shown in page
    assert page.count('class="slot"') == 12
    assert page.count('data-stale="offline"') == 5


async def test_a_recorder_that_may_be_taken_is_archived(console: Console) -> None:
    """Beside "may be taken" stands what was archived, and no figure that could contradict it."""
    told = bay(1, BayState.RELEASABLE, at=NOW, files_total=8, bytes_total=10**7, uploaded_bytes=0)
    console.desk.board.update_model(
        lambda model: hear_all(connected(model, now_utc=NOW), status(at=NOW, bays=1), told)
    )
    async with console.browser(ADMINISTRATOR) as browser:
        page = (await browser.get("/bays")).text

    assert "已归档 8 个文件，10.0 MB" in page
    assert "<progress" not in page


async def test_what_devices_say_cannot_become_markup(console: Console) -> None:
    """A device's text is text: escaped, and visible where it would hide."""
    evil = '<img src=x onerror=alert(1)><hx-partial hx-target="body">\u202e'
    message = ingesting(1, 5, at=NOW, problem="E-NEW-999", problem_text=evil)
    console.desk.board.update_model(
        lambda model: hear_all(connected(model, now_utc=NOW), status(at=NOW), message)
    )
    async with console.browser(ADMINISTRATOR) as browser:
        page = (await browser.get("/bays")).text

    assert "<img" not in page
    assert "<hx-partial" not in page
    assert html.escape(evil[:-1], quote=False).split("&gt;")[0] in page
    assert "\\u202e" in page


async def test_an_empty_wall_says_what_to_expect(console: Console) -> None:
    """Before any dock has reported, the page says so, and that the broker is not there."""
    async with console.browser(ADMINISTRATOR) as browser:
        page = (await browser.get("/bays")).text

    assert "还没有采集站上线" in page
    assert "收不到采集站的消息" in page


# ── recordings ──────────────────────────────────────────────────────────────


async def test_the_list_has_every_fact(console: Console) -> None:
    """Each recording with its time, recorder, officer, size, path, digest and evidence."""
    filed = console.site.filed[0]
    async with console.browser(ADMINISTRATOR) as browser:
        page = (await browser.get(f"/recordings?recorder={filed.recorder}")).text

    for shown in (filed.recording_id, filed.recorder, filed.officer, filed.bag_path, "L2"):
        assert shown in page


@pytest.mark.parametrize(
    "query", ["day=2026-02-30", "day=x", "officer=%3Cscript%3E", "recorder=a%00", "officer=%20"]
)
async def test_a_filter_that_cannot_be_is_refused(console: Console, query: str) -> None:
    """A day that does not exist, or a number that cannot be one, is an error and no empty list."""
    async with console.browser(ADMINISTRATOR) as browser:
        assert (await browser.get(f"/recordings?{query}")).status == 400


async def test_a_filter_without_result_says_so(console: Console) -> None:
    """Nothing found is not a blank page."""
    async with console.browser(ADMINISTRATOR) as browser:
        page = (await browser.get("/recordings?day=2020-01-01")).text

    assert "没有符合条件的录像" in page


async def test_a_recording_has_its_custody(console: Console) -> None:
    """The page has original names, full digests, the bag, the manifest's number and the receipt."""
    filed = console.site.filed[2]
    detail = await console.desk.reader.find_recording(filed.recording_id, Wanted())
    assert detail is not None
    assert detail.receipt is not None
    async with console.browser(ADMINISTRATOR) as browser:
        page = (await browser.get(f"/recordings/{filed.recording_id}")).text

    for shown in (
        *filed.sha256,
        filed.bag_path,
        detail.receipt.receipt_id,
        f"dock-1 #{detail.sequence}",
        detail.recording.bag_sha256,
        detail.clips[0].original_name,
        "按记录仪时钟（已校正）",
    ):
        assert shown in page
    assert "download" not in page.replace("nodownload", "")


async def test_a_recording_without_receipt_is_shown(console: Console) -> None:
    """While other files of a docking are on their way, the recording is there and says so."""
    filed = console.site.filed[0]
    engine = create_engine(f"sqlite:///{console.site.catalogue}")
    with engine.begin() as connection:
        connection.execute(update(tables.manifests).values(receipt=None, state="admitted"))
    engine.dispose()
    async with console.browser(ADMINISTRATOR) as browser:
        page = await browser.get(f"/recordings/{filed.recording_id}")

    assert "尚未签发" in page.text


async def test_a_damaged_recording_says_so(console: Console) -> None:
    """A bag that was found bad is marked in the list, and its page says what it means."""
    filed = console.site.filed[0]
    engine = create_engine(f"sqlite:///{console.site.catalogue}")
    with engine.begin() as connection:
        connection.execute(
            update(tables.bags).where(tables.bags.c.path == filed.bag_path).values(damaged_at=NOW)
        )
    engine.dispose()
    async with console.browser(ADMINISTRATOR) as browser:
        listed = (await browser.get("/recordings")).text
        page = (await browser.get(f"/recordings/{filed.recording_id}")).text

    assert listed.count("受损") == 1
    assert "2026-11-23 18:00:00</time> 发现此录像在档案库中受损或缺失" in page


async def test_the_stream_comes_with_its_extension(console: Console) -> None:
    """The library and its extension are one script: in two, the second can be too late."""
    async with console.browser(ADMINISTRATOR) as browser:
        page = (await browser.get("/bays")).text
        [address] = re.findall(r'src="(/static/vendor/[^"]+)"', page)
        script = (await browser.get(address)).text

    assert 'registerExtension("sse"' in script
    assert "var htmx" in script
