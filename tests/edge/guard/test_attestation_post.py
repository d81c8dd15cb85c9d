"""Attestations reach the archive, each once and in order, whatever is lost on the way."""

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from edge_agent.adapters.attestation_post import AttestationPost
from edge_agent.adapters.attestations import AttestationFolder
from edge_agent.adapters.journal import Journal
from edge_agent.adapters.notice_store import NoticeStore
from protocol.attested import Attested
from protocol.digest import ZERO_DIGEST
from protocol.envelope import keyring, open_statement, sign_statement
from protocol.keys import SigningKey
from protocol.topics import Channel, of_dock
from protocol.versions import Statement
from runtime.errors import LinkLostError, LinkRefusedError
from runtime.keys import load_signing_key
from runtime.link import Link, LinkSettings, open_link
from server_agent.app import Server, serve
from tests.simulators.archive_site import DOCK, OTHER_DOCK, ArchiveSite, lay_out_site
from tests.simulators.attestation_bench import Chain
from tests.simulators.broker import HOST
from tests.simulators.dock import TIMEOUT_S, dock_tls

pytestmark = pytest.mark.processes

NOW = datetime(2026, 11, 27, 8, 0, tzinfo=UTC)
TOPIC = of_dock(DOCK, Channel.ATTESTED)
PAUSE_S = 0.2


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ArchiveSite]:
    """A site with Debian's broker, as the product configures it."""
    one = lay_out_site(tmp_path)
    with one.broker():
        yield one


@dataclass
class Dock:
    """A dock's attestations and its journal; what is in memory is lost with each `start`."""

    site: ArchiveSite
    journal: Journal
    chain: Chain
    folder: Path

    def __post_init__(self) -> None:
        self.notices = NoticeStore(self.journal, dock=DOCK, clock=lambda: NOW)
        self.start()

    def start(self) -> None:
        self.post = AttestationPost(
            self.folder,
            self.notices,
            dock=DOCK,
            archive_keys=keyring(self.site.archive_key),
            pause_s=PAUSE_S,
        )

    def attest(self, count: int = 1) -> None:
        for _ in range(count):
            envelope = self.chain.next()
            AttestationFolder(self.folder).add(envelope, sequence=self.chain.head.sequence)

    @contextlib.asynccontextmanager
    async def online(self, hears: Callable[[bytes], bool] = lambda _: True) -> AsyncIterator[None]:
        """Be connected; what it does not hear is as lost as its sender's memory of it."""
        settings = LinkSettings(
            host=HOST, port=self.site.mqtt_port, client_id=DOCK, tls=dock_tls(self.site, DOCK)
        )
        async with open_link(settings) as link:
            await link.subscribe(TOPIC)
            tasks = [
                asyncio.create_task(self.post.run(link)),
                asyncio.create_task(self._listen(link, hears)),
            ]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError, LinkLostError):
                        await task

    async def _listen(self, link: Link, hears: Callable[[bytes], bool]) -> None:
        async for message in link.messages():
            if hears(message.payload):
                await self.post.take(message.topic, message.payload)
            await link.acknowledge(message)

    def answer(self) -> Attested | None:
        """The archive's last word, as the dock keeps it."""
        path = self.folder / "answered.dsse.json"
        if not path.exists():
            return None
        keys = keyring(self.site.archive_key)
        return open_statement(path.read_bytes(), Statement.ATTESTED, Attested, keys)

    async def until_answered(self, number: int) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while (answer := self.answer()) is None or answer.sequence != number:  # noqa: ASYNC110 - a file tells nobody
                await asyncio.sleep(0.02)

    async def alerts(self) -> list[str]:
        return [alert.code for alert in await self.notices.undelivered_alerts()]


@pytest.fixture
async def dock(site: ArchiveSite, tmp_path: Path) -> AsyncIterator[Dock]:
    async with Journal.open(tmp_path / "journal.sqlite") as journal:
        yield Dock(site, journal, Chain(site.key(DOCK)), tmp_path / "attestations")


@pytest.fixture
async def archive(site: ArchiveSite) -> AsyncIterator[Server]:
    async with serve(site.configure()) as server:
        yield server


