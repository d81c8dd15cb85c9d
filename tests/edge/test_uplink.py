import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec
import pytest

from edge_agent.adapters.notice_store import Notice
from edge_agent.adapters.outbox_store import Effect
from edge_agent.adapters.task_keeper import PART_FAILED
from edge_agent.adapters.telemetry import TelemetryPace
from protocol.envelope import parse_statement, sign_statement, take_apart
from protocol.messages import BayState
from protocol.receipt import Receipt
from protocol.registry import Registry
from protocol.topics import REGISTRY
from protocol.versions import Statement
from runtime.tls import client_context
from tests.simulators.archive import Archive
from tests.simulators.archive_service import ArchiveService, serve_archive
from tests.simulators.broker import Broker
from tests.simulators.certificates import Authority
from tests.simulators.fault_proxy import FaultProxy, lay_proxy
from tests.simulators.sealed_manifests import ARCHIVE_KEY, DOCK, DOCK_KEY, NOW
from tests.simulators.tus_archive import TusArchive, serve_tus
from tests.simulators.uplink_dock import BAY, PACE, Dock, open_dock

pytestmark = pytest.mark.processes

DOCK_TOPICS: Final = f"bayward/v1/docks/{DOCK}"
ACL: Final = (
    f"user {DOCK}",
    *(
        f"topic write {DOCK_TOPICS}/{word}"
        for word in ("status", "bays/+", "metrics", "alerts", "manifests", "cosignatures")
    ),
    f"topic read {DOCK_TOPICS}/receipts",
    "topic read bayward/v1/site/#",
    "user archive",
    "topic read bayward/v1/docks/#",
    "topic write bayward/v1/docks/+/receipts",
    "topic readwrite bayward/v1/site/#",
)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


@pytest.fixture
def broker(tmp_path: Path, authority: Authority) -> Iterator[Broker]:
    """A broker with mutual TLS and the access list of docs/architecture.md."""
    with Broker(tmp_path / "broker", authority=authority, acl=ACL) as running:
        yield running


@pytest.fixture
async def cable(broker: Broker) -> AsyncIterator[FaultProxy]:
    """The cable between the dock and the broker."""
    async with lay_proxy(broker.host, broker.port) as laid:
        yield laid


@pytest.fixture
async def tus() -> AsyncIterator[TusArchive]:
    async with serve_tus(TusArchive()) as served:
        yield served


@pytest.fixture
async def dock(
    tmp_path: Path, authority: Authority, cable: FaultProxy, tus: TusArchive
) -> AsyncIterator[Dock]:
    async with open_dock(tmp_path, authority, cable.port, tus) as opened:
        yield opened


@contextlib.asynccontextmanager
async def archive_on(
    broker: Broker, authority: Authority, tus: TusArchive, archive: Archive | None = None
) -> AsyncIterator[ArchiveService]:
    pair = authority.issue_tls("archive")
    tls = client_context(ca=authority.ca, certificate=pair.certificate, key=pair.key)
    archive = archive or Archive(ARCHIVE_KEY, DOCK_KEY.public, tus, dock=DOCK)
    async with serve_archive(
        archive, host=broker.host, port=broker.port, tls=tls, dock=DOCK
    ) as service:
        yield service


@pytest.fixture
async def service(
    broker: Broker, authority: Authority, tus: TusArchive
) -> AsyncIterator[ArchiveService]:
    async with archive_on(broker, authority, tus) as served:
        yield served


async def test_a_manifest_gets_its_receipt(dock: Dock, service: ArchiveService) -> None:
    """What is sealed while the dock is online is published, uploaded and receipted."""
    async with dock.online():
        await dock.seal([[b"one", b"two"], [b"three"]])
        await dock.until_receipted(1)

    assert set(service.archive.tus.files.values()) == {b"one", b"two", b"three"}


async def test_what_was_sealed_offline_follows_in_order(
    dock: Dock, service: ArchiveService
) -> None:
    """Dockings that were sealed without a network are published in the order of the chain."""
    for number in range(4):
        await dock.seal([[b"%d" % number]])
    async with dock.online():
        await dock.until_receipted(1, 2, 3, 4)

    first_heard = list(dict.fromkeys(service.heard.manifests))
    assert first_heard == [one.envelope for one in dock.dockings.sealed.values()]


