from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
import pytest

from edge_agent.adapters.journal import Journal
from edge_agent.adapters.notice_store import Notice, NoticeStore
from edge_agent.adapters.outbox_store import BYTES_GONE, RECEIPT_FORGOTTEN, OutboxStore
from edge_agent.adapters.staging_disk import StagingDisk
from edge_agent.outbox.answers import Admitted, Receipted, Refused, Unhandled, Waiting
from edge_agent.outbox.machine import ManifestState
from protocol.envelope import keyring, sign_statement
from protocol.registry import Registry
from protocol.topics import REGISTRY, Channel, of_dock
from protocol.versions import Statement
from tests.simulators.archive import Archive
from tests.simulators.sealed_dockings import DockingMaker
from tests.simulators.sealed_manifests import (
    ARCHIVE_KEY,
    DOCK,
    DOCK_KEY,
    NOW,
    SealedManifest,
    docking_id,
)
from tests.simulators.tus_archive import TusArchive

TOPIC: Final = of_dock(DOCK, Channel.RECEIPTS)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@dataclass(slots=True)
class Site:
    journal: Journal
    store: OutboxStore
    notices: NoticeStore
    dockings: DockingMaker
    archive: Archive
    clock: Clock

    async def say(self, sealed: SealedManifest) -> None:
        """Let the archive see a manifest, and the dock its answers."""
        for answer in self.archive.take_manifest(sealed.envelope):
            await self.store.take_answer(TOPIC, answer)

    def receive(self, sealed: SealedManifest) -> None:
        """Let the archive have a manifest's files."""
        self.archive.tus.files |= sealed.contents

    async def states(self) -> list[str]:
        async with self.journal.transaction() as connection:
            rows = await connection.execute_fetchall("SELECT state FROM manifest ORDER BY sequence")
        return [state for (state,) in rows]

    async def file_states(self) -> list[str]:
        async with self.journal.transaction() as connection:
            rows = await connection.execute_fetchall("SELECT state FROM file ORDER BY file_id")
        return [state for (state,) in rows]

    async def alert_codes(self) -> list[str]:
        return [alert.code for alert in await self.notices.undelivered_alerts()]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    StagingDisk(tmp_path / "staging")
    clock = Clock()
    async with Journal.open(tmp_path / "journal.sqlite") as journal:
        notices = NoticeStore(journal, dock=DOCK, clock=clock)
        yield Site(
            journal=journal,
            store=OutboxStore(
                journal,
                notices,
                dock=DOCK,
                archive_keys=keyring(ARCHIVE_KEY.public),
                clock=clock,
            ),
            notices=notices,
            dockings=DockingMaker(journal, tmp_path / "staging"),
            archive=Archive(ARCHIVE_KEY, DOCK_KEY.public, TusArchive(), dock=DOCK),
            clock=clock,
        )


async def test_sealed_manifests_wait_in_order(site: Site) -> None:
    """What was sealed is found one by one, by number, with its exact bytes."""
    first, second = await site.dockings.seal([[b"a"]], [[b"b"]])

    one = await site.store.next_unreceipted(after=0)
    assert one is not None
    two = await site.store.next_unreceipted(after=one.sequence)
    assert two is not None

    assert (one.envelope, two.envelope) == (first.envelope, second.envelope)
    assert one.state is ManifestState.PENDING
    assert await site.store.next_unreceipted(after=two.sequence) is None


async def test_an_admission_tells_what_to_upload(site: Site) -> None:
    """Each missing file is found in staging, in the order of the admission."""
    [sealed] = await site.dockings.seal([[b"one", b"two"], [b"three"]])
    [answer] = site.archive.take_manifest(sealed.envelope)

    effect = await site.store.take_answer(TOPIC, answer)

    assert isinstance(effect.decision, Admitted)
    assert [upload.sha256 for upload in effect.uploads] == list(sealed.contents)
    assert {upload.docking_id for upload in effect.uploads} == {docking_id(1)}
    assert await site.states() == ["admitted"]


async def test_a_receipt_ends_manifest_files_and_docking_at_once(site: Site) -> None:
    """A verified receipt changes all three rows in one transaction, and names the docking."""
    [sealed] = await site.dockings.seal([[b"one", b"two"]])
    await site.say(sealed)
    site.receive(sealed)
    [receipt] = site.archive.settle()

    effect = await site.store.take_answer(TOPIC, receipt)

    assert isinstance(effect.decision, Receipted)
    assert effect.docking is not None
    assert (effect.docking.docking_id, effect.docking.bay) == (docking_id(1), 1)
    assert await site.states() == ["receipted"]
    assert await site.file_states() == ["archived", "archived"]
    assert await site.store.are_receipted([sealed.manifest.manifest_id])


