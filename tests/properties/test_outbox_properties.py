"""The outbox under any order of publishing, answering, forging and restarting."""

import asyncio
import shutil
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from edge_agent.adapters.journal import Journal
from edge_agent.adapters.notice_store import NoticeStore
from edge_agent.adapters.outbox_store import OutboxStore
from edge_agent.adapters.staging_disk import StagingDisk
from edge_agent.outbox.answers import (
    KnownManifest,
    Receipted,
    Unhandled,
    decide,
    read_answer,
    split_logged,
)
from edge_agent.outbox.machine import TRANSITIONS, ManifestEvent, ManifestState, advance
from protocol.checkpoint import open_checkpoint
from protocol.envelope import keyring, parse_statement, sign_statement, take_apart
from protocol.identifiers import ManifestId
from protocol.log_proofs import LoggedReceipt, read_inclusion
from protocol.receipt import Admission, Receipt
from protocol.topics import Channel, of_dock
from protocol.versions import Statement
from tests.simulators.archive import Archive
from tests.simulators.sealed_dockings import DockingMaker
from tests.simulators.sealed_manifests import (
    ARCHIVE_KEY,
    DOCK,
    DOCK_KEY,
    NOW,
    SealedManifest,
    seal_manifest,
    signing_key,
)
from tests.simulators.tus_archive import TusArchive

KEYS: Final = keyring(ARCHIVE_KEY.public)
STRANGER: Final = signing_key(77)
TOPIC: Final = of_dock(DOCK, Channel.RECEIPTS)
PAYLOADS: Final = st.lists(
    st.lists(st.binary(min_size=1, max_size=8), min_size=1, max_size=3, unique=True),
    min_size=1,
    max_size=2,
    unique_by=lambda clips: clips[0],
)


@given(events=st.lists(st.sampled_from(ManifestEvent), max_size=20))
def test_no_history_ends_without_a_receipt(events: list[ManifestEvent]) -> None:
    """Whatever was said, in whatever order: a manifest is done if and only if a receipt came."""
    state = ManifestState.PENDING
    receipted = False
    for event in events:
        if (state, event) in TRANSITIONS:
            state = advance(state, event)
            receipted |= event is ManifestEvent.RECEIPT_VERIFIED

    assert (state is ManifestState.RECEIPTED) == receipted


@given(noise=st.binary(max_size=200))
def test_noise_is_never_an_answer(noise: bytes) -> None:
    """Bytes that nobody signed raise nothing and mean nothing."""
    assert isinstance(read_answer(noise, dock=DOCK, archive_keys=KEYS), Unhandled)


@given(data=st.data(), recordings=PAYLOADS)
def test_a_damaged_receipt_frees_nothing(
    data: st.DataObject, recordings: list[list[bytes]]
) -> None:
    """A receipt with any one byte changed is not verified, or says the very same."""
    sealed = seal_manifest(recordings=recordings)
    archive = Archive(ARCHIVE_KEY, DOCK_KEY.public, TusArchive(), dock=DOCK)
    true = archive.sign_receipt(sealed.manifest, sealed.payload_sha256)
    damaged = bytearray(true)
    damaged[data.draw(st.integers(0, len(true) - 1))] ^= data.draw(st.integers(1, 255))

    judged = read_answer(bytes(damaged), dock=DOCK, archive_keys=KEYS)

    same = judged == read_answer(true, dock=DOCK, archive_keys=KEYS)
    assert isinstance(judged, Unhandled) or same


@given(sent=PAYLOADS, receipted=PAYLOADS, number=st.integers(0, 3))
def test_only_its_own_receipt_ends_a_manifest(
    sent: list[list[bytes]], receipted: list[list[bytes]], number: int
) -> None:
    """A true receipt of other content or another number never fits."""
    ours = seal_manifest(recordings=sent)
    other = seal_manifest(recordings=receipted)
    for _ in range(number):
        other = seal_manifest(after=other.head, recordings=receipted)
    archive = Archive(ARCHIVE_KEY, DOCK_KEY.public, TusArchive(), dock=DOCK)
    answer = read_answer(
        archive.sign_receipt(other.manifest, other.payload_sha256), dock=DOCK, archive_keys=KEYS
    )
    known = KnownManifest(
        manifest_id=ours.manifest.manifest_id,
        sequence=ours.manifest.sequence,
        payload_sha256=ours.payload_sha256,
        state=ManifestState.ADMITTED,
        envelope=ours.envelope,
    )

    assert isinstance(answer, Receipt)
    same = ours.envelope == other.envelope
    assert isinstance(decide(answer, known), Receipted) == same