async def test_the_dock_introduces_itself_first(dock: Dock, service: ArchiveService) -> None:
    """A new connection tells status, bays and alerts before the first manifest."""
    await dock.notices.raise_alert(Notice(code="E-BAY-102", text="first", facts={}))
    await dock.seal([[b"one"]])
    async with dock.online():
        await service.until(lambda heard: bool(heard.manifests))

    assert service.heard.statuses[0].online
    assert service.heard.bays[0].state is BayState.EMPTY
    assert service.heard.alerts[0].text == "first"
    assert not await dock.notices.undelivered_alerts()


async def test_a_lost_dock_is_offline(dock: Dock, service: ArchiveService) -> None:
    """When the agent stops, the broker's last word about the dock is that it is offline."""
    async with dock.online():
        await service.until(lambda heard: any(status.online for status in heard.statuses))
    await service.until(lambda heard: not heard.statuses[-1].online)


async def test_a_cut_cable_costs_nothing(
    dock: Dock, service: ArchiveService, cable: FaultProxy
) -> None:
    """After the network was away, the dock connects again and goes on."""
    async with dock.online():
        await dock.seal([[b"before"]])
        await dock.until_receipted(1)
        await cable.cut()
        await dock.seal([[b"meanwhile"]])
        await service.until(lambda heard: not heard.statuses[-1].online)
        await cable.plug_in()
        await dock.until_receipted(1, 2)

    assert dock.vitals.counters.reconnects >= 1
    assert b"meanwhile" in service.archive.tus.files.values()


async def test_a_broker_that_forgets_everything_costs_nothing(
    dock: Dock, broker: Broker, authority: Authority, tus: TusArchive
) -> None:
    """A broker that is killed with our manifest in its memory gets it again."""
    archive = Archive(ARCHIVE_KEY, DOCK_KEY.public, tus, dock=DOCK)
    async with dock.online():
        await dock.seal([[b"one"]])
        await dock.until_connected()
        broker.kill()
        broker.start()
        async with archive_on(broker, authority, tus, archive):
            await dock.until_receipted(1)


async def test_an_archive_that_forgot_to_answer_is_asked_again(
    dock: Dock, service: ArchiveService
) -> None:
    """Answers that never come are asked for again, until the receipt is there."""
    swallowed: list[bytes] = []

    def swallow(answer: bytes) -> list[bytes]:
        swallowed.append(answer)
        return [] if len(swallowed) < 4 else [answer]

    service.alter = swallow
    async with dock.online():
        await dock.seal([[b"one"]])
        await dock.until_receipted(1)

    assert len(service.heard.manifests) > 1


async def test_answers_may_come_twice(dock: Dock, service: ArchiveService) -> None:
    """Doubled answers have the effect of one: nothing is sent twice, nobody is alerted."""
    service.alter = lambda answer: [answer, answer]
    async with dock.online():
        await dock.seal([[b"one", b"two"]])
        await dock.until_receipted(1)

    assert service.archive.tus.patched_bytes == len(b"onetwo")
    assert not service.heard.alerts


async def test_a_refused_manifest_goes_on_after_registration(
    dock: Dock, service: ArchiveService
) -> None:
    """A refusal is told once; when the archive knows the recorder, the same manifest passes."""
    service.archive.recorders = set()
    async with dock.online():
        await dock.seal([[b"one"]])
        await service.until(lambda heard: bool(heard.alerts))
        await service.until(lambda heard: heard.statuses[-1].refused_manifests == 1)
        service.archive.recorders = None
        await dock.until_receipted(1)

    assert [alert.code for alert in service.heard.alerts] == ["F-ADM-008"]


