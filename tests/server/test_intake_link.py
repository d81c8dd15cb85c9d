"""The whole archive in this process, with Debian's mosquitto, and docks that really sign."""

import asyncio
import contextlib
import hashlib
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from protocol import strict_json
from protocol.findings import FindingCode
from protocol.identifiers import AlertId, BayNumber
from protocol.messages import Alert
from protocol.receipt import Admission, AdmissionState, Refusal
from protocol.topics import Channel
from server_agent import archiving
from server_agent.adapters.bag_verifier import verify_path
from server_agent.app import Server, serve
from tests.simulators.archive_site import DOCK, OTHER_DOCK, ArchiveSite, lay_out_site
from tests.simulators.broker import Broker
from tests.simulators.claims import DOCKED_AT, RECORDER, Claim, Claimant
from tests.simulators.dock import TIMEOUT_S, Dock, connect_dock

pytestmark = pytest.mark.processes

BIG = os.urandom(1_500_000)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[tuple[ArchiveSite, Broker]]:
    site = lay_out_site(tmp_path)
    with site.broker() as running:
        yield site, running


@pytest.fixture
def site(broker: tuple[ArchiveSite, Broker]) -> ArchiveSite:
    return broker[0]


@pytest.fixture
def claimant(site: ArchiveSite) -> Claimant:
    return Claimant(DOCK, site.key(DOCK))


@contextlib.asynccontextmanager
async def running(site: ArchiveSite) -> AsyncIterator[tuple[Server, Dock]]:
    """An archive, and a dock that is connected to it.

    The registry goes out when the archive has subscribed: what is published before that, and before
    it has a session, nobody hears, and not every test asks again.
    """
    async with (
        serve(site.configure()) as server,
        connect_dock(site, DOCK, server.https_port) as dock,
    ):
        await dock.until(lambda heard: bool(heard.registries))
        yield server, dock


def rows(site: ArchiveSite, query: str) -> list[Any]:
    """What the catalogue says, by another program's eyes."""
    with closing(sqlite3.connect(f"file:{site.root}/catalogue.sqlite?mode=ro", uri=True)) as one:
        return one.execute(query).fetchall()


def bags(site: ArchiveSite) -> list[str]:
    """Every bag, once its verification found nothing."""
    reports = list(verify_path(site.archive, ca_pem=site.authority.ca.read_bytes()))
    assert not [report for report in reports if not report.ok]
    return [report.path for report in reports]


def archived_digests(site: ArchiveSite) -> list[str]:
    found = site.archive.rglob("data/*")
    return sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in found)


def promised_digests(*claims: Claim) -> list[str]:
    return sorted(digest for claim in claims for digest in claim.contents)


async def until(site: ArchiveSite, query: str, *, count: int = 1) -> list[Any]:
    """Return what a query finds as soon as it finds enough."""
    async with asyncio.timeout(TIMEOUT_S):
        while len(found := rows(site, query)) < count:  # noqa: ASYNC110 -- another program's eyes get no event
            await asyncio.sleep(0.02)
        return found


async def test_a_docking_is_archived(site: ArchiveSite, claimant: Claimant) -> None:
    """From manifest to receipt: every recording is a bag that verifies, nothing is left over."""
    claim = claimant.claim(recordings=[[BIG, b"second"], [b"third"]], others=[b"log", b""])
    async with running(site) as (_, dock):
        receipt = await dock.deliver(claim)

    assert [bag.existing for bag in receipt.bags] == [False] * 3
    assert len(bags(site)) == 3
    assert archived_digests(site) == promised_digests(claim)
    assert list((site.archive / ".incoming").rglob("*")) == []
    assert rows(site, "SELECT DISTINCT state FROM files") == [("archived",)]


async def test_a_manifest_without_files_has_its_receipt_at_once(
    site: ArchiveSite, claimant: Claimant
) -> None:
    """Nothing promised is nothing missing."""
    async with running(site) as (_, dock):
        receipt = await dock.deliver(claimant.claim(recordings=[]))

    assert receipt.bags == ()


async def test_what_is_archived_is_not_asked_for_again(
    site: ArchiveSite, claimant: Claimant
) -> None:
    """The same recording of the same recorder points to the bag that stands."""
    first = claimant.claim(recordings=[[BIG, b"second"]])
    again = claimant.claim(recordings=[[BIG, b"second"]])
    async with running(site) as (_, dock):
        old = await dock.deliver(first)
        new = await dock.deliver(again)

    assert new.bags[0].path == old.bags[0].path
    assert new.bags[0].existing
    assert new.bags[0].recording_id == again.manifest.recordings[0].recording_id
    assert len(bags(site)) == 1
    names = rows(site, "SELECT sha256, safe_name FROM files")
    assert len(names) == 4
    assert len(set(names)) == 2


