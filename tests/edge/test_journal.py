import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from edge_agent.adapters.journal import VERSION, Journal
from edge_agent.errors import JournalContradictionError, JournalVersionError, RecorderBusyError
from edge_agent.ingest.files import Device, FileId, FileKey, FileRow, FileState
from edge_agent.manifest.sealing import Content, DockingFacts, SealedManifest, seal_docking
from edge_agent.manifest.settling import ClaimedFile, Settlement
from edge_agent.ports import NewCopy, OpenDocking
from protocol.chain import GENESIS, ChainHead
from protocol.digest import Digests, sha256_hex
from protocol.identifiers import OfficerId
from protocol.manifest import ClockFacts, EvidenceLevel, Isolation
from tests.simulators.docking_site import BAY, DOCKED_AT, ZONE
from tests.simulators.sealed_manifests import DOCK, DOCK_KEY, RECORDER, docking_id, uuid7

OWNER = Device(model=RECORDER.model, serial=RECORDER.serial)
OTHER = Device(model=RECORDER.model, serial="0000002")
FIRST, SECOND = docking_id(1), docking_id(2)
A, B = FileId("a"), FileId("b")
DIGESTS = Digests(sha256=sha256_hex(b"x"), sm3="1" * 64)
PRINT = "3" * 64
L2 = EvidenceLevel.L2


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    async with Journal.open(tmp_path / "journal.sqlite") as opened:
        yield opened


def opening(number: int = 1) -> OpenDocking:
    return OpenDocking(
        docking_id=docking_id(number),
        bay=BAY,
        recorder=RECORDER,
        officer=OfficerId("012345"),
        docked_at_ms=number,
    )


def key(name: str) -> FileKey:
    return FileKey(path=name.encode() + b"\xff", size_bytes=5, mtime_ns=-(1 << 62))


async def begin(journal: Journal, *file_ids: FileId) -> None:
    await journal.begin_copies(
        FIRST, OWNER, [NewCopy(file_id=one, key=key(one), marked=one == B) for one in file_ids]
    )


async def only_row(journal: Journal) -> FileRow:
    [row] = await journal.known_files(OWNER)
    return row


def manifests(
    journal_rows: Sequence[FileRow], head: ChainHead, docking: int = 1, *, first: int = 0
) -> Iterator[SealedManifest]:
    facts = DockingFacts(
        dock=DOCK,
        docking_id=docking_id(docking),
        bay=BAY,
        recorder=RECORDER,
        officer=None,
        clock=ClockFacts(dock_time=DOCKED_AT, timezone=ZONE.key),
        isolation=Isolation.NOT_ENFORCED,
        log=None,
        evidence_level=L2,
        agent="bayward-test",
        docked_at=DOCKED_AT,
        ended_at=DOCKED_AT,
        zone=ZONE,
    )
    content = Content(
        settlement=Settlement(others=tuple(ClaimedFile(row=row) for row in journal_rows))
    )
    numbers = iter(range(docking * 100 + first, docking * 100 + 99))
    return seal_docking(
        facts,
        content,
        head,
        key=DOCK_KEY,
        mint=lambda: uuid7(1, next(numbers)),
        sealed_at=DOCKED_AT,
    )


async def test_a_docking_is_open_until_it_is_sealed(journal: Journal) -> None:
    """What was put in comes out; sealed, it is open no more."""
    await journal.open_docking(opening())
    assert await journal.open_dockings() == (opening(),)

    await journal.seal(FIRST, lambda head, _: manifests((), head), ended_at_ms=9)

    assert not await journal.open_dockings()


async def test_a_recorder_has_one_open_docking(journal: Journal) -> None:
    """A recorder that is being read cannot be begun a second time."""
    await journal.open_docking(opening(1))

    with pytest.raises(RecorderBusyError):
        await journal.open_docking(opening(2))

    assert await journal.open_dockings() == (opening(1),)


