"""A dock's page: what it found when it looked at itself."""

import pytest

from protocol import strict_json
from protocol.topics import Channel, of_dock
from server_agent.access.roles import Role
from server_agent.console.live import connected, received
from tests.server.console.conftest import NOW, Console
from tests.server.console.test_live import hear_all
from tests.simulators.console_data import DOCK
from tests.simulators.console_docks import report, status

ADMINISTRATOR = Role.DEVICE_ADMINISTRATOR


async def test_what_a_dock_found_when_it_looked_at_itself(console: Console) -> None:
    """In the reader's words where we have them, and nothing of it as HTML of the dock's."""
    console.desk.board.update_model(
        lambda model: received(
            hear_all(connected(model, now_utc=NOW), status(at=NOW)),
            topic=of_dock(DOCK, Channel.DOCTOR),
            untrusted=strict_json.encode(report(at=NOW)),
            retained=True,
            now_utc=NOW,
        )
    )
    async with console.browser(ADMINISTRATOR) as browser:
        wall = await browser.get("/bays")
        page = await browser.get(f"/docks/{DOCK}")

    assert f'href="/docks/{DOCK}"' in wall.text
    assert page.status == 200
    assert "时钟" in page.text
    assert "off by 93 s" in page.text
    assert "timesyncd.conf" in page.text
    assert "<b>broker</b>" not in page.text
    assert "<i>answers</i>" not in page.text


@pytest.mark.parametrize("name", ["dock-99", "%00", "UP", "a%2Fb"])
async def test_a_dock_that_nobody_has_heard_of(console: Console, name: str) -> None:
    """There is no page for it."""
    async with console.browser(ADMINISTRATOR) as browser:
        assert (await browser.get(f"/docks/{name}")).status == 404
