"""Nothing is played that was not written into the viewing log first."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, update

from server_agent.access.roles import Role
from server_agent.catalogue import tables
from tests.server.console.conftest import NOW, Answer, Browser, Console
from tests.simulators.console_data import Filed

LEADER = Role.BUREAU_LEADER


async def start(browser: Browser, filed: Filed, clip: int = 0, **headers: str) -> Answer:
    return await browser.post(
        f"/recordings/{filed.recording_id}/files/{filed.file_ids[clip]}/viewings",
        {"form_token": browser.form_token},
        **headers,
    )


async def media_of(browser: Browser, filed: Filed) -> str:
    answer = await start(browser, filed)
    return f"/viewings/{answer.headers['location'].partition('viewing=')[2]}/media"


def content(filed: Filed) -> bytes:
    return min((filed.bag / "data").iterdir()).read_bytes()


async def test_starting_is_written_down(console: Console) -> None:
    """Who, which recording and file, when and from where: before the first byte."""
    filed = console.site.filed[0]
    async with console.browser(LEADER) as browser:
        answer = await start(browser, filed)
    [viewing], total = await console.desk.store.list_viewings(limit=9, offset=0)

    assert answer.status == 303
    assert total == 1
    assert (viewing.user, viewing.role) == (LEADER.value, LEADER)
    assert (viewing.recording_id, viewing.file_id) == (filed.recording_id, filed.file_ids[0])
    assert (viewing.started_at_utc, viewing.address) == (NOW, "127.0.0.1")
    assert viewing.sha256 == filed.sha256[0]


async def test_each_start_is_a_row(console: Console) -> None:
    """Playing the same clip again is another viewing."""
    async with console.browser(LEADER) as browser:
        for _ in range(3):
            await start(browser, console.site.filed[0])

    assert (await console.desk.store.list_viewings(limit=9, offset=0))[1] == 3


async def test_the_file_comes_byte_for_byte(console: Console) -> None:
    """A viewing gives exactly the archived bytes, to look at and not to keep."""
    filed = console.site.filed[0]
    async with console.browser(LEADER) as browser:
        answer = await browser.get(await media_of(browser, filed))

    assert answer.status == 200
    assert answer.body == content(filed)
    assert answer.headers["Content-Type"] == "video/mp4"
    assert answer.headers["Content-Disposition"] == "inline"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize(
    ("asked", "first", "last"), [("bytes=2-5", 2, 5), ("bytes=3-", 3, None), ("bytes=-4", -4, None)]
)
async def test_a_player_may_jump(
    console: Console, asked: str, first: int, last: int | None
) -> None:
    """A range is answered with 206 and exactly that range."""
    filed = console.site.filed[0]
    whole = content(filed)
    async with console.browser(LEADER) as browser:
        answer = await browser.get(await media_of(browser, filed), range=asked)

    assert answer.status == 206
    assert answer.body == whole[first : None if last is None else last + 1]
    assert answer.headers["Content-Range"].endswith(f"/{len(whole)}")


async def test_a_range_beyond_the_end(console: Console) -> None:
    """A range that is not in the file is 416."""
    async with console.browser(LEADER) as browser:
        path = await media_of(browser, console.site.filed[0])
        assert (await browser.get(path, range="bytes=99999-")).status == 416


async def test_a_viewing_is_its_sessions_own(console: Console) -> None:
    """Another session of the same person does not play what this one started."""
    async with console.browser(LEADER) as one, console.browser(LEADER) as other:
        path = await media_of(one, console.site.filed[0])
        assert (await other.get(path)).status == 404
        assert (await one.get(path)).status == 200


async def test_a_viewing_ends_with_its_session(console: Console) -> None:
    """After the session has ended, its viewings give nothing."""
    async with console.browser(LEADER) as browser:
        path = await media_of(browser, console.site.filed[0])
        console.clock.turn(timedelta(minutes=31))
        answer = await browser.get(path)

    assert answer.status == 303
    assert answer.headers["location"].startswith("/login")


async def test_the_address_alone_saves_nothing(console: Console) -> None:
    """Opened as a page of its own, the file is not given."""
    async with console.browser(LEADER) as browser:
        path = await media_of(browser, console.site.filed[0])
        assert (await browser.get(path, sec_fetch_dest="document")).status == 403
        assert (await browser.get(path, sec_fetch_dest="video")).status == 200


async def test_the_page_plays_what_was_just_started(console: Console) -> None:
    """After starting, the page has the player; the same address an hour later has none."""
    filed = console.site.filed[0]
    async with console.browser(LEADER) as browser:
        address = (await start(browser, filed)).headers["location"]
        now = (await browser.get(address)).text
        console.clock.turn(timedelta(minutes=5))
        later = (await browser.get(address)).text

    assert "<video" in now
    assert 'controlslist="nodownload' in now
    assert "<video" not in later


async def test_in_place_the_player_alone_comes(console: Console) -> None:
    """A page that is there already gets the player as a part."""
    async with console.browser(LEADER) as browser:
        answer = await start(browser, console.site.filed[0], hx_request="true")

    assert answer.status == 200
    assert "<video" in answer.text
    assert "<html" not in answer.text


@pytest.mark.parametrize("recording", [0, 1])
async def test_only_a_recordings_own_files(console: Console, recording: int) -> None:
    """A file of another recording, or none at all, is not started."""
    filed = console.site.filed[recording]
    other = 10_000 if recording else console.site.filed[3].file_ids[0]
    async with console.browser(LEADER) as browser:
        answer = await browser.post(
            f"/recordings/{filed.recording_id}/files/{other}/viewings",
            {"form_token": browser.form_token},
        )

    assert answer.status == 404
    assert (await console.desk.store.list_viewings(limit=9, offset=0))[1] == 0


def rewrite(console: Console, filed: Filed, **values: str) -> None:
    engine = create_engine(f"sqlite:///{console.site.catalogue}")
    with engine.begin() as connection:
        if "path" in values:
            connection.execute(
                update(tables.bags).where(tables.bags.c.path == filed.bag_path).values(**values)
            )
        else:
            connection.execute(
                update(tables.files)
                .where(tables.files.c.file_id == filed.file_ids[0])
                .values(**values)
            )
    engine.dispose()


@pytest.mark.parametrize(
    "lie",
    [
        {"safe_name": "../../../../../../console.toml"},
        {"safe_name": "../bagit.txt"},
        {"path": "../outside"},
        {"path": "/etc"},
    ],
    ids=str,
)
async def test_a_catalogue_that_lies_opens_nothing(console: Console, lie: dict[str, str]) -> None:
    """A path that leads out of its bag gives 404, whatever the catalogue says."""
    filed = console.site.filed[0]
    async with console.browser(LEADER) as browser:
        path = await media_of(browser, filed)
        rewrite(console, filed, **lie)
        answer = await browser.get(path)

    assert answer.status == 404
    assert b"listen" not in answer.body


async def test_a_link_in_the_archive_opens_nothing(console: Console, tmp_path: Path) -> None:
    """A link where a clip should lie is not followed."""
    filed = console.site.filed[0]
    secret = tmp_path / "secret"
    secret.write_text("not footage")
    async with console.browser(LEADER) as browser:
        path = await media_of(browser, filed)
        clip = min((filed.bag / "data").iterdir())
        clip.unlink()
        assert (await browser.get(path)).status == 404
        clip.symlink_to(secret)
        assert (await browser.get(path)).status == 404


async def test_an_unplayable_file_is_not_offered(console: Console) -> None:
    """A format that browsers do not play has no button, and starting it is refused."""
    filed = console.site.filed[2]  # one clip
    rewrite(console, filed, safe_name="clip.avi")
    async with console.browser(LEADER) as browser:
        page = (await browser.get(f"/recordings/{filed.recording_id}")).text
        answer = await start(browser, filed)

    assert "浏览器无法播放此格式" in page
    assert '<button class="play"' not in page
    assert answer.status == 404


async def test_the_log_is_read_by_auditors(console: Console) -> None:
    """An auditor sees who watched what, and no way to watch it."""
    filed = console.site.filed[0]
    async with console.browser(LEADER) as browser:
        await start(browser, filed)
    async with console.browser(Role.AUDITOR) as browser:
        page = (await browser.get("/viewings")).text

    for shown in (LEADER.value, filed.recording_id, filed.recorder, "局领导", filed.sha256[0][:12]):
        assert shown in page
    assert f'href="/recordings/{filed.recording_id}"' not in page