async def test_a_copys_way_to_a_staged_file(journal: Journal) -> None:
    """Begun, checkpointed, staged: each step is there when it is asked for."""
    await journal.open_docking(opening())
    await begin(journal, B)
    begun = await only_row(journal)
    assert (begun.file_id, begun.key, begun.docking_id) == (B, key("b"), FIRST)
    assert (begun.state, begun.verified_bytes, begun.marked) == (FileState.COPYING, 0, True)

    await journal.checkpoint(B, verified_bytes=3, prefix_sha256="2" * 64)
    halfway = await only_row(journal)
    assert (halfway.verified_bytes, halfway.prefix_sha256) == (3, "2" * 64)

    await journal.staged(B, digests=DIGESTS, evidence=L2, fingerprint=PRINT)
    row = await only_row(journal)
    assert (row.state, row.verified_bytes, row.prefix_sha256) == (FileState.STAGED, 5, None)
    assert (row.digests, row.evidence) == (DIGESTS, L2)


async def test_no_step_from_a_wrong_state(journal: Journal) -> None:
    """A staged file is not checkpointed or staged again: that would be our bug."""
    await journal.open_docking(opening())
    await begin(journal, A)
    await journal.staged(A, digests=DIGESTS, evidence=L2, fingerprint=PRINT)

    with pytest.raises(JournalContradictionError):
        await journal.staged(A, digests=DIGESTS, evidence=L2, fingerprint=PRINT)
    with pytest.raises(JournalContradictionError):
        await journal.checkpoint(A, verified_bytes=1, prefix_sha256="2" * 64)
    with pytest.raises(JournalContradictionError):
        await journal.duplicate(A, same_as=A)
    with pytest.raises(JournalContradictionError):
        await journal.duplicate(FileId("nobody"), same_as=A)


async def test_a_file_is_begun_once(journal: Journal) -> None:
    """One path with one size and one time is one row, whatever its id."""
    await journal.open_docking(opening())
    await begin(journal, A)

    with pytest.raises(sqlite3.IntegrityError):
        await journal.begin_copies(FIRST, OWNER, [NewCopy(file_id=B, key=key("a"), marked=False)])


async def test_a_content_is_found_by_its_recorder_alone(journal: Journal) -> None:
    """Two recorders' files are never taken for each other."""
    await journal.open_docking(opening())
    await begin(journal, A)
    assert await journal.find_content(OWNER, DIGESTS.sha256) is None
    await journal.staged(A, digests=DIGESTS, evidence=L2, fingerprint=PRINT)

    found = await journal.find_content(OWNER, DIGESTS.sha256)

    assert found is not None
    assert found.file_id == A
    assert await journal.find_content(OTHER, DIGESTS.sha256) is None


async def test_a_duplicate_shares_its_contents_fate(journal: Journal) -> None:
    """A second name of a claimed content is claimed by the same manifest at once."""
    await journal.open_docking(opening())
    await begin(journal, A, B)
    await journal.staged(A, digests=DIGESTS, evidence=L2, fingerprint=PRINT)
    staged = [row for row in await journal.known_files(OWNER) if row.file_id == A]
    [sealed] = await journal.seal(FIRST, lambda head, _: manifests(staged, head), ended_at_ms=9)

    await journal.duplicate(B, same_as=A)

    rows = {row.file_id: row for row in await journal.known_files(OWNER)}
    assert rows[B].same_as == A
    assert {row.state for row in rows.values()} == {FileState.CLAIMED}
    assert {row.manifest_id for row in rows.values()} == {sealed}
    assert rows[B].digests == DIGESTS
    found = await journal.find_content(OWNER, DIGESTS.sha256)
    assert found is not None
    assert found.file_id == A


