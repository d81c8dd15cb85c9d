"""What a dock makes of the archive's custody log, from one receipt to the next."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
import pytest

from edge_agent.adapters.journal import Journal
from edge_agent.adapters.log_memory import CONTRADICTED, DOUBTED, FORGOTTEN
from edge_agent.adapters.notice_store import NoticeStore
from edge_agent.adapters.outbox_store import OutboxStore
from edge_agent.adapters.staging_disk import StagingDisk
from edge_agent.outbox.answers import Receipted, Unhandled, Unproved
from edge_agent.outbox.watching import DOUBT_MS
from protocol.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from protocol.envelope import keyring
from protocol.log_proofs import LoggedReceipt, parse_logged_receipt
from protocol.manifest import LogState
from protocol.notes import NoteKey, NoteKind, read_note
from protocol.strict_json import encode
from protocol.topics import Channel, of_dock
from tests.simulators.archive import Archive
from tests.simulators.custody_entries import ORIGIN
from tests.simulators.sealed_dockings import DockingMaker
from tests.simulators.sealed_manifests import ARCHIVE_KEY, DOCK, DOCK_KEY, NOW
from tests.simulators.tus_archive import TusArchive

TOPIC: Final = of_dock(DOCK, Channel.RECEIPTS)
NOT_LOGGED: Final = "E-OUT-110"


@dataclass(slots=True)
class Watching:
    """A dock with an outbox, and an archive whose log can be tampered with."""

    path: Path
    journal: Journal
    store: OutboxStore
    notices: NoticeStore
    dockings: DockingMaker
    archive: Archive
    now: datetime = NOW

    async def receipt(self, content: bytes) -> bytes:
        """Seal a docking, let the archive have it, and return its receipt, not yet taken."""
        [sealed] = await self.dockings.seal([[content]])
        self.archive.tus.files |= sealed.contents
        *_, last = self.archive.take_manifest(sealed.envelope)
        return last

    async def take(self, receipt: bytes) -> object:
        """Let the dock have it, and return what it decided."""
        return (await self.store.take_answer(TOPIC, receipt)).decision

    async def alerts(self) -> list[str]:
        return [one.code for one in await self.notices.undelivered_alerts()]

    def is_sound(self) -> bool:
        return self.store.log.is_sound

    def start(self) -> None:
        """Be the dock's next run."""
        self.store = OutboxStore(
            self.journal,
            self.notices,
            dock=DOCK,
            archive_keys=keyring(ARCHIVE_KEY.public),
            clock=lambda: self.now,
        )


@pytest.fixture
async def watching(tmp_path: Path) -> AsyncIterator[Watching]:
    async with Journal.open(tmp_path / "journal.sqlite") as journal:
        site = Watching.__new__(Watching)
        site.now = NOW
        StagingDisk(tmp_path / "staging")
        site.path = tmp_path
        site.journal = journal
        site.notices = NoticeStore(journal, dock=DOCK, clock=lambda: site.now)
        site.dockings = DockingMaker(journal, tmp_path / "staging")
        site.archive = Archive(ARCHIVE_KEY, DOCK_KEY.public, TusArchive(), dock=DOCK)
        site.start()
        yield site


async def test_it_remembers_what_it_saw(watching: Watching) -> None:
    """Over receipts and restarts; manifests and cosignatures say it."""
    assert watching.store.log.told() is None
    assert watching.store.log.seen(DOCK_KEY) is None

    for number in range(1, 6):
        assert isinstance(await watching.take(await watching.receipt(b"%d" % number)), Receipted)
        watching.start()
        await watching.store.log.load()

        told, seen = watching.store.log.told(), watching.store.log.seen(DOCK_KEY)
        assert told is not None
        assert seen is not None
        assert (told.origin, told.size, told.state) == (ORIGIN, number, LogState.CONSISTENT)
        note = read_note(seen.note.encode())
        assert open_checkpoint(note.encode(), ARCHIVE_KEY.public).root.hex() == told.root_sha256
        whose = NoteKey(name=DOCK, key=DOCK_KEY.public, kind=NoteKind.COSIGNATURE)
        assert note.cosigned_at_s(whose) == int(NOW.timestamp())
        assert not seen.asks_again
    assert await watching.alerts() == []