async def test_a_forged_receipt_moves_nothing(dock: Dock, service: ArchiveService) -> None:
    """A receipt of another key, and a true one for another manifest, are kept and told."""
    await dock.seal([[b"one"]], [[b"two"]])
    first, second = dock.dockings.sealed[1], dock.dockings.sealed[2]
    true = service.archive.sign_receipt(first.manifest, first.payload_sha256)
    receipt = parse_statement(take_apart(true), Statement.RECEIPT, Receipt)
    service.alter = lambda _answer: []
    async with dock.online():
        await service.until(lambda heard: len(heard.manifests) > 1)
        await service.answer(sign_statement(receipt, Statement.RECEIPT, DOCK_KEY))
        wrong = service.archive.sign_receipt(first.manifest, second.payload_sha256)
        await service.answer(service.archive.logged(wrong))
        await service.until(lambda heard: len(heard.alerts) > 1)

    assert {alert.code for alert in service.heard.alerts} == {"F-RCP-001", "F-RCP-002"}
    assert (await dock.store.counts()).pending == 2
    assert await dock.notices.unhandled_count() == 2


async def test_the_registry_arrives(dock: Dock, service: ArchiveService) -> None:
    """The retained registry is obeyed, kept in the journal, and shown in the status."""
    await service.publish_registry(Registry(version=3, issued_at=NOW))
    async with dock.online():
        await service.until(lambda heard: any(one.registry_version == 3 for one in heard.statuses))

    kept = await dock.store.registry()
    assert kept == dock.registry.current
    assert kept is not None


async def test_an_older_registry_is_told_and_ignored(dock: Dock, service: ArchiveService) -> None:
    """A replayed registry raises an alert, and the newer one stays in force."""
    await service.publish_registry(Registry(version=3, issued_at=NOW))
    async with dock.online():
        await service.until(lambda heard: any(one.registry_version == 3 for one in heard.statuses))
        await service.publish_registry(Registry(version=2, issued_at=NOW))
        await service.until(lambda heard: bool(heard.alerts))

    assert service.heard.alerts[0].code == "E-OUT-105"
    assert dock.registry.current is not None
    assert dock.registry.current.version == 3


async def test_strange_topics_are_kept(dock: Dock, service: ArchiveService) -> None:
    """Noise on the receipts topic, of any size, does not stop the answers behind it."""
    await dock.seal([[b"one"]])
    await service.answer(b"\x00" * 100_000)
    async with dock.online():
        await service.answer(b"[" * 100_000)
        await dock.until_receipted(1)
        await service.publish(REGISTRY, b"")
        await service.until(lambda heard: bool(heard.alerts))

    assert await dock.notices.unhandled_count() >= 1


