"""Commands of the archive: done once, on its word alone, and what becomes of them is told."""

import errno
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_agent.adapters.command_desk import CannotError, CommandDesk
from edge_agent.adapters.journal import Journal
from edge_agent.adapters.notice_store import NoticeStore
from protocol.commands import MAX_CONTENT_CHARACTERS, Command, CommandOutcome, CommandVerb
from protocol.envelope import keyring, sign_statement
from protocol.identifiers import BayNumber, CommandId, DockId, mint_uuid7
from protocol.keys import SigningKey
from protocol.versions import Statement
from tests.simulators.sealed_manifests import DOCK

ARCHIVE, STRANGER = (SigningKey(Ed25519PrivateKey.generate()) for _ in range(2))
NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
TOPIC = f"bayward/v1/docks/{DOCK}/commands"


def _command(sequence: int = 1, **changes: Any) -> Command:
    command = Command(
        command_id=CommandId(mint_uuid7(unix_ms=1, entropy=bytes(9) + bytes([sequence]))),
        dock=DOCK,
        sequence=sequence,
        verb=CommandVerb.DOCTOR,
        issued_at=NOW,
        expires_at=NOW + timedelta(minutes=2),
        asked_by="admin",
    )
    return msgspec.structs.replace(command, **changes)


def _signed(command: Command, key: SigningKey = ARCHIVE) -> bytes:
    return sign_statement(command, Statement.COMMAND, key)


class Desk:
    """A desk, and what was done there."""

    def __init__(self, journal: Journal) -> None:
        self.notices = NoticeStore(journal, dock=DOCK, clock=lambda: NOW)
        self.desk = CommandDesk(
            journal,
            self.notices,
            dock=DOCK,
            bays=frozenset({BayNumber(1)}),
            archive_keys=keyring(ARCHIVE.public),
            clock=lambda: self.now,
        )
        self.now = NOW
        self.done: list[Command] = []
        self.content = "content"
        self.error: Exception | None = None
        self.desk.acts = dict.fromkeys(CommandVerb, self._act)

    async def _act(self, command: Command) -> str:
        self.done.append(command)
        if self.error is not None:
            raise self.error
        return self.content

    async def take(self, untrusted: bytes) -> None:
        await self.desk.take(TOPIC, untrusted)

    async def do_one(self) -> None:
        await self.desk._do(await self.desk._to_do.get())  # noqa: SLF001 - one step of run()


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    async with Journal.open(tmp_path / "journal.sqlite") as journal:
        yield journal


async def test_a_command_is_done_and_answered(journal: Journal) -> None:
    """Once it was told, nothing more is."""
    desk = Desk(journal)

    await desk.take(_signed(_command()))
    await desk.do_one()

    answer = desk.desk.next_answer()
    assert answer is not None
    assert (answer.outcome, answer.content) == (CommandOutcome.DONE, "content")
    assert answer.command_id == _command().command_id
    desk.desk.answer_told(answer)
    assert desk.desk.next_answer() is None


@pytest.mark.parametrize("sequence", [1, 4, 5])
async def test_no_command_is_done_twice(journal: Journal, sequence: int) -> None:
    """The same one again, or an older one, is refused, kept and counted; also after a new start.

    A dock that was killed between noting a command and doing it never does it.
    """
    await Desk(journal).take(_signed(_command(5)))
    desk = Desk(journal)

    await desk.take(_signed(_command(sequence)))

    answer = desk.desk.next_answer()
    assert answer is not None
    assert (answer.outcome, answer.code) == (CommandOutcome.REFUSED, "E-CMD-103")
    assert answer.last_sequence == 5
    assert not desk.done
    assert await desk.notices.unhandled_count() == 1


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"expires_at": NOW - timedelta(minutes=6)}, "E-CMD-102"),
        (
            {
                "issued_at": NOW + timedelta(minutes=6),
                "expires_at": NOW + timedelta(minutes=8),
            },
            "E-CMD-102",
        ),
        ({"expires_at": NOW + timedelta(minutes=11)}, "E-CMD-102"),
        ({"bay": BayNumber(9)}, "E-CMD-104"),
        ({"verb": CommandVerb.IDENTIFY}, "E-CMD-104"),
    ],
)
async def test_commands_that_are_refused(
    journal: Journal, changes: dict[str, Any], code: str
) -> None:
    """Whoever asked is told why; nothing is done."""
    desk = Desk(journal)

    await desk.take(_signed(_command(**changes)))

    answer = desk.desk.next_answer()
    assert answer is not None
    assert (answer.outcome, answer.code) == (CommandOutcome.REFUSED, code)
    assert not desk.done


