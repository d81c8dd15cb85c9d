"""The archive's key with the clock and the chance that its statements need."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from protocol.attested import Attested
from protocol.commands import Command
from protocol.custody import SALT_BYTES
from protocol.envelope import sign_statement
from protocol.identifiers import DockId, mint_uuid7
from protocol.keys import SigningKey
from protocol.receipt import Admission, ArchivedBag, Refusal
from protocol.topics import Channel
from protocol.versions import Statement
from server_agent.catalogue.rows import Row, own_alert_row
from server_agent.intake.checks import Claim
from server_agent.ledger import statements

_ENTROPY_BYTES: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A signed statement for one dock, and where it goes.

    Attributes:
        needs_checkpoint: It is sent only when what was committed with it is under a checkpoint.
    """

    dock: DockId
    envelope: bytes
    channel: Channel = Channel.RECEIPTS
    needs_checkpoint: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Signs, and says when.

    Attributes:
        key: The archive's.
        clock: Returns the time in UTC.
        entropy: Returns so many random bytes.
    """

    key: SigningKey
    clock: Callable[[], datetime]
    entropy: Callable[[int], bytes]

    def answer(self, statement: Admission | Refusal) -> Answer:
        """Return *statement* signed, for its dock."""
        return Answer(dock=statement.dock, envelope=statements.sign(statement, self.key))

    def receipt(self, claim: Claim, bags: Sequence[ArchivedBag], *, now_utc: datetime) -> bytes:
        """Return the signed receipt of a manifest whose groups stand in *bags*."""
        entropy = self.entropy(_ENTROPY_BYTES)
        receipt = statements.receipt(claim, bags=bags, now_utc=now_utc, entropy=entropy)
        return statements.sign(receipt, self.key)

    def salt(self) -> bytes:
        """Return a salt that nothing else gets."""
        return self.entropy(SALT_BYTES)

    def command(self, command: Command) -> Answer:
        """Return *command* signed, for its dock."""
        envelope = sign_statement(command, Statement.COMMAND, self.key)
        return Answer(dock=command.dock, envelope=envelope, channel=Channel.COMMANDS)

    def attested(self, attested: Attested) -> Answer:
        """Return *attested* signed, for its dock."""
        envelope = sign_statement(attested, Statement.ATTESTED, self.key)
        return Answer(dock=attested.dock, envelope=envelope, channel=Channel.ATTESTED)

    def alert(
        self, code: str, text: str, facts: Mapping[str, str], *, dock: DockId | None = None
    ) -> Row:
        """Return the row of an alert that the archive raises itself, now; about *dock*, if any."""
        now_utc = self.clock()
        alert_id = mint_uuid7(
            unix_ms=statements.unix_ms(now_utc), entropy=self.entropy(_ENTROPY_BYTES)
        )
        return own_alert_row(
            alert_id=alert_id, code=code, text=text, facts=facts, now_utc=now_utc, dock=dock
        )
