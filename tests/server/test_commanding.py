"""Commands leave signed, each with a higher number; who asked hears the answer, if there is one."""

import asyncio
import os
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.commands import Command, CommandAnswer, CommandOutcome, CommandVerb
from protocol.envelope import keyring, open_statement
from protocol.identifiers import BayNumber, DockId
from protocol.keys import SigningKey
from protocol.topics import Channel
from protocol.versions import Statement
from server_agent.commanding import CommandOffice
from server_agent.errors import DockUnknownError, NoAnswerError
from server_agent.signing import Answer, Signer

KEY = SigningKey(Ed25519PrivateKey.generate())
NOW = datetime(2026, 11, 26, 12, 0, 0, 250_000, tzinfo=UTC)
DOCK = DockId("dock-01")


class Sent:
    """An office whose commands go nowhere, but are kept."""

    def __init__(self) -> None:
        self.answers: asyncio.Queue[Answer] = asyncio.Queue()
        signer = Signer(key=KEY, clock=lambda: NOW, entropy=os.urandom)
        self.office = CommandOffice(
            signer, docks=lambda: frozenset({DOCK}), publish=self.answers.put_nowait
        )

    async def next(self) -> Command:
        sent = await self.answers.get()
        assert (sent.dock, sent.channel) == (DOCK, Channel.COMMANDS)
        return open_statement(sent.envelope, Statement.COMMAND, Command, keyring(KEY.public))


def _answer(command: Command) -> CommandAnswer:
    return CommandAnswer(
        command_id=command.command_id, dock=DOCK, at=NOW, outcome=CommandOutcome.DONE
    )


async def test_who_asked_hears_the_answer() -> None:
    """To this very command; others are nobody's."""
    sent = Sent()
    asking = asyncio.create_task(
        sent.office.ask(DOCK, CommandVerb.IDENTIFY, asked_by="admin", bay=BayNumber(3), seconds=9)
    )
    command = await sent.next()
    sent.office.answered(_answer(await _another()))
    sent.office.answered(_answer(command))
    sent.office.answered(_answer(command))

    assert (await asking).command_id == command.command_id
    assert (command.verb, command.bay, command.seconds) == (CommandVerb.IDENTIFY, 3, 9)
    assert command.asked_by == "admin"
    assert command.expires_at - command.issued_at == timedelta(minutes=2)


async def _another() -> Command:
    other = Sent()
    asking = asyncio.create_task(other.office.ask(DOCK, CommandVerb.DOCTOR, asked_by="admin"))
    command = await other.next()
    other.office.answered(_answer(command))
    await asking
    return command


async def test_numbers_only_rise() -> None:
    """Within a millisecond, and over a new start of the archive."""
    numbers = []
    for sent in (Sent(), Sent()):
        for _ in range(3):
            asking = asyncio.create_task(
                sent.office.ask(DOCK, CommandVerb.RESCAN, asked_by="admin")
            )
            command = await sent.next()
            sent.office.answered(_answer(command))
            await asking
            numbers.append(command.sequence)

    assert numbers[:3] == sorted(set(numbers[:3]))
    assert numbers[3:] == sorted(set(numbers[3:]))
    assert numbers[0] == int(NOW.timestamp() * 1000)


async def test_a_dock_that_has_seen_a_higher_number() -> None:
    """The archive's clock was ahead once: it goes on above what the dock says, once."""
    sent = Sent()
    asking = asyncio.create_task(sent.office.ask(DOCK, CommandVerb.DOCTOR, asked_by="admin"))
    first = await sent.next()
    ahead = first.sequence + 3_600_000
    refusal = msgspec.structs.replace(
        _answer(first),
        outcome=CommandOutcome.REFUSED,
        code="E-CMD-103",
        last_sequence=ahead,
    )
    sent.office.answered(refusal)
    second = await sent.next()
    sent.office.answered(_answer(second))

    assert second.sequence == ahead + 1
    assert (await asking).outcome is CommandOutcome.DONE


async def test_a_dock_that_does_not_answer() -> None:
    """Nobody waits for ever."""
    with pytest.raises(NoAnswerError, match="online"):
        await Sent().office.ask(
            DOCK, CommandVerb.DOCTOR, asked_by="admin", patience=timedelta(milliseconds=1)
        )


async def test_a_dock_that_nobody_knows() -> None:
    """Nothing is signed for it."""
    sent = Sent()
    with pytest.raises(DockUnknownError):
        await sent.office.ask(DockId("dock-99"), CommandVerb.DOCTOR, asked_by="admin")

    assert sent.answers.empty()
