"""The archive proves receipts to docks, and keeps what docks cosign of its log."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from sqlalchemy import select

from edge_agent.outbox.watching import Memory, look, verify_shown
from protocol.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from protocol.envelope import open_statement, sign_statement
from protocol.findings import FindingCode
from protocol.identifiers import DockId, ReceiptId
from protocol.keys import SigningKey
from protocol.log_proofs import SeenCheckpoint, parse_logged_receipt
from protocol.notes import Note, cosign_text, read_note
from protocol.receipt import Receipt
from protocol.strict_json import encode
from protocol.topics import Channel, of_dock
from protocol.versions import Statement
from scripts.samples import chain, receipt, signing_key
from server_agent.adapters.custody_records import append_entries
from server_agent.adapters.log_files import LogFiles
from server_agent.catalogue.book import Received
from server_agent.catalogue.tables import refused_messages
from server_agent.custody import CustodyLog
from server_agent.errors import KeptManifestError, LogChangedError
from server_agent.intake.checks import KnownSite
from server_agent.ledger.custody import log_receipt
from server_agent.signing import Answer
from tests.simulators.custody_site import KEY, CustodySite, open_custody_site
from tests.simulators.sealed_manifests import NOW, uuid7

DOCK: Final = DockId("dock-01")
OTHER: Final = DockId("dock-02")
KEYS: Final = {dock: signing_key(dock) for dock in (DOCK, OTHER)}
SITE: Final = KnownSite(
    docks={dock: {key.key_id: key.public} for dock, key in KEYS.items()}, recorders={}
)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[CustodySite]:
    async with open_custody_site(tmp_path) as one:
        yield one


def answer(number: int, dock: DockId = DOCK) -> Answer:
    """Return a receipt as the archive signs it."""
    statement = msgspec.structs.replace(
        receipt(chain()[0]), receipt_id=ReceiptId(uuid7(9, number)), dock=dock
    )
    envelope = sign_statement(statement, Statement.RECEIPT, KEY)
    return Answer(dock=dock, envelope=envelope, needs_checkpoint=True)


class Watcher:
    """A dock that checks what it is shown."""

    def __init__(self, dock: DockId = DOCK) -> None:
        self.dock = dock
        self.memory: Memory | None = None

    def take(self, told: Answer) -> bool:
        logged = parse_logged_receipt(told.envelope)
        keys = {KEY.key_id: KEY.public}
        said = open_statement(logged.receipt.encode(), Statement.RECEIPT, Receipt, keys)
        shown = verify_shown(logged, said, keys.values())
        self.memory, counts = look(self.memory, shown, now_ms=0)
        return counts

    def says(self, *, asks_again: bool = False, key: SigningKey | None = None) -> Received:
        assert self.memory is not None
        return cosigned(self.memory.note, self.dock, key=key, asks_again=asks_again)


def cosigned(
    note: bytes, dock: DockId, *, key: SigningKey | None = None, asks_again: bool = False
) -> Received:
    read = read_note(note)
    line = cosign_text(read.text, dock, key or KEYS[dock], unix_s=1)
    text = Note(text=read.text, lines=(*read.lines, line)).encode().decode()
    return Received(
        untrusted_topic=of_dock(dock, Channel.COSIGNATURES),
        untrusted_body=encode(SeenCheckpoint(note=text, asks_again=asks_again)),
    )


async def enter(site: CustodySite, *receipts: Answer) -> None:
    async with site.store.writing() as connection:
        await append_entries(
            connection, [log_receipt(one.envelope, now_utc=NOW) for one in receipts]
        )


async def proved(site: CustodySite, log: CustodyLog, *answers: Answer) -> list[Answer]:
    await enter(site, *answers)
    return await log.covered(answers)


async def rows(site: CustodySite, table: Any) -> list[Any]:
    async with site.store.reading() as connection:
        return list((await connection.execute(select(table))).all())


async def test_each_receipt_is_proved_from_where_its_dock_stands(site: CustodySite) -> None:
    """Two docks, many receipts, in batches of any size, over tiles that become full."""
    log, docks = site.log(), {dock: Watcher(dock) for dock in (DOCK, OTHER)}
    number = 0
    for size in (1, 2, 7, 250, 3):
        batch = [answer(number + one, DOCK if (number + one) % 3 else OTHER) for one in range(size)]
        number += size
        for told in await proved(site, log, *batch):
            assert docks[told.dock].take(told)

    assert [one.memory.checkpoint.size for one in docks.values() if one.memory] == [263, 263]


async def test_an_archive_that_starts_goes_on_from_what_was_cosigned(site: CustodySite) -> None:
    """Of a dock that never said anything it knows nothing: the dock asks, and is shown."""
    log, dock = site.log(), Watcher()
    [told] = await proved(site, log, answer(1))
    assert dock.take(told)
    await log.watchers.take(dock.says(), SITE)
    [told] = await proved(site, log, answer(2))
    assert dock.take(told)

    log = site.log()  # the cosignature of the second one was lost
    [told] = await proved(site, log, answer(3))
    assert not dock.take(told)
    await log.watchers.take(dock.says(asks_again=True), SITE)
    [told] = await log.covered([answer(3)])
    assert dock.take(told)

    await log.watchers.take(dock.says(), SITE)
    [told] = await proved(site, site.log(), answer(4))
    assert dock.take(told)
    [(known, note)] = LogFiles(site.folder).watched().items()
    assert (known, open_checkpoint(note, KEY.public).size) == (DOCK, 3)


async def test_what_a_dock_says_late_takes_nothing_back(site: CustodySite) -> None:
    """Its word for the first receipt comes when the second one is on its way."""
    log, dock = site.log(), Watcher()
    [told] = await proved(site, log, answer(1))
    dock.take(told)
    first_word = dock.says()
    [told] = await proved(site, log, answer(2))
    dock.take(told)
    await log.watchers.take(first_word, SITE)

    [told] = await proved(site, log, answer(3))

    assert dock.take(told)


async def test_a_receipt_from_before_the_log_is_entered(site: CustodySite) -> None:
    """It is repeated to a dock that lost it, and entered once."""
    log, dock = site.log(), Watcher()

    for _ in range(2):
        [told] = await log.covered([answer(1)])
        assert dock.take(told)

    assert len(site.logged()) == 1
    assert site.faults() == []


async def test_a_receipt_that_cannot_be_read_stops_no_other_work(site: CustodySite) -> None:
    """It is an alarm; what is no receipt is answered."""
    damaged = Answer(dock=DOCK, envelope=b"{}", needs_checkpoint=True)
    admission = Answer(dock=DOCK, envelope=b"admission")

    assert await site.log().covered([admission, damaged]) == [admission]

    assert await site.alarms() == {KeptManifestError.code}


async def test_a_log_whose_tiles_were_changed_proves_nothing(site: CustodySite) -> None:
    """A proof that leads nowhere would be an alarm at the dock; it is one here."""
    log = site.log()
    await proved(site, log, *(answer(number) for number in range(3)))
    await enter(site, answer(3))
    await log.seal()
    tile = site.folder / "tile/0/000.p/4"
    tile.write_bytes(bytes(32) + tile.read_bytes()[32:])

    assert await log.covered([answer(1)]) == []

    assert await site.alarms() == {LogChangedError.code}


async def test_a_log_whose_tiles_are_gone_proves_nothing(site: CustodySite) -> None:
    """It is an alarm, and no receipt is sent."""
    log = site.log()
    await proved(site, log, *(answer(number) for number in range(300)))
    (site.folder / "tile/1/000.p/1").unlink()

    assert await proved(site, log, answer(300)) == []

    assert await site.alarms() == {LogChangedError.code}


async def test_receipts_are_found_in_a_log_that_was_read_back(site: CustodySite) -> None:
    """A catalogue that was set back numbers its own entries anew; each receipt has its place."""
    log, dock = site.log(), Watcher()
    receipts = [answer(number) for number in range(4)]
    for told in await proved(site, log, *receipts):
        dock.take(told)
    await log.watchers.take(dock.says(), SITE)
    await site.execute("DELETE FROM custody_entries WHERE entry_index > 1")
    await site.execute("DELETE FROM custody_checkpoint")
    late = answer(4)

    for told in await proved(site, site.log(), late):
        assert dock.take(told)
    for told in await site.log().covered(receipts):
        assert dock.take(told)

    assert len(site.logged()) == 5


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"noise", FindingCode.STATEMENT_UNREADABLE),
        (b'{"note":"no note"}', FindingCode.STATEMENT_UNREADABLE),
        (b'{"note":"' + b"x" * 200_000 + b'"}', FindingCode.STATEMENT_UNREADABLE),
        (b'{"note":"a\\n0\\nb\\n\\n\xe2\x80\x94 a AAAAAAA=\\n"}', FindingCode.SIGNATURE_WRONG),
    ],
)
async def test_noise_is_kept_as_refused(site: CustodySite, body: bytes, code: FindingCode) -> None:
    """Counted and shown, like any message that cannot be believed."""
    received = Received(untrusted_topic=of_dock(DOCK, Channel.COSIGNATURES), untrusted_body=body)

    await site.log().watchers.take(received, SITE)

    [row] = await rows(site, refused_messages)
    assert (row.body, row.code) == (body, code.value)
    assert LogFiles(site.folder).watched() == {}


async def test_only_a_dock_speaks_for_itself(site: CustodySite) -> None:
    """Another dock's signature, another dock's topic, a dock of nobody, no cosignature at all."""
    log, dock = site.log(), Watcher()
    [told] = await proved(site, log, answer(1))
    dock.take(told)
    assert dock.memory is not None
    note = dock.memory.note
    stranger = signing_key("a stranger")
    for received in (
        dock.says(key=KEYS[OTHER]),
        dock.says(key=stranger),
        Received(
            untrusted_topic=of_dock(OTHER, Channel.COSIGNATURES),
            untrusted_body=dock.says().untrusted_body,
        ),
        cosigned(note, DockId("dock-99"), key=stranger),
        Received(
            untrusted_topic=of_dock(DOCK, Channel.COSIGNATURES),
            untrusted_body=encode(SeenCheckpoint(note=note.decode())),
        ),
        cosigned(sign_checkpoint(open_checkpoint(note, KEY.public), stranger), DOCK),
    ):
        await log.watchers.take(received, SITE)

    assert len(await rows(site, refused_messages)) == 6
    assert LogFiles(site.folder).watched() == {}
    assert await site.alarms() == set()


@pytest.mark.parametrize("size", [1, 2, 3])
async def test_a_dock_that_saw_another_log_is_an_alarm(site: CustodySite, size: int) -> None:
    """A fork, or a log that was longer: its word is kept, byte for byte."""
    log = site.log()
    [told] = await proved(site, log, answer(1))
    await proved(site, log, answer(2))
    origin = open_checkpoint(
        read_note(
            parse_logged_receipt(told.envelope).inclusion.partition("\n\n")[2].encode()
        ).encode(),
        KEY.public,
    ).origin
    other = sign_checkpoint(Checkpoint(origin=origin, size=size, root=bytes(32)), KEY)
    received = cosigned(other, DOCK)

    await log.watchers.take(received, SITE)

    assert await site.alarms() == {FindingCode.LOG_DIFFERS.value}
    [row] = await rows(site, refused_messages)
    assert row.body == received.untrusted_body
    assert LogFiles(site.folder).watched() == {}


async def test_a_log_that_was_cut_blocks_only_who_saw_more(
    site: CustodySite, tmp_path: Path
) -> None:
    """The dock that saw more says so; the others get their receipts."""
    log, dock, other = site.log(), Watcher(), Watcher(OTHER)
    [told] = await proved(site, log, answer(1, OTHER))
    assert other.take(told)
    await log.watchers.take(other.says(), SITE)
    shutil.copytree(site.folder, tmp_path / "older")
    for told in await proved(site, log, *(answer(number) for number in range(2, 6))):
        dock.take(told)
    await log.watchers.take(dock.says(), SITE)
    shutil.rmtree(site.folder)
    shutil.copytree(tmp_path / "older", site.folder)
    note = (site.folder / "checkpoint").read_bytes()
    await site.execute("DELETE FROM custody_entries WHERE entry_index > 0")
    await site.execute("UPDATE custody_checkpoint SET note = :note", note=note)
    log = site.log()

    told, to_other = await proved(site, log, answer(9), answer(8, OTHER))

    assert other.take(to_other)
    assert not dock.take(told)
    await log.watchers.take(dock.says(asks_again=True), SITE)
    assert await site.alarms() == {FindingCode.LOG_DIFFERS.value}
