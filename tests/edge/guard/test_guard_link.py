"""What edge-agent makes of edge-guard's word; the guard itself is played."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from edge_agent.adapters.guard_link import (
    OPENED,
    REFUSED,
    RESTORED,
    SILENT,
    GuardLink,
    Isolated,
)
from edge_agent.adapters.notice_store import NoticeStore
from edge_agent.adapters.vitals import Vitals
from edge_agent.guard.messages import (
    ToldBreach,
    ToldDoor,
    ToldOpening,
    ToldRefusal,
    ToldUsb,
    Word,
    encode,
)
from protocol.manifest import Isolation
from tests.simulators.docking_site import open_site
from tests.simulators.sealed_manifests import DOCK

NOW = datetime(2026, 11, 27, 8, 0, tzinfo=UTC)
ROUTE = ToldBreach(code="E-ISO-102", subject="default", text="a route to everywhere")


def word(isolation: Isolation, *incident: ToldBreach, open_: tuple[ToldBreach, ...] = ()) -> Word:
    return Word(
        isolation=isolation,
        since=NOW,
        enforced=isolation is not Isolation.NOT_ENFORCED,
        incident=incident,
        open=open_,
        began_at=NOW if incident else None,
    )


@dataclass
class Dock:
    """An agent's side, and a guard that says what it is told to."""

    path: Path
    isolated: Isolated
    vitals: Vitals
    notices: NoticeStore
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)

    async def say(self, said: Word | bytes) -> None:
        """Say it to who listens, as soon as somebody does."""
        await self.came.wait()
        line = said if isinstance(said, bytes) else encode(said)
        self.writers[-1].write(line)
        await self.writers[-1].drain()

    async def until(self, isolation: Isolation) -> None:
        while self.isolated.isolation is not isolation:
            await self.isolated.changes.beyond(self.isolated.changes.beats)

    async def alerts(self) -> list[str]:
        return [alert.code for alert in await self.notices.undelivered_alerts()]

    @contextlib.asynccontextmanager
    async def guarded(self) -> AsyncIterator[None]:
        """Let a guard run."""

        def welcome(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.writers.append(writer)
            self.came.set()

        server = await asyncio.start_unix_server(welcome, str(self.path))
        try:
            yield
        finally:
            server.close()
            for writer in self.writers:
                writer.close()


@pytest.fixture
async def dock(tmp_path: Path) -> AsyncIterator[Dock]:
    def clock() -> datetime:
        return datetime.now(UTC)

    async with open_site(tmp_path / "journal.sqlite") as site:
        notices = NoticeStore(site.journal, dock=DOCK, clock=clock)
        vitals = Vitals(dock=DOCK, bays=1, clock=clock, free_bytes=lambda: 0)
        isolated = Isolated()
        isolated.shows_at(vitals)
        made = Dock(path=tmp_path / "guard.sock", isolated=isolated, vitals=vitals, notices=notices)
        listening = asyncio.create_task(GuardLink(made.path, isolated, notices).run())
        yield made
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening


async def test_the_docks_status_says_what_the_guard_says(dock: Dock) -> None:
    """From holding over breached to restored; each breach and its end are told once."""
    async with dock.guarded():
        await dock.say(word(Isolation.HOLDING))
        await dock.until(Isolation.HOLDING)
        await dock.say(word(Isolation.BREACHED, ROUTE, open_=(ROUTE,)))
        await dock.until(Isolation.BREACHED)
        await dock.say(word(Isolation.BREACHED, ROUTE, open_=(ROUTE,)))
        await dock.say(word(Isolation.RESTORED, ROUTE))
        await dock.until(Isolation.RESTORED)
        while RESTORED not in await dock.alerts():
            pass

        assert dock.vitals.will().isolation is Isolation.RESTORED
        codes = [code for code in await dock.alerts() if code != SILENT]
        assert codes == ["E-ISO-102", RESTORED]


def refused(port: str, *, times: int = 1) -> ToldRefusal:
    device = ToldUsb(
        port=port, ids="0525:a4a2", name="'RNDIS' '1'", let_in=False, because="a network", bay=2
    )
    return ToldRefusal(device=device, first_at=NOW, last_at=NOW, number=times, times=times)


async def test_what_was_refused_at_the_usb_door(dock: Dock) -> None:
    """Each device is an alert of its bay, once while it is told; the rule held all the time."""
    opening = ToldOpening(port="1-7", until=NOW, by="root")
    async with dock.guarded():
        for door in (
            ToldDoor(refused=(refused("1-1"),), refusals=1),
            ToldDoor(refused=(refused("1-1", times=2),), refusals=2, open_ports=(opening,)),
            ToldDoor(refused=(refused("1-1", times=2), refused("1-2")), open_ports=(opening,)),
            ToldDoor(),
            ToldDoor(refused=(refused("1-1"),)),
        ):
            await dock.say(msgspec.structs.replace(word(Isolation.HOLDING), door=door))
        while len(alerts := await dock.notices.undelivered_alerts()) < 4 + (
            SILENT in await dock.alerts()
        ):
            pass

    told = [(one.code, one.facts["subject"], one.bay) for one in alerts if one.code != SILENT]
    assert told == [
        (REFUSED, "1-1", 2),
        (OPENED, "1-7", None),
        (REFUSED, "1-2", 2),
        (REFUSED, "1-1", 2),
    ]
    assert dock.isolated.isolation is Isolation.HOLDING


async def test_a_guard_that_is_not_heard(dock: Dock) -> None:
    """Nobody says that the rule holds; it is told once, and forgotten as soon as it speaks."""
    while await dock.alerts() != [SILENT]:
        pass

    assert dock.isolated.isolation is Isolation.NOT_ENFORCED
    assert dock.isolated.may_talk


async def test_what_is_no_word_is_not_believed(dock: Dock) -> None:
    """The connection is closed, and another one is tried."""
    async with dock.guarded():
        await dock.say(word(Isolation.HOLDING))
        await dock.until(Isolation.HOLDING)
        await dock.say(b'{"isolation":"holding","since":"never"}\n')
        await dock.until(Isolation.NOT_ENFORCED)


async def test_what_talks_is_silent_while_the_rule_is_broken() -> None:
    """It is ended, and begun anew when the rule holds again."""
    isolated = Isolated(Isolation.HOLDING)
    begun, ended = asyncio.Semaphore(0), asyncio.Semaphore(0)

    async def talk() -> None:
        begun.release()
        try:
            await asyncio.Event().wait()
        finally:
            ended.release()

    talking = asyncio.create_task(isolated.while_kept(talk))
    await begun.acquire()
    isolated.become(Isolation.BREACHED)
    await ended.acquire()
    assert begun.locked()
    isolated.become(Isolation.RESTORED)
    await begun.acquire()
    talking.cancel()
    await ended.acquire()
    with pytest.raises(asyncio.CancelledError):
        await talking


async def test_an_error_of_what_talks_is_passed_on() -> None:
    """Whoever keeps it running must know."""

    async def fail() -> None:
        raise ValueError("a fault")

    with pytest.raises(ValueError, match="a fault"):
        await Isolated().while_kept(fail)