async def test_another_recorders_content_is_asked_for(
    site: ArchiveSite, claimant: Claimant
) -> None:
    """Equal bytes on two recorders are two pieces of evidence."""
    other = replace(RECORDER, recorder_id="R-0002", serial="0000002")
    site.recorders.append(other)
    site.write_registry()
    async with running(site) as (_, dock):
        await dock.deliver(claimant.claim(recordings=[[b"same"]]))
        receipt = await dock.deliver(claimant.claim(recordings=[[b"same"]], recorder=other))

    assert not receipt.bags[0].existing
    assert len(bags(site)) == 2


async def test_out_of_order(site: ArchiveSite, claimant: Claimant) -> None:
    """Later manifests wait, and are admitted by themselves when those before them have come."""
    claims = [claimant.claim(recordings=[[f"clip {number}".encode()]]) for number in range(4)]
    async with running(site) as (_, dock):
        for claim in claims[:0:-1]:
            await dock.publish(claim)
            waiting = await dock.answer_to(claim)
            assert isinstance(waiting, Admission)
            assert waiting.state is AdmissionState.WAITING
            assert waiting.expected_sequence == 1
        await dock.publish(claims[0])
        for claim in claims[1:]:
            admitted = await dock.answer_to(claim, after=1)
            assert isinstance(admitted, Admission)
            assert admitted.state is AdmissionState.ADMITTED
        for claim in claims:
            await dock.deliver(claim)

    assert archived_digests(site) == promised_digests(*claims)


async def test_a_duplicate_is_answered_and_changes_nothing(
    site: ArchiveSite, claimant: Claimant
) -> None:
    """The same manifest again is the same receipt, the same bag, the same row."""
    claim = claimant.claim(recordings=[[b"clip"]])
    async with running(site) as (_, dock):
        first = await dock.deliver(claim)
        for _ in range(3):
            await dock.publish(claim)
        await dock.until(lambda heard: len(heard.receipts(claim)) >= 4)

    assert set(map(strict_json.encode, dock.heard.receipts(claim))) == {strict_json.encode(first)}
    assert len(bags(site)) == 1
    assert len(rows(site, "SELECT 1 FROM manifests")) == 1


async def test_a_fork_is_refused_and_raises_one_alert(
    site: ArchiveSite, claimant: Claimant
) -> None:
    """A second history is kept, counted, shown once, and changes nothing of the first."""
    claim = claimant.claim(recordings=[[b"true"]])
    forked = Claimant(DOCK, site.key(DOCK), label="fork").claim(recordings=[[b"false"]])
    async with running(site) as (_, dock):
        await dock.deliver(claim)
        await dock.publish(forked)
        await dock.answer_to(forked)
        await dock.publish(forked)
        refusal = await dock.answer_to(forked, after=1)
        await dock.deliver(claimant.claim(recordings=[[b"next"]]))

    assert isinstance(refusal, Refusal)
    assert refusal.code is FindingCode.CHAIN_FORKED
    assert refusal.message_sha256 == hashlib.sha256(forked.envelope).hexdigest()
    [(body, times)] = rows(site, "SELECT body, times FROM refused_messages")
    assert (body, times) == (forked.envelope, 2)
    assert rows(site, "SELECT code, dock FROM alerts") == [("F-ADM-007", None)]


async def test_a_fork_that_waited_makes_room(site: ArchiveSite, claimant: Claimant) -> None:
    """What waited and does not follow is refused when that shows; the true one takes its place."""
    other_history = Claimant(DOCK, site.key(DOCK), label="fork")
    other_history.claim()
    forked = other_history.claim(recordings=[[b"false"]])
    first, second = claimant.claim(), claimant.claim(recordings=[[b"true"]])
    async with running(site) as (_, dock):
        await dock.publish(forked)
        await dock.answer_to(forked)
        await dock.deliver(first)
        refusal = await dock.answer_to(forked, after=1)
        await dock.deliver(second)

    assert isinstance(refusal, Refusal)
    assert refusal.code is FindingCode.CHAIN_FORKED
    assert [row[0] for row in rows(site, "SELECT body FROM refused_messages")] == [forked.envelope]


