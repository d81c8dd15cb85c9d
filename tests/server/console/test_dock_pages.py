"""A dock's page: what it found when it looked at itself."""

import ast
import re
from typing import Any

import pytest

from protocol import strict_json
from protocol.commands import CommandAnswer, CommandOutcome, CommandVerb
from protocol.identifiers import CommandId
from protocol.topics import Channel, of_dock
from server_agent.access.roles import Role
from server_agent.adapters.command_socket import Reply, Request
from server_agent.console import wording
from server_agent.console.live import connected, received
from tests.architecture.source_tree import ROOT
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
    assert "在 /etc/systemd/timesyncd.conf 中填写本网时间服务器" in page.text
    assert "<b>broker</b>" not in page.text
    assert "<i>answers</i>" not in page.text


async def test_what_went_wrong_at_one_bay(console: Console) -> None:
    """The wall leads to it; only that bay's alerts are there, with what the dock said."""
    console.desk.board.update_model(
        lambda model: hear_all(connected(model, now_utc=NOW), status(at=NOW))
    )
    async with console.browser(ADMINISTRATOR) as browser:
        wall = await browser.get("/bays")
        everything = await browser.get(f"/docks/{DOCK}")
        bays = {int(bay) for bay in re.findall(r'<td class="num">(\d+)</td>', everything.text)}
        one = await browser.get(f"/docks/{DOCK}?bay={min(bays)}")
        nonsense = await browser.get(f"/docks/{DOCK}?bay=x&page=-1")

    assert f'href="/docks/{DOCK}?bay={min(bays)}#history"' in wall.text
    assert len(bays) > 1
    shown = {int(bay) for bay in re.findall(r'<td class="num">(\d+)</td>', one.text)}
    assert shown == {min(bays)}
    assert nonsense.status == 200


@pytest.mark.parametrize("name", ["dock-99", "%00", "UP", "a%2Fb"])
async def test_a_dock_that_nobody_has_heard_of(console: Console, name: str) -> None:
    """There is no page for it."""
    async with console.browser(ADMINISTRATOR) as browser:
        assert (await browser.get(f"/docks/{name}")).status == 404


class Answering:
    """The archive, as far as it is asked for commands."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.asked: list[Request] = []

    async def __call__(self, request: Request) -> Reply:
        self.asked.append(request)
        return self.reply


def _with_dock(console: Console, reply: Reply) -> Answering:
    """Let the dock be heard of, and the archive answer."""
    answering = Answering(reply)
    console.desk.errands._ask = answering  # noqa: SLF001 - the archive is another program
    console.desk.board.update_model(
        lambda model: hear_all(connected(model, now_utc=NOW), status(at=NOW))
    )
    return answering


def _answer(outcome: CommandOutcome, **facts: Any) -> Reply:
    return Reply(
        answer=CommandAnswer(
            command_id=CommandId("0192f1a4-1000-7000-8000-0000000000c1"),
            dock=DOCK,
            at=NOW,
            outcome=outcome,
            **facts,
        )
    )


async def test_a_command_and_its_answer(console: Console) -> None:
    """Asked in the account's name; what the dock says is shown, and none of it as HTML."""
    answering = _with_dock(
        console, _answer(CommandOutcome.DONE, content="<script>line</script>\n第二行")
    )
    async with console.browser(ADMINISTRATOR) as browser:
        form = (await browser.get(f"/docks/{DOCK}")).form_token
        fields = {"form_token": form, "verb": "identify", "bay": "3"}
        sent = await browser.post(f"/docks/{DOCK}/commands", fields)
        await console.desk.errands.idle()
        page = await browser.get(f"/docks/{DOCK}")

    [asked] = answering.asked
    assert (sent.status, sent.headers["location"]) == (303, f"/docks/{DOCK}")
    assert (asked.dock, asked.verb, asked.bay) == (DOCK, CommandVerb.IDENTIFY, 3)
    assert asked.asked_by in page.text
    assert "已完成" in page.text
    assert "第二行" in page.text
    assert "<script>line" not in page.text


@pytest.mark.parametrize(
    ("reply", "shown"),
    [
        (_answer(CommandOutcome.REFUSED, code="E-CMD-104", text="no lights"), "被拒绝"),
        (Reply(code="E-CMD-202", text="did not answer"), "失败"),
    ],
)
async def test_a_command_that_was_not_done(console: Console, reply: Reply, shown: str) -> None:
    """With the code, and what the dock or the archive says."""
    _with_dock(console, reply)
    async with console.browser(ADMINISTRATOR) as browser:
        form = (await browser.get(f"/docks/{DOCK}")).form_token
        await browser.post(f"/docks/{DOCK}/commands", {"form_token": form, "verb": "rescan"})
        await console.desk.errands.idle()
        page = await browser.get(f"/docks/{DOCK}")

    assert shown in page.text
    assert "E-CMD-" in page.text


@pytest.mark.parametrize(
    "fields",
    [{}, {"verb": "erase"}, {"verb": "identify", "bay": "0"}, {"verb": "doctor", "bay": "x"}],
)
async def test_a_command_that_there_is_not(console: Console, fields: dict[str, str]) -> None:
    """It is refused, and nobody is asked."""
    answering = _with_dock(console, _answer(CommandOutcome.DONE))
    async with console.browser(ADMINISTRATOR) as browser:
        form = (await browser.get(f"/docks/{DOCK}")).form_token
        answer = await browser.post(f"/docks/{DOCK}/commands", {"form_token": form, **fields})

    assert answer.status == 400
    assert not answering.asked


@pytest.mark.parametrize("role", [Role.OFFICER, Role.SECTION_HEAD, Role.BUREAU_LEADER])
async def test_who_has_no_business_with_docks(console: Console, role: Role) -> None:
    """The page has no buttons, and the address answers 403."""
    answering = _with_dock(console, _answer(CommandOutcome.DONE))
    async with console.browser(role) as browser:
        page = await browser.get(f"/docks/{DOCK}")
        sent = await browser.post(
            f"/docks/{DOCK}/commands", {"form_token": page.form_token, "verb": "restart"}
        )

    assert (page.status, sent.status) == (200, 403)
    assert f"/docks/{DOCK}/commands" not in page.text
    assert not answering.asked


def test_what_docks_say_word_for_word_is_translated() -> None:
    """Each subject and each remedy that the dock's sources spell out has its sentence."""
    said: dict[str, set[str]] = {"subject": set(), "remedy": set()}
    for path in ("edge_agent/doctor/verdicts.py", "edge_agent/adapters/examining.py"):
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and isinstance(node.value, ast.Constant):
                said.setdefault(str(node.arg), set()).add(str(node.value.value))

    assert said["subject"]
    assert said["subject"] <= set(wording.SUBJECTS)
    assert said["remedy"] - {""} <= set(wording.REMEDIES)
    assert said["remedy"]