async def test_the_same_receipt_again_changes_nothing(site: Site) -> None:
    """A receipt may come any number of times; only the first one is an event."""
    [sealed] = await site.dockings.seal([[b"one"]])
    site.receive(sealed)
    await site.say(sealed)
    [receipt] = site.archive.take_manifest(sealed.envelope)

    effect = await site.store.take_answer(TOPIC, receipt)

    assert isinstance(effect.decision, Receipted)
    assert effect.docking is None
    assert not await site.alert_codes()


async def test_a_docking_needs_all_its_receipts(site: Site) -> None:
    """A docking in two parts is done with the second receipt, whichever that is."""
    first, second = await site.dockings.seal([[b"a"]], [[b"b"]])
    await site.say(first)
    await site.say(second)
    site.receive(second)
    [receipt] = site.archive.settle()
    early = await site.store.take_answer(TOPIC, receipt)
    site.receive(first)
    [receipt] = site.archive.settle()
    late = await site.store.take_answer(TOPIC, receipt)

    assert early.docking is None
    assert late.docking is not None


async def test_a_manifest_may_wait(site: Site) -> None:
    """A manifest that waits at the archive for an earlier one stays pending."""
    _, second = await site.dockings.seal([[b"a"]], [[b"b"]])
    [answer] = site.archive.take_manifest(second.envelope)

    effect = await site.store.take_answer(TOPIC, answer)

    assert isinstance(effect.decision, Waiting)
    assert await site.states() == ["pending", "pending"]


async def test_a_refusal_is_kept_and_raises_one_alert(site: Site) -> None:
    """However often the archive refuses for one reason, a person hears of it once."""
    [sealed] = await site.dockings.seal([[b"one"]])
    site.archive.recorders = set()
    for _ in range(3):
        await site.say(sealed)

    assert await site.states() == ["refused"]
    assert await site.alert_codes() == ["F-ADM-008"]
    assert (await site.store.counts()).refused == 1
    assert await site.store.next_unreceipted(after=0) is not None


async def test_a_refused_manifest_is_admitted_later(site: Site) -> None:
    """Once the recorder is registered, the same manifest goes on."""
    [sealed] = await site.dockings.seal([[b"one"]])
    site.archive.recorders = set()
    await site.say(sealed)
    site.archive.recorders = None
    [answer] = site.archive.take_manifest(sealed.envelope)

    effect = await site.store.take_answer(TOPIC, answer)

    assert effect.uploads
    assert await site.states() == ["admitted"]


async def test_a_refusal_without_a_name_is_found_by_its_bytes(site: Site) -> None:
    """A refusal that could not read our message still says which one it was."""
    await site.dockings.seal([[b"one"]])
    [second] = await site.dockings.seal([[b"two"]])
    stranger = Archive(ARCHIVE_KEY, ARCHIVE_KEY.public, TusArchive(), dock=DOCK)
    [refusal] = stranger.take_manifest(second.envelope)

    effect = await site.store.take_answer(TOPIC, refusal)

    assert isinstance(effect.decision, Refused)
    assert await site.states() == ["pending", "refused"]


async def test_a_false_receipt_frees_nothing(site: Site) -> None:
    """A receipt that does not fit is kept, raises an alert and changes no state."""
    first, second = await site.dockings.seal([[b"a"]], [[b"b"]])
    wrong = site.archive.logged(site.archive.sign_receipt(first.manifest, second.payload_sha256))

    effect = await site.store.take_answer(TOPIC, wrong)

    assert isinstance(effect.decision, Unhandled)
    assert await site.states() == ["pending", "pending"]
    assert await site.file_states() == ["claimed", "claimed"]
    assert await site.alert_codes() == ["F-RCP-002"]
    assert await site.notices.unhandled_count() == 1


