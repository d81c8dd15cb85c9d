"""The custody log grows, is taken up again, and is refused if it is not what was signed."""

import os
import shutil
import tracemalloc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from protocol.checkpoint import Checkpoint, sign_checkpoint
from protocol.envelope import sign_statement
from protocol.identifiers import DockId
from protocol.log_proofs import parse_logged_receipt
from protocol.tiles import CHECKPOINT, Tile
from protocol.versions import Statement
from scripts.samples import chain, receipt, signing_key
from server_agent.adapters.custody_records import append_entries, load_signed
from server_agent.adapters.log_files import LogFiles
from server_agent.catalogue.tables import custody_entries
from server_agent.errors import LogChangedError, LogError, LogKeyError
from server_agent.ledger.custody import Logged
from server_agent.ledger.log_check import check_log
from server_agent.signing import Answer
from tests.simulators.custody_site import (
    KEY,
    CustodySite,
    check_as_an_expert,
    open_custody_site,
)

# More than a tile, and a partial one behind it.
ENTRIES: Final = [b'{"event":"of a test","number":%d}' % number for number in range(300)]
RECEIPT: Final = Answer(
    dock=DockId("dock-01"),
    envelope=sign_statement(receipt(chain()[0]), Statement.RECEIPT, KEY),
    needs_checkpoint=True,
)
ADMISSION: Final = Answer(dock=DockId("dock-01"), envelope=b"admission")


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[CustodySite]:
    async with open_custody_site(tmp_path) as one:
        yield one


@pytest.fixture
async def signed(site: CustodySite) -> CustodySite:
    """A log of all ENTRIES."""
    await site.commit(*ENTRIES)
    await site.log().seal()
    return site


async def test_what_is_committed_is_logged(site: CustodySite) -> None:
    """In its order, in whatever batches, over one start and the next."""
    log = site.log()
    for size in (0, 1, 2, 255, 256, 257, 300):
        done = len(site.logged())
        await site.commit(*ENTRIES[done:size])
        await log.seal()
        if size == 256:
            log = site.log()  # as after a restart

        assert site.logged() == ENTRIES[:size]
        assert site.faults() == []
    assert not list(site.folder.rglob(".*.partial"))
    assert not (site.folder / "tile/0/000.p").exists(), "it became full"


async def test_sealing_again_changes_nothing(signed: CustodySite) -> None:
    """Where nothing was committed, nothing is signed or written."""
    before = {path: path.stat().st_mtime_ns for path in signed.folder.rglob("*")}

    await signed.log().seal()

    assert {path: path.stat().st_mtime_ns for path in signed.folder.rglob("*")} == before


async def test_a_receipt_waits_for_its_checkpoint(site: CustodySite) -> None:
    """It may be sent when all that was committed before is under the checkpoint on the disk."""
    log = site.log()
    await site.commit(ENTRIES[0])

    assert await log.covered([ADMISSION]) == [ADMISSION]
    assert site.logged() == []
    admission, proved = await log.covered([ADMISSION, RECEIPT])
    assert admission == ADMISSION
    assert parse_logged_receipt(proved.envelope).receipt.encode() == RECEIPT.envelope
    assert site.logged()[:-1] == ENTRIES[:1]


async def test_no_checkpoint_is_put_that_the_catalogue_does_not_know(signed: CustodySite) -> None:
    """One that was signed and is not kept there would look like a catalogue that was set back."""
    await signed.commit(b"one more")
    before = signed.checkpoint()
    await signed.execute(
        "CREATE TRIGGER failing BEFORE UPDATE ON custody_checkpoint"
        " BEGIN SELECT RAISE(ABORT, 'of the test'); END"
    )
    with pytest.raises(SQLAlchemyError, match="of the test"):
        await signed.log().seal()
    assert signed.checkpoint() == before

    await signed.execute("DROP TRIGGER failing")
    await signed.log().seal()

    assert signed.logged() == [*ENTRIES, b"one more"]
    assert await signed.alarms() == set()


async def test_a_damaged_log_sends_no_receipt(signed: CustodySite) -> None:
    """There is an alarm, the log stays as it is, and everything else is answered."""
    (signed.folder / "tile/1/000.p/1").unlink()
    before = signed.checkpoint()
    await signed.commit(b"{}")

    assert await signed.log().covered([ADMISSION, RECEIPT]) == [ADMISSION]

    assert await signed.alarms() == {LogChangedError.code}
    assert signed.checkpoint() == before