async def test_a_content_is_found_under_the_name_that_has_the_bytes(journal: Journal) -> None:
    """Of two names of a content, the one that stands for it is found, whichever came first."""
    await journal.open_docking(opening())
    await begin(journal, A, B)
    await journal.staged(B, digests=DIGESTS, evidence=L2, fingerprint=PRINT)
    await journal.duplicate(A, same_as=B)

    found = await journal.find_content(OWNER, DIGESTS.sha256)

    assert found is not None
    assert found.file_id == B


async def test_a_duplicate_of_an_unfinished_copy_is_refused(journal: Journal) -> None:
    """Only what was read to its end stands for a content."""
    await journal.open_docking(opening())
    await begin(journal, A, B)

    with pytest.raises(JournalContradictionError):
        await journal.duplicate(B, same_as=A)


async def test_only_unfinished_copies_are_dropped(journal: Journal) -> None:
    """A staged file cannot be forgotten."""
    await journal.open_docking(opening())
    await begin(journal, A, B)
    await journal.staged(A, digests=DIGESTS, evidence=L2, fingerprint=PRINT)

    await journal.drop_copies([A, B])

    assert (await only_row(journal)).file_id == A
    assert await journal.staging_files() == {A}


async def test_held_is_what_no_manifest_claims(journal: Journal) -> None:
    """A staged file is held once its docking has ended without claiming it."""
    await journal.open_docking(opening())
    await begin(journal, A)
    await journal.staged(A, digests=DIGESTS, evidence=L2, fingerprint=PRINT)
    assert await journal.held_count() == 0

    await journal.seal(FIRST, lambda head, _: manifests((), head), ended_at_ms=9)

    assert await journal.held_count() == 1


async def test_manifests_make_a_chain(journal: Journal) -> None:
    """Each docking's manifests begin where the last one's ended."""
    heads: list[ChainHead] = []

    sealed: list[SealedManifest] = []

    for number in (1, 2):
        await journal.open_docking(opening(number))

        def build(head: ChainHead, _part: int, number: int = number) -> Sequence[SealedManifest]:
            heads.append(head)
            sealed.extend(manifests((), head, number))
            return sealed[-1:]

        await journal.seal(docking_id(number), build, ended_at_ms=9)

    assert heads[0] == GENESIS
    assert heads[1].sequence == 1
    assert sealed[1].manifest.previous_sha256 == heads[1].payload_sha256


async def test_sealing_is_all_or_nothing(journal: Journal) -> None:
    """A manifest that claims what is not staged leaves everything as it was."""
    await journal.open_docking(opening())
    await begin(journal, A, B)
    await journal.staged(A, digests=DIGESTS, evidence=L2, fingerprint=PRINT)
    row = next(row for row in await journal.known_files(OWNER) if row.file_id == A)
    [claims] = manifests([row], GENESIS)
    wrong = SealedManifest(
        manifest=claims.manifest,
        payload_sha256=claims.payload_sha256,
        envelope=claims.envelope,
        claims=(A, B),
    )

    with pytest.raises(JournalContradictionError):
        await journal.seal(FIRST, lambda _head, _part: [wrong], ended_at_ms=9)

    rows = {row.file_id: row.state for row in await journal.known_files(OWNER)}
    assert rows == {A: FileState.STAGED, B: FileState.COPYING}
    assert len(await journal.open_dockings()) == 1
    async with journal.transaction() as connection:
        assert not list(await connection.execute_fetchall("SELECT * FROM manifest"))


async def test_a_docking_is_sealed_once(journal: Journal) -> None:
    """The second try to seal a docking is our bug, and changes nothing."""
    await journal.open_docking(opening())
    await journal.seal(FIRST, lambda head, _: manifests((), head), ended_at_ms=9)

    with pytest.raises(JournalContradictionError):
        await journal.seal(FIRST, lambda head, _: manifests((), head, first=50), ended_at_ms=9)


async def _insert_and_fail(journal: Journal) -> None:
    async with journal.transaction() as connection:
        await connection.execute("INSERT INTO alert VALUES ('1', x'00', 0)")
        raise ZeroDivisionError