async def test_an_expired_command_stays_expired(journal: Journal) -> None:
    """Also when the dock's clock is set back, and the same command comes again."""
    late = Desk(journal)
    late.now = NOW + timedelta(hours=1)
    await late.take(_signed(_command()))
    set_back = Desk(journal)

    await set_back.take(_signed(_command()))

    answer = set_back.desk.next_answer()
    assert answer is not None
    assert answer.code == "E-CMD-103"


async def test_a_disk_that_fails_is_no_answer(journal: Journal) -> None:
    """It is for the whole program to deal with."""
    desk = Desk(journal)
    desk.error = OSError(errno.EIO, "Input/output error")
    await desk.take(_signed(_command()))

    with pytest.raises(OSError, match="Input/output"):
        await desk.do_one()


async def test_clocks_that_differ_a_little(journal: Journal) -> None:
    """Four minutes are nothing on a network without a time server."""
    desk = Desk(journal)

    await desk.take(_signed(_command(expires_at=NOW - timedelta(minutes=4))))
    await desk.do_one()

    assert len(desk.done) == 1


@pytest.mark.parametrize(
    "untrusted",
    [
        b"",
        b"{",
        _signed(_command(), STRANGER),
        sign_statement(_command(), Statement.RECEIPT, ARCHIVE),
        _signed(_command(dock=DockId("dock-99"))),
        _signed(_command()).replace(b"payload", b"Payload", 1),
        b" " * (16 * 1024 + 1),
    ],
    ids=["nothing", "half", "a stranger", "a receipt", "another dock", "damaged", "endless"],
)
async def test_what_is_no_command_for_us(journal: Journal, untrusted: bytes) -> None:
    """It is kept and counted, and not answered: nobody of ours asked."""
    desk = Desk(journal)

    await desk.take(untrusted)

    assert await desk.notices.unhandled_count() == 1
    assert desk.desk.next_answer() is None
    assert not desk.done


async def test_what_goes_wrong_is_told(journal: Journal) -> None:
    """A dock without the means refuses; a fault of ours is a failure with its code."""
    desk = Desk(journal)
    for sequence, error in enumerate((CannotError("no lights"), ValueError("a bug")), start=1):
        desk.error = error
        await desk.take(_signed(_command(sequence)))
        await desk.do_one()

    refused = desk.desk.next_answer()
    assert refused is not None
    desk.desk.answer_told(refused)
    failed = desk.desk.next_answer()
    assert failed is not None
    assert (refused.outcome, refused.code) == (CommandOutcome.REFUSED, "E-CMD-104")
    assert (failed.outcome, failed.code) == (CommandOutcome.FAILED, "E-CMD-105")


async def test_a_long_answer_keeps_its_end(journal: Journal) -> None:
    """Of a log the last lines say most."""
    desk = Desk(journal)
    desk.content = "x" * MAX_CONTENT_CHARACTERS + "the end"

    await desk.take(_signed(_command()))
    await desk.do_one()

    answer = desk.desk.next_answer()
    assert answer is not None
    assert len(answer.content) == MAX_CONTENT_CHARACTERS
    assert answer.content.endswith("the end")