async def test_strange_messages_are_kept_but_do_not_flood(site: Site) -> None:
    """Each different message is kept once; one code raises one alert an hour."""
    for number in range(5):
        await site.store.take_answer(TOPIC, b"noise %d" % (number // 2))
    quiet = await site.alert_codes()
    site.clock.now += timedelta(hours=2)
    await site.store.take_answer(TOPIC, b"noise again")

    assert await site.notices.unhandled_count() == 4
    assert quiet == ["E-PRO-107"]
    assert await site.alert_codes() == ["E-PRO-107", "E-PRO-107"]


async def test_bytes_that_are_gone_are_reported(site: Site) -> None:
    """Where the archive asks for a file that was freed, a person is told, once."""
    [sealed] = await site.dockings.seal([[b"one", b"other"]])
    async with site.journal.transaction() as connection:
        await connection.execute("UPDATE file SET state = 'freed' WHERE size_bytes = 3")
    for _ in range(2):
        await site.say(sealed)

    assert await site.alert_codes() == [BYTES_GONE]


async def test_archived_copies_may_go(site: Site) -> None:
    """A copy can be freed after its receipt, and not before."""
    [sealed] = await site.dockings.seal([[b"one"]])
    before = await site.store.freeable_files(limit=10)
    site.receive(sealed)
    await site.say(sealed)
    [file_id] = await site.store.freeable_files(limit=10)
    await site.store.mark_freed(file_id)

    assert not before
    assert not await site.store.freeable_files(limit=10)
    assert await site.file_states() == ["freed"]


async def test_a_copy_that_another_file_leans_on_stays(site: Site) -> None:
    """While another name of the same content waits for its own receipt, the bytes stay."""
    [sealed] = await site.dockings.seal([[b"one"]])
    await site.dockings.seal([[b"two"]])
    async with site.journal.transaction() as connection:
        await connection.execute(
            "UPDATE file SET same_as = (SELECT file_id FROM file ORDER BY file_id LIMIT 1)"
            " WHERE state = 'claimed' AND file_id = (SELECT max(file_id) FROM file)"
        )
    site.receive(sealed)
    await site.say(sealed)

    assert await site.file_states() == ["archived", "claimed"]
    assert not await site.store.freeable_files(limit=10)


async def test_held_files_are_counted(site: Site) -> None:
    """Files that no manifest claims, of a docking that ended, are held."""
    await site.dockings.seal([[b"one", b"two"]])
    async with site.journal.transaction() as connection:
        await connection.execute("UPDATE file SET state = 'staged' WHERE size_bytes = 3")

    counts = await site.store.counts()

    assert (counts.pending, counts.refused, counts.held_files) == (1, 0, 2)


async def test_only_a_newer_registry_is_kept(site: Site) -> None:
    """The journal holds the newest registry; an older one is kept as unhandled, with an alert."""
    none = await site.store.registry()
    seven = site.archive.sign_registry(Registry(version=7, issued_at=NOW))
    six = site.archive.sign_registry(Registry(version=6, issued_at=NOW))

    taken = [await site.store.take_registry(REGISTRY, one) for one in (seven, seven, six)]
    kept = await site.store.registry()

    assert none is None
    assert [one is not None for one in taken] == [True, False, False]
    assert kept is not None
    assert kept.version == 7
    assert await site.alert_codes() == ["E-OUT-105"]


async def test_a_registry_of_any_version_stops_nothing(site: Site) -> None:
    """A version that no database keeps is a message that cannot be read; the highest one can."""
    taken = [
        await site.store.take_registry(
            REGISTRY, site.archive.sign_registry(Registry(version=version, issued_at=NOW))
        )
        for version in (1 << 63, 1 << 70, (1 << 63) - 1)
    ]

    assert [one is not None for one in taken] == [False, False, True]
    assert await site.alert_codes() == ["E-PRO-104"]


async def test_a_docks_own_key_signs_no_registry(site: Site) -> None:
    """A registry of any other key than the archive's is not obeyed."""
    forged = sign_statement(Registry(version=9, issued_at=NOW), Statement.REGISTRY, DOCK_KEY)

    assert await site.store.take_registry(REGISTRY, forged) is None
    assert await site.store.registry() is None


async def test_alerts_stay_until_delivered(site: Site) -> None:
    """An alert is offered until it was taken, always with the same id, oldest first."""
    for code in ("E-AAA-001", "E-AAA-002"):
        site.clock.now += timedelta(seconds=1)
        await site.notices.raise_alert(Notice(code=code, text="x" * 999, facts={"a": "y" * 999}))
    first, second = await site.notices.undelivered_alerts()
    await site.notices.mark_delivered(first.alert_id)

    assert [first.code, second.code] == ["E-AAA-001", "E-AAA-002"]
    assert await site.notices.undelivered_alerts() == (second,)
    assert msgspec.json.encode(second.raised_at) == b'"2026-03-05T08:00:02Z"'


async def test_nothing_is_lost_by_a_restart(site: Site, tmp_path: Path) -> None:
    """Another process finds the outbox as it was committed."""
    [sealed] = await site.dockings.seal([[b"one"]])
    await site.say(sealed)
    async with Journal.open(tmp_path / "journal.sqlite") as journal:
        notices = NoticeStore(journal, dock=DOCK, clock=lambda: datetime.now(UTC))
        store = OutboxStore(
            journal,
            notices,
            dock=DOCK,
            archive_keys=keyring(ARCHIVE_KEY.public),
            clock=site.clock,
        )
        known = await store.next_unreceipted(after=0)

    assert known is not None
    assert (known.state, known.envelope) == (ManifestState.ADMITTED, sealed.envelope)


def restored() -> Archive:
    """Return an archive that was set back to before anything of this dock arrived."""
    return Archive(ARCHIVE_KEY, DOCK_KEY.public, TusArchive(), dock=DOCK)


async def receipted(site: Site, *contents: bytes) -> list[SealedManifest]:
    """Seal one docking after the other, each with its receipt."""
    made: list[SealedManifest] = []
    for content in contents:
        made += await site.dockings.seal([[content]])
        site.receive(made[-1])
        await site.say(made[-1])
    return made


async def test_a_forgetful_archive_is_found_out(site: Site) -> None:
    """An archive that waits for what it receipted gets it again from there; a person hears once."""
    await receipted(site, b"one", b"two")
    [three] = await site.dockings.seal([[b"three"]])
    site.archive = restored()
    effects = [
        await site.store.take_answer(TOPIC, answer)
        for _ in range(2)
        for answer in site.archive.take_manifest(three.envelope)
    ]

    assert [effect.publish_from for effect in effects] == [1, 1]
    assert await site.alert_codes() == [RECEIPT_FORGOTTEN]
    again: list[int] = []
    while known := await site.store.next_unreceipted(after=max(again, default=0), all_from=1):
        again.append(known.sequence)
    assert again == [1, 2, 3]


async def test_what_waits_for_the_unreceipted_is_no_incident(site: Site) -> None:
    """A manifest that overtook another one waits for it as usual."""
    await site.dockings.seal([[b"one"]])
    [two] = await site.dockings.seal([[b"two"]])
    await site.say(two)

    assert not await site.alert_codes()


async def test_what_the_archive_lost_is_sent_again(site: Site) -> None:
    """A receipted file that is asked for again is kept and sent, until its next receipt."""
    [one] = await receipted(site, b"one")
    site.archive = restored()
    [answer] = site.archive.take_manifest(one.envelope)
    effect = await site.store.take_answer(TOPIC, answer)
    kept = await site.store.freeable_files(limit=10)
    asked_again = await site.store.next_unreceipted(after=0)
    site.receive(one)
    for answer in site.archive.settle():
        await site.store.take_answer(TOPIC, answer)

    assert [upload.sha256 for upload in effect.uploads] == list(one.contents)
    assert not kept
    assert asked_again is not None
    assert await site.store.next_unreceipted(after=0) is None
    assert len(await site.store.freeable_files(limit=10)) == 1


async def test_what_was_freed_and_lost_is_told(site: Site) -> None:
    """When the archive lost what the dock has freed, nobody pretends that it can be sent."""
    [one] = await receipted(site, b"one")
    for file_id in await site.store.freeable_files(limit=10):
        await site.store.mark_freed(file_id)
    site.archive = restored()
    await site.say(one)

    assert await site.alert_codes() == [BYTES_GONE]
    assert await site.store.next_unreceipted(after=0) is None


async def test_a_clock_that_was_set_back_silences_nobody(site: Site) -> None:
    """A message that was received "tomorrow", by a wrong clock, hides no alert of today."""
    site.clock.now += timedelta(days=3650)
    await site.store.take_answer(TOPIC, b"not an envelope")
    site.clock.now = NOW
    await site.store.take_answer(TOPIC, b"no envelope either")

    assert await site.alert_codes() == ["E-PRO-107", "E-PRO-107"]