def rows(site: ArchiveSite, query: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{site.root}/catalogue.sqlite?mode=ro", uri=True)) as one:
        return one.execute(query).fetchall()


def kept(site: ArchiveSite) -> list[bytes]:
    found = rows(site, "SELECT envelope FROM attestations ORDER BY sequence")
    return [envelope for (envelope,) in found]


async def until_kept(site: ArchiveSite, number: int) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while len(kept(site)) < number:  # noqa: ASYNC110 - another program's eyes get no event
            await asyncio.sleep(0.02)


@pytest.mark.usefixtures("archive")
async def test_what_was_made_and_what_is_made(dock: Dock, site: ArchiveSite) -> None:
    """All from before the connection, then each new one; the archive has their exact bytes."""
    dock.attest(4)
    async with dock.online():
        await dock.until_answered(4)
        dock.attest()
        await dock.until_answered(5)

    assert kept(site) == dock.chain.sent
    assert rows(site, "SELECT count(*) FROM custody_entries") == [(5,)]
    assert rows(site, "SELECT code FROM alerts") == []
    assert rows(site, "SELECT code FROM refused_messages") == []
    assert await dock.alerts() == []


@pytest.mark.usefixtures("archive")
async def test_stopped_before_it_heard_the_answer(dock: Dock, site: ArchiveSite) -> None:
    """At each step: it sends that one again, and the archive has each of them once."""
    for number in range(1, 4):
        dock.attest()
        async with dock.online(hears=lambda _: False):
            await until_kept(site, number)
        answer = dock.answer()
        assert (0 if answer is None else answer.sequence) == number - 1
        dock.start()
        async with dock.online():
            await dock.until_answered(number)
        dock.start()

    assert kept(site) == dock.chain.sent
    assert rows(site, "SELECT count(*) FROM custody_entries") == [(3,)]
    assert rows(site, "SELECT code FROM refused_messages") == []


async def test_no_archive_for_a_while(dock: Dock, site: ArchiveSite) -> None:
    """What nobody took in is sent until somebody does."""
    async with serve(site.configure()):
        pass  # so that its session is at the broker, or not: both happen
    dock.attest(2)
    async with dock.online():
        async with serve(site.configure()):
            await dock.until_answered(2)
        dock.attest(2)
        async with serve(site.configure()):
            await dock.until_answered(4)

    assert kept(site) == dock.chain.sent
    assert rows(site, "SELECT code FROM refused_messages") == []


async def test_an_archive_that_was_set_back(dock: Dock, site: ArchiveSite) -> None:
    """A dock that connects sends it what it lacks; both say what happened."""
    dock.attest(2)
    async with serve(site.configure()), dock.online():
        await dock.until_answered(2)
    shutil.copy(site.root / "catalogue.sqlite", site.root / "backup")
    dock.attest(3)
    async with serve(site.configure()), dock.online():
        await dock.until_answered(5)
    for path in site.root.glob("catalogue.sqlite*"):
        path.unlink()
    shutil.copy(site.root / "backup", site.root / "catalogue.sqlite")
    dock.start()

    async with serve(site.configure()), dock.online():
        await until_kept(site, 5)
        await dock.until_answered(5)

    assert kept(site) == dock.chain.sent
    assert ("E-ATT-102", DOCK) in rows(site, "SELECT code, dock FROM alerts")
    assert await dock.alerts() == ["E-ATT-105"]


def answer_of(key: SigningKey, number: int, digest: str, **facts: Any) -> bytes:
    known: dict[str, Any] = {
        "dock": DOCK,
        "sequence": number,
        "payload_sha256": digest,
        "answered_at": NOW,
    }
    return sign_statement(Attested(**(known | facts)), Statement.ATTESTED, key)


@pytest.fixture
def archive_key(site: ArchiveSite) -> SigningKey:
    return load_signing_key(site.signing["archive"].key)


async def test_an_answer_that_is_not_believed(
    dock: Dock, site: ArchiveSite, archive_key: SigningKey
) -> None:
    """It moves nothing, it is kept, and a person is told."""
    dock.attest(2)
    digest = dock.chain.head.payload_sha256
    for untrusted, code in (
        (answer_of(site.key(OTHER_DOCK), 2, digest), "E-PRO-108"),
        (b"{}", "E-PRO-107"),
        (sign_statement(Attested(dock=DOCK, sequence=2, payload_sha256=digest, answered_at=NOW),
                        Statement.ATTESTATION, archive_key), "E-PRO-105"),
        (answer_of(archive_key, 2, digest, dock=OTHER_DOCK), "E-ATT-104"),
        (answer_of(archive_key, 3, digest), "E-ATT-104"),
        (answer_of(archive_key, 1, digest), "E-ATT-104"),
        (answer_of(archive_key, 0, digest), "E-ATT-104"),
    ):  # fmt: skip
        await dock.post.take(TOPIC, untrusted)
        found = await dock.journal.connection.execute_fetchall(
            "SELECT payload FROM unhandled_message WHERE code = ?", (code,)
        )
        assert (untrusted,) in [tuple(row) for row in found]

    assert dock.answer() is None
    assert set(await dock.alerts()) == {"E-PRO-105", "E-PRO-107", "E-PRO-108", "E-ATT-104"}


async def test_an_answer_that_comes_late(dock: Dock, archive_key: SigningKey) -> None:
    """What was answered before the last answer moves nothing; what was answered after does."""
    dock.attest(1)
    first = answer_of(archive_key, 1, dock.chain.head.payload_sha256)
    dock.attest(1)
    second = answer_of(
        archive_key, 2, dock.chain.head.payload_sha256, answered_at=NOW + timedelta(seconds=1)
    )
    for one in (first, second, first):
        await dock.post.take(TOPIC, one)
    dock.start()
    await dock.post.take(TOPIC, first)

    assert (answer := dock.answer()) is not None
    assert answer.sequence == 2
    assert await dock.alerts() == []

    nothing = answer_of(archive_key, 0, ZERO_DIGEST, answered_at=NOW + timedelta(seconds=2))
    await dock.post.take(TOPIC, nothing)

    assert (answer := dock.answer()) is not None
    assert answer.sequence == 0
    assert await dock.alerts() == ["E-ATT-105"]


async def test_an_answer_that_was_damaged_on_the_disk(dock: Dock, archive_key: SigningKey) -> None:
    """All is sent again; the next answer stands in its place."""
    dock.attest(1)
    answer = answer_of(archive_key, 1, dock.chain.head.payload_sha256)
    await dock.post.take(TOPIC, answer)
    (dock.folder / "answered.dsse.json").write_bytes(answer[:-2])
    dock.start()
    await dock.post.take(TOPIC, answer)

    assert (kept := dock.answer()) is not None
    assert kept.sequence == 1
    assert await dock.alerts() == []


@pytest.mark.usefixtures("archive")
async def test_one_that_was_taken_away(dock: Dock, site: ArchiveSite) -> None:
    """What comes behind it is shown to the archive, which refuses it and says so."""
    dock.attest(3)
    AttestationFolder(dock.folder).files()[1][1].unlink()
    async with dock.online():
        async with asyncio.timeout(TIMEOUT_S):
            while not rows(site, "SELECT 1 FROM alerts"):  # noqa: ASYNC110 - another program's eyes get no event
                await asyncio.sleep(0.02)

    assert kept(site) == dock.chain.sent[:1]
    assert rows(site, "SELECT code, dock FROM alerts") == [("E-ATT-102", DOCK)]
    assert rows(site, "SELECT code FROM refused_messages") == [("F-ADM-010",)]


@pytest.mark.usefixtures("archive")
async def test_one_that_cannot_be_read(dock: Dock, site: ArchiveSite) -> None:
    """A person is told, once, and the connection goes on; what was mended is sent after all."""
    dock.attest(3)
    path = AttestationFolder(dock.folder).files()[1][1]
    path.rename(dock.folder / "aside")
    path.mkdir()  # what reading it says is an OSError, as of a bad sector
    async with dock.online():
        await until_kept(site, 1)
        async with asyncio.timeout(TIMEOUT_S):
            while not await dock.alerts():
                await dock.notices.raised.wait()
        answer = dock.answer()
        path.rmdir()
        (dock.folder / "aside").rename(path)
        await dock.until_answered(3)

    assert answer is not None
    assert answer.sequence == 1
    assert kept(site) == dock.chain.sent
    assert await dock.alerts() == ["E-ISO-112"]


async def test_a_broker_that_takes_none(dock: Dock, tmp_path: Path) -> None:
    """One whose access list is of a release before: it is asked again, and nothing else suffers."""
    other = lay_out_site(tmp_path / "other")
    with other.broker() as broker:
        acl = other.root / "mosquitto" / "acl"
        lines = acl.read_text().splitlines(keepends=True)
        acl.write_text("".join(one for one in lines if "attest" not in one))
        broker.stop()
        broker.start()
        dock.site = other
        dock.attest()
        tls = dock_tls(other, DOCK)
        settings = LinkSettings(host=HOST, port=other.mqtt_port, client_id=DOCK, tls=tls)
        async with open_link(settings) as link:
            with pytest.raises(LinkRefusedError):
                await link.publish(of_dock(DOCK, Channel.ATTESTATIONS), b"it is refused")
            running = asyncio.create_task(dock.post.run(link))
            done, _ = await asyncio.wait({running}, timeout=3 * PAUSE_S)
            await link.publish(of_dock(DOCK, Channel.ALERTS), b"{}")
            running.cancel()

    assert not done