class OutboxLife(RuleBasedStateMachine):
    """A dock's outbox with a real journal, and an archive whose answers may come in any order.

    ``verified`` is what this test itself knows to have arrived as a true receipt; ``asked_again``,
    which of that the archive has asked for since, as one does that was set back.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="outbox-"))
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.archive = Archive(ARCHIVE_KEY, DOCK_KEY.public, TusArchive(), dock=DOCK)
        self.mailbox: list[bytes] = []
        self.verified: set[ManifestId] = set()
        self.seen = 0
        self.asked_again: set[ManifestId] = set()
        self.sealed_count = 0
        self.alive = False

    @initialize()
    def start(self) -> None:
        StagingDisk(self.folder / "staging")
        self.runner.run(self._open())
        self.dockings = DockingMaker(self.journal, self.folder / "staging")
        self.alive = True

    async def _open(self) -> None:
        journal = await self.stack.enter_async_context(Journal.open(self.folder / "journal.sqlite"))
        notices = NoticeStore(journal, dock=DOCK, clock=lambda: NOW)
        self.journal = journal
        self.store = OutboxStore(journal, notices, dock=DOCK, archive_keys=KEYS, clock=lambda: NOW)

    @rule(recordings=PAYLOADS, parts=st.integers(1, 2))
    def seal(self, recordings: list[list[bytes]], parts: int) -> None:
        """A docking ends; its files are new to the dock, whatever their bytes."""
        self.sealed_count += 1
        marked = [
            [
                [b"%d/%d/%d/" % (self.sealed_count, part, number) + clip for clip in clips]
                for number, clips in enumerate(recordings)
            ]
            for part in range(parts)
        ]
        self.runner.run(self.dockings.seal(*marked))

    @rule(data=st.data())
    @precondition(lambda self: self.alive and self.dockings.sealed)
    def publish(self, data: st.DataObject) -> None:
        """The archive sees a manifest, in or out of order, again or for the first time."""
        sequence = data.draw(st.sampled_from(sorted(self.dockings.sealed)))
        self.mailbox += self.archive.take_manifest(self.dockings.sealed[sequence].envelope)

    @rule(data=st.data())
    @precondition(lambda self: self.alive and self.archive.manifests)
    def upload(self, data: st.DataObject) -> None:
        """All bytes of one manifest arrive at the archive."""
        sequence = data.draw(st.sampled_from(sorted(self.archive.manifests)))
        self.archive.tus.files |= self.dockings.sealed[sequence].contents
        self.mailbox += self.archive.settle()

    @rule(known=st.booleans())
    def register(self, known: bool) -> None:  # noqa: FBT001 -- drawn by the test
        """The recorder is put on the register, or struck off."""
        self.archive.recorders = None if known else set()

    @rule(data=st.data(), keep=st.booleans())
    @precondition(lambda self: self.mailbox)
    def deliver(self, data: st.DataObject, keep: bool) -> None:  # noqa: FBT001 -- drawn by the test
        """An answer arrives: any of those under way, perhaps not for the last time."""
        index = data.draw(st.integers(0, len(self.mailbox) - 1))
        answer = self.mailbox[index] if keep else self.mailbox.pop(index)
        self.runner.run(self.store.take_answer(TOPIC, answer))
        envelope, logged = split_logged(answer)
        parsed = read_answer(envelope, dock=DOCK, archive_keys=KEYS)
        if isinstance(parsed, Receipt):
            if not self._is_shown(logged):
                return
            self.verified.add(parsed.manifest_id)
            self.asked_again.discard(parsed.manifest_id)
        elif isinstance(parsed, Admission) and parsed.manifest_id in self.verified:
            self.asked_again.add(parsed.manifest_id)

    def _is_shown(self, logged: LoggedReceipt | None) -> bool:
        """Return whether the log is shown to go on from what the dock saw last.

        If not, the archive hears of it, and begins there the next time.
        """
        assert logged is not None
        note = read_inclusion(logged.inclusion).note
        size = open_checkpoint(note, ARCHIVE_KEY.public).size
        if self.seen in {0, size} or (size > self.seen == logged.earlier):
            self.seen = size
            return True
        self.archive.log.shown = self.seen
        return False

    @rule(data=st.data(), how=st.sampled_from(["key", "type", "digest", "bags", "cut"]))
    @precondition(lambda self: self.alive and self.dockings.sealed)
    def forge(self, data: st.DataObject, how: str) -> None:
        """A receipt arrives that no archive gave for this manifest."""
        sequence = data.draw(st.sampled_from(sorted(self.dockings.sealed)))
        sealed = self.dockings.sealed[sequence]
        self.runner.run(self.store.take_answer(TOPIC, self._forged(sealed, how)))

    @rule()
    def restart(self) -> None:
        """The agent is killed and starts again with the same journal."""
        self.runner.run(self.stack.aclose())
        self.stack = AsyncExitStack()
        self.runner.run(self._open())
        self.dockings.reopened(self.journal)

    @invariant()
    def receipts_decide(self) -> None:
        """Done is exactly what a true receipt arrived for; everything else is still to be sent."""
        if not self.alive:
            return
        states, waiting = self.runner.run(self._look())
        for sequence, sealed in self.dockings.sealed.items():
            done = sealed.manifest.manifest_id in self.verified
            assert (states[sequence] == "receipted") == done
            # What the archive asked for again after its receipt may have to be sent again.
            if sealed.manifest.manifest_id not in self.asked_again:
                assert (sequence in waiting) == (not done)
            assert done or waiting[sequence] == sealed.envelope

    @invariant()
    def files_follow(self) -> None:
        """A file is archived when its manifest has its receipt, and stays claimed until then.

        What the archive asks for after that may be claimed again.
        """
        if self.alive:
            assert self.runner.run(self._strays()) == 0

    async def _look(self) -> tuple[dict[int, str], dict[int, bytes]]:
        async with self.journal.transaction() as connection:
            rows = await connection.execute_fetchall("SELECT sequence, state FROM manifest")
        waiting: dict[int, bytes] = {}
        after = 0
        while known := await self.store.next_unreceipted(after=after):
            after = known.sequence
            waiting[after] = known.envelope
        return {int(sequence): str(state) for sequence, state in rows}, waiting

    async def _strays(self) -> int:
        async with self.journal.transaction() as connection:
            rows = await connection.execute_fetchall(
                "SELECT manifest_id, file.state FROM file JOIN manifest USING (manifest_id)"
                " WHERE (manifest.state = 'receipted') <> (file.state = 'archived')"
            )
            [(dockings,)] = await connection.execute_fetchall(
                "SELECT count(*) FROM docking WHERE (state = 'receipted') <> NOT EXISTS"
                " (SELECT 1 FROM manifest WHERE manifest.docking_id = docking.docking_id"
                "  AND manifest.state <> 'receipted')"
            )
        strays = [
            manifest_id
            for manifest_id, state in rows
            if state != "claimed" or manifest_id not in self.asked_again
        ]
        return len(strays) + int(dockings)

    def _forged(self, sealed: SealedManifest, how: str) -> bytes:
        true = self.archive.sign_receipt(sealed.manifest, sealed.payload_sha256)
        receipt = parse_statement(take_apart(true), Statement.RECEIPT, Receipt)
        match how:
            case "key":
                return sign_statement(receipt, Statement.RECEIPT, STRANGER)
            case "type":
                return sign_statement(receipt, Statement.ADMISSION, ARCHIVE_KEY)
            case "digest":
                return self.archive.logged(self.archive.sign_receipt(sealed.manifest, "f" * 64))
            case "bags":
                short = msgspec.structs.replace(receipt, bags=receipt.bags[1:])
                return self.archive.logged(sign_statement(short, Statement.RECEIPT, ARCHIVE_KEY))
            case _:
                return true[:-1]

    def teardown(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.close()
        shutil.rmtree(self.folder)


TestOutboxLife = OutboxLife.TestCase
TestOutboxLife.settings = settings(max_examples=25, stateful_step_count=25)