async def test_an_unknown_recorder_is_admitted_once_it_is_registered(
    site: ArchiveSite, claimant: Claimant
) -> None:
    """Refused in its place; its successors go on; seen again after registration it is admitted."""
    stranger = replace(RECORDER, recorder_id="R-0777", serial="0000777")
    unknown = claimant.claim(recordings=[[b"unknown"]], recorder=stranger)
    async with running(site) as (server, dock):
        await dock.publish(unknown)
        refusal = await dock.answer_to(unknown)
        await dock.deliver(claimant.claim(recordings=[[b"known"]]))
        site.recorders.append(stranger)
        site.write_registry()
        await server.reload_registry()
        await dock.until(lambda heard: len(heard.registries) == 2)
        dock.heard.answers.clear()
        await dock.deliver(unknown)

    assert isinstance(refusal, Refusal)
    assert refusal.code is FindingCode.UNKNOWN_RECORDER
    assert refusal.manifest_id == unknown.manifest.manifest_id
    assert [one.version for one in dock.heard.registries] == [1, 2]
    assert len(bags(site)) == 2


@pytest.mark.parametrize("hostile", [b"", b"\xff\x00", b"{}", b"[" * 100_000, os.urandom(5_000)])
async def test_hostile_bytes_are_kept_and_refused(
    site: ArchiveSite, claimant: Claimant, hostile: bytes
) -> None:
    """Whatever a dock publishes is kept byte for byte, refused by its digest, and nothing stops."""
    async with running(site) as (_, dock):
        await dock.publish_bytes(hostile)
        await dock.until(lambda heard: bool(heard.answers[None]))
        await dock.deliver(claimant.claim())

    [refusal] = dock.heard.answers[None]
    assert isinstance(refusal, Refusal)
    assert refusal.code is FindingCode.ENVELOPE_MALFORMED
    assert refusal.message_sha256 == hashlib.sha256(hostile).hexdigest()
    assert rows(site, "SELECT body FROM refused_messages") == [(hostile,)]


async def test_another_docks_manifest_is_refused(site: ArchiveSite, claimant: Claimant) -> None:
    """A dock cannot deliver what another dock signed, and that dock's chain is untouched."""
    claim = claimant.claim()
    async with (
        running(site) as (server, dock),
        connect_dock(site, OTHER_DOCK, server.https_port) as other,
    ):
        await other.publish(claim)
        await other.until(lambda heard: bool(heard.answers[None]))
        await dock.deliver(claim)

    [refusal] = other.heard.answers[None]
    assert isinstance(refusal, Refusal)
    assert refusal.code is FindingCode.SIGNATURE_WRONG


async def test_alerts_are_kept_once(site: ArchiveSite, claimant: Claimant) -> None:
    """An alert that comes twice is one alert; bytes that are no alert are kept as they are."""
    alert = Alert(
        alert_id=AlertId(claimant.mint()),
        dock=DOCK,
        code="E-ING-201",
        text="The recorder left.",
        raised_at=DOCKED_AT,
        bay=BayNumber(3),
        facts={"files": "7"},
    )
    stranger = replace(alert, dock=OTHER_DOCK)
    async with running(site) as (_, dock):
        for payload in (alert, alert, stranger):
            await dock.publish_bytes(strict_json.encode(payload), channel=Channel.ALERTS)
        await dock.publish_bytes(b"no alert", channel=Channel.ALERTS)
        await until(site, "SELECT 1 FROM refused_messages", count=2)

    [kept] = rows(site, "SELECT alert_id, dock, bay, code, facts FROM alerts")
    assert kept == (alert.alert_id, DOCK, 3, "E-ING-201", '{"files": "7"}')
    codes = rows(site, "SELECT code FROM refused_messages ORDER BY code")
    assert codes == [("F-ADM-005",), ("F-ADM-006",)]


async def test_the_registry_is_there_for_whoever_comes_later(
    site: ArchiveSite, claimant: Claimant
) -> None:
    """The registry is retained; it changes its version only when it says something new."""
    async with running(site) as (server, dock):
        await dock.until(lambda heard: len(heard.registries) == 1)
        await server.reload_registry()
        version = server.registry_version
    async with running(site) as (server, dock):
        await dock.deliver(claimant.claim())
        await dock.until(lambda heard: len(heard.registries) >= 1)

    assert version == server.registry_version == 1
    [registry] = {strict_json.encode(one) for one in dock.heard.registries}
    assert b"R-0001" in registry


async def test_a_registry_that_cannot_be_used_changes_nothing(
    site: ArchiveSite, claimant: Claimant
) -> None:
    """A spoiled registry.toml raises an alert; the last good registry stays in force."""
    async with running(site) as (server, dock):
        (site.root / "registry.toml").write_text("[[docks]]\nnme = 'x'\n")
        await server.reload_registry()
        await dock.deliver(claimant.claim())

    assert [row[0] for row in rows(site, "SELECT code FROM alerts")] == ["E-RUN-101"]


