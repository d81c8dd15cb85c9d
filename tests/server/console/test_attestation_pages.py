"""What docks attested, as people see it: the last word, all of them, and the exact bytes."""

from datetime import timedelta

import pytest

from server_agent.access.roles import Role
from server_agent.console.live import connected
from server_agent.console.reader import PAGE_ROWS
from tests.server.console.conftest import NOW, Console
from tests.server.console.test_live import hear_all
from tests.simulators.console_data import DOCK, add_attestations
from tests.simulators.console_docks import status

ADMINISTRATOR = Role.DEVICE_ADMINISTRATOR


@pytest.fixture
def heard(console: Console) -> Console:
    """The console, which has heard of the dock."""
    console.desk.board.update_model(
        lambda model: hear_all(connected(model, now_utc=NOW), status(at=NOW))
    )
    return console


async def test_the_last_word_of_a_dock(heard: Console) -> None:
    """Its page says how it stood and when; the next one is overdue after 26 hours."""
    add_attestations(heard.site, 3, at=NOW)
    async with heard.browser(ADMINISTRATOR) as browser:
        timely = await browser.get(f"/docks/{DOCK}")
        heard.clock.turn(timedelta(hours=27))
        heard.desk.board.update_model(lambda model: hear_all(model, status(at=heard.clock())))
    async with heard.browser(ADMINISTRATOR) as browser:
        late = await browser.get(f"/docks/{DOCK}")

    assert "隔离有效" in timely.text
    assert "2026-11-23 18:00:00" in timely.text
    assert "逾期未出具" not in timely.text
    assert "逾期未出具" in late.text
    assert f'href="/docks/{DOCK}/attestations"' in timely.text


async def test_a_dock_that_never_attested(heard: Console) -> None:
    """Its page is as it was, and there is no list."""
    async with heard.browser(ADMINISTRATOR) as browser:
        page = await browser.get(f"/docks/{DOCK}")
        missing = await browser.get(f"/docks/{DOCK}/attestations")

    assert page.status == 200
    assert "隔离证明" not in page.text
    assert missing.status == 404


async def test_all_of_them(console: Console) -> None:
    """Newest first, in pages; what was broken is told, and none of it as HTML of the dock's."""
    count = PAGE_ROWS + 3
    add_attestations(console.site, count, at=NOW)
    async with console.browser(ADMINISTRATOR) as browser:
        first = await browser.get(f"/docks/{DOCK}/attestations")
        second = await browser.get(f"/docks/{DOCK}/attestations?page=2")
        nonsense = await browser.get(f"/docks/{DOCK}/attestations?page=-1")

    assert [first.status, second.status, nonsense.status] == [200, 200, 200]
    for number in range(1, count + 1):
        link = f'href="/docks/{DOCK}/attestations/{number}"'
        assert (link in first.text) == (number > 3)
        assert (link in second.text) == (number <= 3)
    assert "E-ISO-102" in first.text
    assert "&lt;i&gt;default" in first.text
    assert "<i>default" not in first.text


async def test_the_exact_bytes(console: Console) -> None:
    """What is taken away is what the dock signed, under a name that says which one it is."""
    sent = add_attestations(console.site, 2, at=NOW)
    async with console.browser(ADMINISTRATOR) as browser:
        taken = await browser.get(f"/docks/{DOCK}/attestations/2")

    assert taken.body == sent[1]
    assert taken.headers["Content-Disposition"] == (
        f'attachment; filename="{DOCK}-00000002.dsse.json"'
    )
    assert taken.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    "path", ["0", "3", "9" * 30, f"{1 << 63}", "-1", "x", "1/2", "%00", "1%0d%0aSet-Cookie:x=1"]
)
async def test_what_is_not_there(console: Console, path: str) -> None:
    """There is nothing to take away, whatever is asked for."""
    add_attestations(console.site, 2, at=NOW)
    async with console.browser(ADMINISTRATOR) as browser:
        assert (await browser.get(f"/docks/{DOCK}/attestations/{path}")).status == 404