async def test_an_answer_we_fail_at_holds_up_nobody(
    dock: Dock, service: ArchiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that our program fails at is kept and told; those behind it are obeyed."""
    take = dock.store.take_answer
    failed: list[bytes] = []

    async def fail_once(topic: str, untrusted: bytes) -> Effect:
        if not failed:
            failed.append(untrusted)
            raise ValueError("nobody thought of this answer")
        return await take(topic, untrusted)

    monkeypatch.setattr(dock.store, "take_answer", fail_once)
    async with dock.online():
        await dock.seal([[b"one"]])
        await dock.until_receipted(1)
        await service.until(lambda heard: bool(heard.alerts))

    assert service.heard.alerts[0].code == PART_FAILED
    assert await dock.notices.unhandled_count() == 1


async def test_only_states_are_told_at_once(
    service: ArchiveService,
    tmp_path: Path,
    authority: Authority,
    cable: FaultProxy,
    tus: TusArchive,
) -> None:
    """A change of state is told at once, whatever is counted meanwhile waits its turn."""
    never = replace(PACE, telemetry=TelemetryPace(bay_s=3600, metrics_s=3600, alerts_s=3600))
    async with open_dock(tmp_path, authority, cable.port, tus, never) as dock, dock.online():
        face = dock.board.bay(BAY)
        await service.until(lambda heard: len(heard.bays) == 1)
        dock.board.show(msgspec.structs.replace(face, state=BayState.INGESTING))
        await service.until(lambda heard: len(heard.bays) == 2)
        for files_done in range(50):
            dock.board.show(
                msgspec.structs.replace(face, state=BayState.INGESTING, files_done=files_done)
            )
            await asyncio.sleep(0)
        dock.board.show(msgspec.structs.replace(face, state=BayState.SEALED))
        await service.until(lambda heard: heard.bays[-1].state is BayState.SEALED)

    assert len(service.heard.bays) == 3


async def test_counts_are_told_in_the_end(dock: Dock, service: ArchiveService) -> None:
    """The last word about a bay is how it stands, however fast it changed."""
    face = dock.board.bay(BAY)
    async with dock.online():
        for files_done in range(50):
            dock.board.show(msgspec.structs.replace(face, files_done=files_done))
            await asyncio.sleep(0)
        await service.until(lambda heard: bool(heard.bays) and heard.bays[-1].files_done == 49)


async def test_what_waited_is_published_on_connecting(
    service: ArchiveService,
    tmp_path: Path,
    authority: Authority,
    cable: FaultProxy,
    tus: TusArchive,
) -> None:
    """A new connection does not wait for the time to reconcile."""
    never = replace(PACE, reconcile_s=3600)
    async with open_dock(tmp_path, authority, cable.port, tus, never) as dock:
        await dock.seal([[b"one"]])
        async with dock.online():
            await dock.until_receipted(1)

    assert len(service.heard.manifests) == 1


async def test_a_manifest_on_its_way_is_not_said_again(dock: Dock, service: ArchiveService) -> None:
    """While its files are being sent, a manifest is not published over and over."""
    service.archive.tus.faults.gate = asyncio.Event()
    async with dock.online():
        await dock.seal([[b"one"]])
        await service.archive.tus.until_patching(1)
        said, told = len(service.heard.manifests), len(service.heard.metrics)
        await service.until(lambda heard: len(heard.metrics) > told + 5)
        said_later = len(service.heard.manifests)
        service.archive.tus.faults.gate.set()
        await dock.until_receipted(1)

    assert said_later == said


async def test_metrics_are_told(dock: Dock, service: ArchiveService) -> None:
    """Metrics come by themselves, and count what was done."""
    async with dock.online():
        await dock.seal([[b"one"]])
        await dock.until_receipted(1)
        await service.until(
            lambda heard: bool(heard.metrics) and heard.metrics[-1].uploaded_files == 1
        )

    assert service.heard.metrics[-1].receipts >= 1
    assert service.heard.metrics[-1].memory_bytes > 0


async def test_uncommitted_answers_come_again(
    dock: Dock, service: ArchiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent that dies after an answer came and before it was committed gets it again."""
    reached = asyncio.Event()

    async def hang(_topic: str, _untrusted: bytes) -> None:
        reached.set()
        await asyncio.Event().wait()

    await dock.seal([[b"one"]])
    with monkeypatch.context() as patched:
        patched.setattr(dock.store, "take_answer", hang)
        async with dock.online():
            await reached.wait()
    service.alter = lambda _answer: []  # from now on only what the broker kept can arrive
    async with dock.online():
        await service.until(lambda _heard: bool(service.archive.tus.files))

    assert await dock.store.next_unreceipted(after=0) is not None


async def test_an_archive_set_back_gets_everything_again(
    dock: Dock, service: ArchiveService, tus: TusArchive
) -> None:
    """An archive restored from an old copy is brought up to date without anybody's help."""
    async with dock.online():
        await dock.seal([[b"one"]])
        await dock.seal([[b"two"]])
        await dock.until_receipted(1, 2)
        log = service.archive.log
        service.archive = Archive(ARCHIVE_KEY, DOCK_KEY.public, tus, dock=DOCK)
        # What docks saw of it has to go on: the newest copy of it is there.
        service.archive.log = log
        tus.set_back()
        await dock.seal([[b"three"]])
        await dock.until_receipted(3)
        while await dock.store.next_unreceipted(after=0) is not None:  # noqa: ASYNC110 -- the journal tells nobody
            await asyncio.sleep(0.01)

    assert set(tus.files.values()) == {b"one", b"two", b"three"}
    assert service.archive.manifests.keys() == {1, 2, 3}