def _cut(archive: Archive) -> None:
    del archive.log.entries[:2]


def _rewrite(archive: Archive) -> None:
    archive.log.entries[0] = b"another"


def _forget_what_was_shown(archive: Archive) -> None:
    archive.log.shown = 0


@pytest.mark.parametrize("tamper", [_cut, _rewrite, _forget_what_was_shown])
async def test_what_does_not_go_on_is_not_believed(
    watching: Watching, tamper: Callable[[Archive], None]
) -> None:
    """A log that was cut or rewritten, or is not shown to be neither: no receipt counts.

    At first the archive is asked again; where that does not help, it is an alarm that stays.
    """
    for number in range(3):
        await watching.take(await watching.receipt(b"%d" % number))
    tamper(watching.archive)
    receipt = await watching.receipt(b"after")

    assert isinstance(await watching.take(receipt), Unproved)
    seen = watching.store.log.seen(DOCK_KEY)
    assert seen is not None
    assert seen.asks_again
    assert await watching.alerts() == []
    assert watching.is_sound()

    watching.now += timedelta(milliseconds=DOUBT_MS)
    watching.start()
    assert isinstance(await watching.take(receipt), Unproved)

    told = watching.store.log.told()
    assert told is not None
    assert (told.size, told.state) == (3, LogState.DOUBTED)
    assert await watching.alerts() == [DOUBTED]
    assert not watching.is_sound()
    assert await watching.store.next_unreceipted(after=0) is not None


async def test_an_archive_that_is_asked_again_is_believed(watching: Watching) -> None:
    """It begins its proofs where the dock stands, and all is well."""
    for number in range(3):
        await watching.take(await watching.receipt(b"%d" % number))
    watching.archive.log.shown = 0
    lost = await watching.receipt(b"after")
    await watching.take(lost)
    watching.now += timedelta(milliseconds=2 * DOUBT_MS)
    await watching.take(lost)
    assert not watching.is_sound()

    watching.archive.log.shown = 3
    again = watching.archive.logged(parse_logged_receipt(lost).receipt.encode())

    assert isinstance(await watching.take(again), Receipted)
    assert watching.is_sound()
    seen = watching.store.log.seen(DOCK_KEY)
    assert seen is not None
    assert not seen.asks_again
    assert await watching.alerts() == [DOUBTED]


async def test_two_histories_are_an_alarm_for_good(watching: Watching) -> None:
    """Two checkpoints of one size, both signed: nothing that the archive says counts any more."""
    await watching.take(await watching.receipt(b"one"))
    good = list(watching.archive.log.entries)
    watching.archive.log.entries = []
    watching.archive.log.shown = 0
    forked = await watching.receipt(b"two")

    assert isinstance(await watching.take(forked), Unproved)
    assert await watching.alerts() == [CONTRADICTED]

    watching.start()
    await watching.store.log.load()
    watching.archive.log.entries = good
    watching.archive.log.shown = 1
    assert isinstance(await watching.take(await watching.receipt(b"three")), Unproved)
    told = watching.store.log.told()
    assert told is not None
    assert told.state is LogState.CONTRADICTED
    assert await watching.alerts() == [CONTRADICTED], "once"
    assert not watching.is_sound()

    memory = await watching.store.log.begin_anew()
    assert memory is not None
    assert memory.contradiction is not None
    assert open_checkpoint(memory.contradiction, ARCHIVE_KEY.public).size == 1
    assert watching.is_sound()
    assert isinstance(await watching.take(await watching.receipt(b"four")), Receipted)
    assert sorted(await watching.alerts()) == [CONTRADICTED, FORGOTTEN]
    [(kept,)] = await watching.journal.connection.execute_fetchall(
        "SELECT contradiction FROM forgotten_log"
    )
    assert kept == memory.contradiction


async def test_a_receipt_again_changes_nothing(watching: Watching) -> None:
    """The same message, and the same receipt proved under a later checkpoint."""
    first = await watching.receipt(b"one")
    await watching.take(first)
    assert isinstance(await watching.take(first), Receipted)
    await watching.take(await watching.receipt(b"two"))
    told = watching.store.log.told()

    again = watching.archive.logged(parse_logged_receipt(first).receipt.encode())
    assert isinstance(await watching.take(again), Receipted)
    assert watching.store.log.told() == told
    # The first message once more: it is older than what was seen since, and no harm comes of it.
    assert isinstance(await watching.take(first), Unproved)
    assert watching.store.log.told() == told
    assert await watching.alerts() == []