async def test_a_broker_that_restarts_loses_nothing(
    broker: tuple[ArchiveSite, Broker], claimant: Claimant
) -> None:
    """After the broker was gone the archive is there again by itself."""
    site, running_broker = broker
    async with serve(site.configure()) as server:
        async with connect_dock(site, DOCK, server.https_port) as dock:
            await dock.deliver(claimant.claim())
        await asyncio.to_thread(running_broker.kill)
        await asyncio.to_thread(running_broker.start)
        async with connect_dock(site, DOCK, server.https_port) as dock:
            await dock.deliver(claimant.claim(recordings=[[b"after"]]))

    assert len(bags(site)) == 2


async def test_a_read_back_that_differs_is_sent_again(
    site: ArchiveSite, claimant: Claimant
) -> None:
    """A file that the disk does not give back as it was sent is asked for again, with an alert."""
    claim = claimant.claim(recordings=[[BIG, b"second"]])
    first, second = (clip.file for clip in claim.manifest.recordings[0].clips)
    async with running(site) as (_, dock):
        await dock.publish(claim)
        await dock.answer_to(claim)
        await dock.upload(claim, first.digests.sha256)
        [path] = (site.archive / ".incoming").rglob("data/*")
        path.write_bytes(bytes([BIG[0] ^ 1]) + BIG[1:])
        await dock.upload(claim, second.digests.sha256)
        again = await dock.answer_to(claim, after=1)
        await dock.deliver(claim)

    assert isinstance(again, Admission)
    assert [one.sha256 for one in again.missing] == [first.digests.sha256]
    assert len(bags(site)) == 1
    assert rows(site, "SELECT code, dock FROM alerts") == [("E-ARC-101", None)]


async def test_an_arrived_file_that_is_gone_is_sent_again(
    site: ArchiveSite, claimant: Claimant
) -> None:
    """At its start the archive looks whether what had arrived is still there."""
    claim = claimant.claim(recordings=[[b"first", b"second"]])
    first = claim.manifest.recordings[0].clips[0].file.digests.sha256
    async with running(site) as (_, dock):
        await dock.publish(claim)
        await dock.answer_to(claim)
        await dock.upload(claim, first)
    [path] = (site.archive / ".incoming").rglob("data/*")
    path.unlink()

    async with running(site) as (_, dock):
        await dock.deliver(claim)

    assert archived_digests(site) == promised_digests(claim)
    assert rows(site, "SELECT code FROM alerts") == [("E-ARC-101",)]


async def test_a_bag_that_stands_uncatalogued_is_catalogued(
    site: ArchiveSite, claimant: Claimant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between the bag's rename and its row: the next start verifies and catalogues it."""

    async def never(*_args: object, **_named: object) -> None:
        await asyncio.Event().wait()

    claim = claimant.claim(recordings=[[BIG]])
    with monkeypatch.context() as crashing:
        crashing.setattr(archiving, "record_bag", never)
        async with running(site) as (_, dock):
            await dock.publish(claim)
            await dock.answer_to(claim)
            await dock.upload(claim, *claim.contents)
            async with asyncio.timeout(TIMEOUT_S):
                while not list(site.archive.glob("2026/*/*/_unfiled/*")):  # noqa: ASYNC110 -- a disk gives no event
                    await asyncio.sleep(0.02)
    assert rows(site, "SELECT 1 FROM bags") == []

    async with running(site) as (_, dock):
        receipt = await dock.deliver(claim)

    assert [bag.path for bag in receipt.bags] == [
        row[0] for row in rows(site, "SELECT path FROM bags")
    ]
    assert len(bags(site)) == 1


async def test_a_restored_catalogue_finds_its_bags(site: ArchiveSite, claimant: Claimant) -> None:
    """With an older catalogue the dock sends again, and the bag that stands is the bag."""
    claim = claimant.claim(recordings=[[b"first", b"second"]])
    first = claim.manifest.recordings[0].clips[0].file.digests.sha256
    async with running(site) as (_, dock):
        await dock.publish(claim)
        await dock.answer_to(claim)
        await dock.upload(claim, first)
    backup = (site.root / "catalogue.sqlite").read_bytes()
    async with running(site) as (_, dock):
        old = await dock.deliver(claim)
    for path in site.root.glob("catalogue.sqlite*"):
        path.unlink()
    (site.root / "catalogue.sqlite").write_bytes(backup)

    async with running(site) as (_, dock):
        new = await dock.deliver(claim)

    assert new.bags == old.bags
    assert len(bags(site)) == 1
    assert [path for path in (site.archive / ".incoming").rglob("*") if path.is_file()] == []


async def test_the_log_of_docks(site: ArchiveSite, claimant: Claimant) -> None:
    """A dock's status, readable or not, is no reason to keep or refuse anything."""
    async with running(site) as (_, dock):
        await dock.publish_bytes(b"nonsense", channel=Channel.STATUS)
        await dock.deliver(claimant.claim())

    assert rows(site, "SELECT 1 FROM refused_messages") == []