async def test_a_transaction_that_fails_is_undone(journal: Journal) -> None:
    """An error inside the block leaves nothing of it, and the next transaction works."""
    with pytest.raises(ZeroDivisionError):
        await _insert_and_fail(journal)

    async with journal.transaction() as connection:
        assert not list(await connection.execute_fetchall("SELECT * FROM alert"))


async def test_transactions_wait_for_each_other(journal: Journal) -> None:
    """Two tasks never stand in one transaction."""
    inside = 0

    async def write(number: int) -> None:
        nonlocal inside
        async with journal.transaction() as connection:
            inside += 1
            assert inside == 1
            await connection.execute("INSERT INTO alert VALUES (?, x'00', 0)", (str(number),))
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*map(write, range(20)))

    async with journal.transaction() as connection:
        assert len(list(await connection.execute_fetchall("SELECT * FROM alert"))) == 20


async def test_a_cancelled_transaction_leaves_the_journal_usable(journal: Journal) -> None:
    """Cancelled at any of its steps, a transaction is undone or done, and the next one works."""
    for steps in range(12):

        async def write(name: str = f"n{steps}") -> None:
            async with journal.transaction() as connection:
                await connection.execute("INSERT INTO alert VALUES (?, x'00', 0)", (name,))

        task = asyncio.create_task(write())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        async with journal.transaction() as connection:
            await connection.execute("INSERT INTO alert VALUES (?, x'00', 0)", (f"after {steps}",))


async def test_a_committed_transaction_survives(tmp_path: Path) -> None:
    """What was committed is there when the journal is opened again."""
    path = tmp_path / "journal.sqlite"
    async with Journal.open(path) as journal:
        await journal.open_docking(opening())

    async with Journal.open(path) as journal:
        assert await journal.open_dockings() == (opening(),)


async def test_the_journal_is_durable(journal: Journal) -> None:
    """WAL, synchronous=FULL and foreign keys, without which acknowledged rows get lost."""
    for pragma, value in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
        [(found,)] = await journal.connection.execute_fetchall(f"PRAGMA {pragma}")
        assert found == value


async def test_a_newer_journal_is_refused(tmp_path: Path) -> None:
    """A journal of a newer release is not touched."""
    path = tmp_path / "journal.sqlite"
    async with Journal.open(path) as journal:
        await journal.connection.execute(f"PRAGMA user_version = {VERSION + 1}")

    with pytest.raises(JournalVersionError):
        async with Journal.open(path):
            pytest.fail("opened")


async def test_a_migration_that_was_cut_off_begins_again(tmp_path: Path) -> None:
    """The schema and its version come together, or not at all."""
    path = tmp_path / "journal.sqlite"
    path.touch()

    async with Journal.open(path) as journal:
        [(version,)] = await journal.connection.execute_fetchall("PRAGMA user_version")

    assert version == VERSION


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1 FROM file WHERE same_as = 'x' AND state NOT IN ('archived', 'freed')",
        "DELETE FROM file WHERE file_id = 'x' AND state = 'copying'",
        "SELECT 1 FROM file WHERE model = 'm' AND serial = 's' AND path IN (x'00', x'01')",
        "SELECT 1 FROM file WHERE model = 'm' AND serial = 's' AND sha256 IN ('x', 'y')",
        "SELECT 1 FROM file WHERE state = 'archived' LIMIT 100",
        "SELECT 1 FROM salvaged_range WHERE file_id IN ('x')",
    ],
)
async def test_no_question_reads_all_files(journal: Journal, statement: str) -> None:
    """A dock has seen 100,000 files of a recorder: what is asked for each has an index."""
    rows = await journal.connection.execute_fetchall(f"EXPLAIN QUERY PLAN {statement}")

    assert rows
    assert not [row["detail"] for row in rows if row["detail"].startswith("SCAN")]