LIES: Final[dict[str, Callable[[LoggedReceipt], LoggedReceipt]]] = {
    "another index": lambda one: _with(one, inclusion=one.inclusion.replace("index 1", "index 0")),
    "a changed hash": lambda one: _with(one, inclusion=_flip_hash(one.inclusion)),
    "a changed checkpoint": lambda one: _with(
        one, inclusion=one.inclusion.replace(f"{ORIGIN}\n2\n", f"{ORIGIN}\n3\n")
    ),
    "a checkpoint of nobody": lambda one: _with(
        one, inclusion=one.inclusion.partition("\n\n")[0] + "\n\n" + _strangers_note()
    ),
    "no proof": lambda one: _with(one, inclusion="no proof"),
    "nothing": lambda one: _with(one, inclusion=""),
    "too many hashes": lambda one: _with(one, inclusion=_longer(one.inclusion)),
    "another entry": lambda one: _with(
        one, inclusion=one.inclusion.replace("extra eyJ", "extra eyI")
    ),
}


def _with(one: LoggedReceipt, *, inclusion: str) -> LoggedReceipt:
    assert inclusion != one.inclusion
    return msgspec.structs.replace(one, inclusion=inclusion)


def _flip_hash(text: str) -> str:
    lines = text.split("\n")
    lines[3] = ("A" if lines[3][0] != "A" else "B") + lines[3][1:]
    return "\n".join(lines)


def _longer(text: str) -> str:
    lines = text.split("\n")
    return "\n".join([*lines[:4], *[lines[3]] * 64, *lines[4:]])


def _strangers_note() -> str:
    checkpoint = Checkpoint(origin=ORIGIN, size=2, root=bytes(32))
    return sign_checkpoint(checkpoint, DOCK_KEY).decode()


@pytest.mark.parametrize("lie", LIES)
async def test_a_false_proof_is_kept_and_shown(watching: Watching, lie: str) -> None:
    """Nothing follows from the receipt that came with it, and the true one still counts."""
    await watching.take(await watching.receipt(b"one"))
    true = await watching.receipt(b"two")

    decision = await watching.take(encode(LIES[lie](parse_logged_receipt(true))))

    assert isinstance(decision, Unhandled)
    assert decision.code == NOT_LOGGED
    assert await watching.alerts() == [NOT_LOGGED]
    assert await watching.notices.unhandled_count() == 1
    told = watching.store.log.told()
    assert told is not None
    assert told.size == 1
    assert isinstance(await watching.take(true), Receipted)


async def test_a_receipt_with_the_proof_of_another(watching: Watching) -> None:
    """An entry that is in the log, and is not this receipt's."""
    first = parse_logged_receipt(await watching.receipt(b"one"))
    second = parse_logged_receipt(await watching.receipt(b"two"))
    mixed = msgspec.structs.replace(second, receipt=first.receipt)

    decision = await watching.take(encode(mixed))

    assert isinstance(decision, Unhandled)
    assert decision.code == NOT_LOGGED


async def test_a_receipt_without_a_proof(watching: Watching) -> None:
    """As an older archive sends it, or one that keeps a second book."""
    logged = parse_logged_receipt(await watching.receipt(b"one"))

    decision = await watching.take(logged.receipt.encode())

    assert isinstance(decision, Unhandled)
    assert decision.code == NOT_LOGGED
    assert await watching.store.next_unreceipted(after=0) is not None


async def test_what_stops_before_it_is_committed_is_not_remembered(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory and receipt are one transaction."""
    receipt = await watching.receipt(b"one")

    async def fail(*_: object) -> None:
        raise RuntimeError("stopped here")

    with monkeypatch.context() as patched:
        patched.setattr(watching.store, "_note_archived", fail)
        with pytest.raises(RuntimeError, match="stopped"):
            await watching.take(receipt)

    assert watching.store.log.told() is None
    await watching.store.log.load()
    assert watching.store.log.told() is None
    assert isinstance(await watching.take(receipt), Receipted)