def _cut_to_an_earlier_state(site: CustodySite) -> None:
    """A consistent log of one entry, signed by the archive itself: a copy of an older day."""
    shutil.rmtree(site.folder)
    shutil.copytree(site.folder.with_name("older"), site.folder)


def _flip(path: Path, at: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def _put(site: CustodySite, *, size: int, root: bytes) -> None:
    checkpoint = site.checkpoint()
    assert checkpoint is not None
    forged = Checkpoint(origin=checkpoint.origin, size=size, root=root)
    (site.folder / CHECKPOINT).write_bytes(sign_checkpoint(forged, KEY))


def _lose_checkpoint_and_flip(site: CustodySite) -> None:
    (site.folder / CHECKPOINT).unlink()
    _flip(site.folder / "tile/1/000.p/1")


DAMAGES: Final[dict[str, tuple[Callable[[CustodySite], object], type[LogError]]]] = {
    "all of it is gone": (lambda one: shutil.rmtree(one.folder), LogChangedError),
    "an older state of it": (_cut_to_an_earlier_state, LogChangedError),
    "no last tile": (lambda one: (one.folder / "tile/0/001.p/44").unlink(), LogChangedError),
    "no last bundle": (
        lambda one: (one.folder / "tile/entries/001.p/44").unlink(),
        LogChangedError,
    ),
    "another hash": (lambda one: _flip(one.folder / "tile/0/001.p/44"), LogChangedError),
    "another whole tile": (lambda one: _flip(one.folder / "tile/1/000.p/1"), LogChangedError),
    "no checkpoint, and another whole tile": (_lose_checkpoint_and_flip, LogChangedError),
    "another entry": (lambda one: _flip(one.folder / "tile/entries/001.p/44"), LogChangedError),
    "a checkpoint of nobody": (lambda one: _flip(one.folder / CHECKPOINT, 10), LogChangedError),
    "a fork": (lambda one: _put(one, size=299, root=bytes(32)), LogChangedError),
    "more than the catalogue knows": (
        lambda one: _put(one, size=301, root=bytes(32)),
        LogChangedError,
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_another_log_is_not_continued(site: CustodySite, damage: str) -> None:
    """Cut, changed, forked: whatever was done to it, nothing more is signed."""
    do_it, expected = DAMAGES[damage]
    await site.commit(ENTRIES[0])
    await site.log().seal()
    shutil.copytree(site.folder, site.folder.with_name("older"))
    await site.commit(*ENTRIES[1:])
    await site.log().seal()
    do_it(site)
    left = {path: path.read_bytes() for path in site.folder.rglob("*") if path.is_file()}
    await site.commit(b"{}")

    with pytest.raises(expected):
        await site.log().seal()

    assert {path: path.read_bytes() for path in site.folder.rglob("*") if path.is_file()} == left


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM custody_checkpoint",
        "DELETE FROM custody_entries WHERE entry_index > 290",
    ],
)
async def test_a_catalogue_that_was_set_back_reads_the_log_back(
    signed: CustodySite, sql: str
) -> None:
    """Its next entries would be a second history: they come behind what was signed."""
    await signed.execute(sql)

    await signed.log().seal()
    await signed.commit(b"since then")
    await signed.log().seal()

    assert signed.logged() == [*ENTRIES, b"since then"]
    assert signed.faults() == []
    assert await signed.committed() == signed.logged()
    assert await signed.alarms() == {"E-LOG-102"}


async def test_a_lost_catalogue_reads_the_log_back(signed: CustodySite, tmp_path: Path) -> None:
    """Another catalogue, with nothing in it: the log goes on behind all that it has."""
    (tmp_path / "new").mkdir()
    async with open_custody_site(tmp_path / "new") as new:
        shutil.copytree(signed.folder, new.folder)
        await new.commit(b"since then")
        await new.log().seal()

        assert new.logged() == [*ENTRIES, b"since then"]
        assert await new.committed() == new.logged()


async def test_what_was_committed_since_then_keeps_its_order_and_its_salts(
    signed: CustodySite,
) -> None:
    """More of it than is moved at once, and next to what the log has in its place."""
    since_then = [Logged(entry=b"since then %d" % at, salt=b"%d" % at) for at in range(2_000)]
    await signed.execute("DELETE FROM custody_entries WHERE entry_index > 290")
    async with signed.store.writing() as connection:
        await append_entries(connection, since_then)
    # Not what was signed, so that the log is the longer one.
    await signed.execute("DELETE FROM custody_checkpoint")

    await signed.log().seal()

    assert signed.logged() == [*ENTRIES, *(one.entry for one in since_then)]
    assert await signed.committed() == signed.logged()
    async with signed.store.reading() as connection:
        query = select(custody_entries.c.salt).order_by(custody_entries.c.entry_index)
        salts = (await connection.execute(query)).scalars().all()
    assert salts == [None] * len(ENTRIES) + [one.salt for one in since_then]


async def test_a_long_log_is_read_back_in_little_memory(site: CustodySite) -> None:
    """Of the catalogue's own entries, and of the log's, a few at a time are in memory."""
    await site.commit(*(b"%d " % number + bytes(4_000) for number in range(12_000)))
    await site.log().seal()
    before = await site.committed()
    await site.execute("DELETE FROM custody_checkpoint")
    await site.execute("DELETE FROM custody_entries WHERE entry_index >= 11000")
    log = site.log()

    tracemalloc.start()
    try:
        await log.seal()
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert await site.committed() == before
    # 16 MiB of them for whatever one file of the log may hold.
    assert peak_bytes < 32 * 1024 * 1024


@pytest.mark.parametrize("number", [300, 3])
async def test_tiles_without_any_checkpoint_are_no_new_log(
    site: CustodySite, tmp_path: Path, number: int
) -> None:
    """A lost catalogue and a lost checkpoint: no second history is begun over what there is."""
    await site.commit(*ENTRIES[:number])
    await site.log().seal()
    (site.folder / CHECKPOINT).unlink()
    (tmp_path / "new").mkdir()
    async with open_custody_site(tmp_path / "new") as new:
        shutil.copytree(site.folder, new.folder)
        await new.commit(b"since then")

        with pytest.raises(LogChangedError, match="no checkpoint"):
            await new.log().seal()


async def test_tiles_that_were_not_signed_yet_are_gone_on_with(signed: CustodySite) -> None:
    """The first run of all was stopped after it had written them."""
    (signed.folder / CHECKPOINT).unlink()
    await signed.execute("DELETE FROM custody_checkpoint")
    await signed.commit(b"one more")
    await signed.log().seal()

    assert signed.logged() == [*ENTRIES, b"one more"]


async def test_what_was_signed_and_is_another_is_not_read_back(signed: CustodySite) -> None:
    """A catalogue that was set back and changed: somebody has to look first."""
    await signed.execute("DELETE FROM custody_entries WHERE entry_index > 290")
    await signed.execute("UPDATE custody_entries SET entry = 'x' WHERE entry_index = 3")

    with pytest.raises(LogChangedError, match="entry 3 "):
        await signed.log().seal()


async def test_a_log_that_does_not_begin_with_what_was_signed_is_not_read_back(
    signed: CustodySite,
) -> None:
    """Of a catalogue that lost its entries the checkpoint is left to say so."""
    checkpoint = signed.checkpoint()
    assert checkpoint is not None
    other = Checkpoint(origin=checkpoint.origin, size=10, root=bytes(32))
    await signed.execute("DELETE FROM custody_entries")
    await signed.execute("UPDATE custody_checkpoint SET note = :it", it=sign_checkpoint(other, KEY))

    with pytest.raises(LogChangedError, match="another history"):
        await signed.log().seal()


async def test_a_changed_last_entry_in_the_catalogue_is_refused(signed: CustodySite) -> None:
    """What is committed is what was logged."""
    await signed.execute("UPDATE custody_entries SET entry = 'x' WHERE entry_index = 299")

    with pytest.raises(LogChangedError, match="committed"):
        await signed.log().seal()


async def test_a_gap_in_the_catalogue_is_refused(signed: CustodySite) -> None:
    """An entry that was taken away before it was in the files is missed; nothing is signed."""
    await signed.commit(b"a", b"b")
    await signed.execute("DELETE FROM custody_entries WHERE entry_index = 300")
    before = signed.checkpoint()

    with pytest.raises(LogChangedError, match="entry 300"):
        await signed.log().seal()

    assert signed.checkpoint() == before


async def test_another_key_does_not_go_on(signed: CustodySite) -> None:
    """It is told so."""
    with pytest.raises(LogKeyError):
        await signed.log(signing_key("another archive")).seal()


async def test_another_file_in_the_way_is_left_alone(signed: CustodySite) -> None:
    """What stands where the log goes on is compared, and never written over."""
    stray = signed.folder / "tile/0/001.p/45"
    stray.write_bytes(bytes(45 * 32))
    await signed.commit(b"one more")

    with pytest.raises(LogChangedError, match="another content"):
        await signed.log().seal()

    assert stray.read_bytes() == bytes(45 * 32)
    assert len(signed.logged()) == 300


def test_a_file_that_a_stopped_run_left_is_made_durable_anew(tmp_path: Path) -> None:
    """Its bytes are right in memory, and may never have reached the disk."""
    files, tile = LogFiles(tmp_path), Tile(level=0, index=0, width=1)
    files.write({tile: bytes(32)})
    path = tmp_path / tile.path
    with path.open("rb") as before:
        files.write({tile: bytes(32)})

        assert not os.path.samestat(os.fstat(before.fileno()), path.stat())
    assert path.read_bytes() == bytes(32)


async def test_what_was_read_back_is_what_the_catalogue_says_was_signed(
    signed: CustodySite,
) -> None:
    """It is read once: the next start finds nothing that was set back."""
    await signed.execute("DELETE FROM custody_checkpoint")
    await signed.log().seal()

    async with signed.store.reading() as connection:
        assert await load_signed(connection) == LogFiles(signed.folder).read_checkpoint()


async def test_a_log_that_grows_while_it_is_read(signed: CustodySite) -> None:
    """By an earlier checkpoint, whose partial files have become full meanwhile."""
    earlier = signed.checkpoint()
    assert earlier is not None
    await signed.commit(*ENTRIES)
    await signed.log().seal()

    assert not (signed.folder / "tile/entries/001.p").exists()
    assert list(check_log(earlier, LogFiles(signed.folder).read)) == []


async def test_a_lost_checkpoint_file_is_put_back(signed: CustodySite) -> None:
    """The catalogue has what was signed, and the files are there."""
    before = signed.checkpoint()
    (signed.folder / CHECKPOINT).unlink()

    await signed.log().seal()

    assert signed.checkpoint() == before


async def test_the_plain_checker_agrees(signed: CustodySite) -> None:
    """docs/check_log.py finds a good log good, and finds an entry in it."""
    checked = check_as_an_expert(signed.folder, str(signed.folder), "KEY")
    assert checked.returncode == 0, checked.stderr
    assert len(checked.stdout.splitlines()) == len(ENTRIES)

    found = check_as_an_expert(signed.folder, str(signed.folder), "KEY", '"number":299}')
    assert found.stdout.splitlines() == [f"299 {ENTRIES[299].decode()}"]


@pytest.mark.parametrize(
    "file",
    [
        *("checkpoint", "tile/entries/000", "tile/entries/001.p/44"),
        *("tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1"),
    ],
)
async def test_both_checkers_find_any_change(signed: CustodySite, file: str) -> None:
    """A changed byte, and a file that is gone."""
    path = signed.folder / file
    good = path.read_bytes()
    _flip(path, 10 if file == CHECKPOINT else -1)
    arguments = (str(signed.folder), "KEY")
    assert check_as_an_expert(signed.folder, *arguments).returncode
    if file != "checkpoint":
        assert signed.faults()
        path.unlink()
        assert check_as_an_expert(signed.folder, *arguments).returncode
        assert [one.where for one in signed.faults() if "missing" in one.what]
    path.write_bytes(good)
    assert check_as_an_expert(signed.folder, *arguments).returncode == 0
    assert signed.faults() == []


async def test_it_is_said_what_is_wrong_where(signed: CustodySite) -> None:
    """A changed entry by its number, a changed tile by its path."""
    bundle = signed.folder / "tile/entries/000"
    bundle.write_bytes(bundle.read_bytes().replace(b'"number":7}', b'"number":8}', 1))
    assert [one.where for one in signed.faults()] == ["entry 7"]

    _flip(signed.folder / "tile/0/000")
    assert [one.where for one in signed.faults()] == ["tile/0/000"]
