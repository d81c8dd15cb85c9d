"""The archive's intake of attestations, without a network, and docks that really sign."""

import contextlib
import itertools
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.engine import make_url

from protocol.attestation import Attestation
from protocol.attested import Attested
from protocol.chain import GENESIS, ChainHead
from protocol.digest import sha256_hex
from protocol.envelope import keyring, open_statement, sign_statement, take_apart
from protocol.identifiers import DockId
from protocol.keys import SigningKey
from protocol.topics import Channel, of_dock
from protocol.versions import Statement
from scripts.samples import attestation
from server_agent.adapters.catalogue_store import open_catalogue
from server_agent.adapters.log_files import LogFiles
from server_agent.alarms import Alarms
from server_agent.app import load_signer_key
from server_agent.archive.layout import CUSTODY
from server_agent.attesting import AttestationIntake
from server_agent.catalogue.book import Received
from server_agent.custody import CustodyLog
from server_agent.registering import issue_registry
from server_agent.signing import Signer
from tests.simulators.archive_site import DOCK, ArchiveSite

NOW: Final = datetime(2026, 11, 27, 8, 0, tzinfo=UTC)


@dataclass(slots=True)
class Chain:
    """Attestations of one dock, each after the one before.

    Attributes:
        sent: Their envelopes; number 1 is the first.
    """

    key: SigningKey
    dock: DockId = DOCK
    head: ChainHead = GENESIS
    sent: list[bytes] = field(default_factory=list)

    def next(self, **facts: Any) -> bytes:
        """Sign the next one."""
        envelope = self.signed(attestation(self.head, **({"dock": self.dock} | facts)))
        sequence, payload = self.head.sequence + 1, take_apart(envelope).payload
        self.head = ChainHead(sequence=sequence, payload_sha256=sha256_hex(payload))
        self.sent.append(envelope)
        return envelope

    def signed(self, one: Attestation) -> bytes:
        """Sign one that is not remembered."""
        return sign_statement(one, Statement.ATTESTATION, self.key)


class AttestationBench:
    """One site's archive, which may be stopped and started again; *now* is its clock."""

    def __init__(self, site: ArchiveSite) -> None:
        self.site = site
        self.now = NOW
        self._stack = contextlib.AsyncExitStack()

    async def start(self) -> None:
        """Start as the program does; registry.toml is read anew."""
        config = self.site.configure()
        store = await self._stack.enter_async_context(
            open_catalogue(make_url(config.catalogue.url))
        )
        key = load_signer_key(config.signing)
        signer = Signer(key=key, clock=lambda: self.now, entropy=os.urandom)
        in_force = await issue_registry(
            config.registry, ca=config.tls.ca, store=store, signer=signer
        )
        self._known, self._store = in_force.site, store
        files = LogFiles(self.site.archive / CUSTODY)
        self.custody = CustodyLog(store, files, signer=signer, alarms=Alarms(store, signer))
        self.intake = AttestationIntake(store, signer=signer, custody=self.custody)

    async def stop(self) -> None:
        """Stop wherever everything stands."""
        await self._stack.aclose()

    async def send(self, *bodies: bytes, dock: str = DOCK) -> list[Attested]:
        """Hand over messages as one batch; return the answers."""
        topic = of_dock(DockId(dock), Channel.ATTESTATIONS)
        batch = [Received(untrusted_topic=topic, untrusted_body=body) for body in bodies]
        answers = await self.intake.take(batch, self._known)
        keys = keyring(self.site.archive_key)
        assert {answer.channel for answer in answers} <= {Channel.ATTESTED}
        return [
            open_statement(answer.envelope, Statement.ATTESTED, Attested, keys)
            for answer in answers
        ]

    @contextlib.contextmanager
    def stopping_after(self, allowed: int, error: type[Exception]) -> Iterator[list[str]]:
        """Raise *error* at the statement after so many, or at the commit; yield at which it did."""
        stopped: list[str] = []
        count = itertools.count()

        def look(statement: str) -> None:
            if next(count) >= allowed:
                stopped.append(statement)
                raise error

        def before(_c: object, _cursor: object, statement: str, *_: object) -> None:
            look(statement)

        def commit(_connection: object) -> None:
            look("COMMIT")

        engine = self._store._writer.sync_engine  # noqa: SLF001 - where a power cut happens
        event.listen(engine, "before_cursor_execute", before)
        event.listen(engine, "commit", commit)
        try:
            yield stopped
        finally:
            event.remove(engine, "before_cursor_execute", before)
            event.remove(engine, "commit", commit)

    async def note_silence(self) -> None:
        """Look who attests no more, as the program does now and then."""
        await self.intake.note_silence(self._known)

    def rows(self, query: str) -> Sequence[Any]:
        """What the catalogue says, by another program's eyes."""
        path = f"file:{self.site.root}/catalogue.sqlite?mode=ro"
        with closing(sqlite3.connect(path, uri=True)) as one:
            return one.execute(query).fetchall()

    def kept(self) -> list[bytes]:
        """Every envelope that is kept, in order."""
        query = "SELECT envelope FROM attestations ORDER BY dock, sequence"
        return [envelope for (envelope,) in self.rows(query)]

    def refused(self) -> dict[bytes, str]:
        """What is kept as refused, and by which check."""
        return dict(self.rows("SELECT body, code FROM refused_messages"))

    def alerts(self) -> list[tuple[str, str | None]]:
        """What was raised, about which dock."""
        return list(self.rows("SELECT code, dock FROM alerts ORDER BY raised_at, alert_id"))
