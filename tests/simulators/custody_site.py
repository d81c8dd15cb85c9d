"""A custody log with a real catalogue and real files, without the rest of an archive."""

import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import select, text
from sqlalchemy.engine import make_url

from protocol.checkpoint import Checkpoint, open_checkpoint
from protocol.keys import SigningKey
from protocol.tiles import TILE_WIDTH
from scripts.samples import signing_key
from server_agent.adapters.catalogue_store import CatalogueStore, open_catalogue
from server_agent.adapters.custody_records import append_entries, load_entries
from server_agent.adapters.log_files import LogFiles
from server_agent.alarms import Alarms
from server_agent.app import utc_now
from server_agent.catalogue.tables import alerts
from server_agent.custody import CustodyLog
from server_agent.ledger.custody import Logged
from server_agent.ledger.log_check import LogFault, LogReader, check_log
from server_agent.signing import Signer

KEY: Final = signing_key("archive")
CHECKER: Final = Path(__file__).resolve().parents[2] / "docs/check_log.py"


@dataclass(slots=True, kw_only=True)
class CustodySite:
    """A log in ``folder`` whose entries are in ``store``."""

    store: CatalogueStore
    folder: Path

    def log(self, key: SigningKey = KEY) -> CustodyLog:
        """Return the log as a program that starts now has it."""
        signer = Signer(key=key, clock=utc_now, entropy=os.urandom)
        alarms = Alarms(self.store, signer)
        return CustodyLog(self.store, LogFiles(self.folder), signer=signer, alarms=alarms)

    async def commit(self, *entries: bytes) -> None:
        """Commit events with these entries."""
        async with self.store.writing() as connection:
            await append_entries(connection, [Logged(entry=one) for one in entries])

    async def committed(self) -> list[bytes]:
        """Return all entries of the catalogue."""
        async with self.store.reading() as connection:
            return await load_entries(connection, first=0, limit=1_000_000)

    async def alarms(self) -> set[str]:
        """Return the codes of the alerts that were raised."""
        async with self.store.reading() as connection:
            return set((await connection.execute(select(alerts.c.code))).scalars())

    async def execute(self, sql: str, **values: Any) -> None:
        """Do to the catalogue what nobody should."""
        async with self.store.writing() as connection:
            await connection.execute(text(sql), values)

    def checkpoint(self) -> Checkpoint | None:
        """Return the checkpoint that stands on the disk, its signature verified."""
        note = LogFiles(self.folder).read_checkpoint()
        return None if note is None else open_checkpoint(note, KEY.public)

    def faults(self) -> list[LogFault]:
        """Return what is wrong with the log of the checkpoint on the disk."""
        checkpoint = self.checkpoint()
        return [] if checkpoint is None else list(check_log(checkpoint, LogFiles(self.folder).read))

    def logged(self) -> list[bytes]:
        """Return the entries that the checkpoint on the disk stands for."""
        checkpoint = self.checkpoint()
        if checkpoint is None:
            return []
        reader = LogReader(checkpoint.size, LogFiles(self.folder).read)
        bundles = range(-(-checkpoint.size // TILE_WIDTH))
        return [entry for number in bundles for entry in reader.bundle(number)]


@contextlib.asynccontextmanager
async def open_custody_site(root: Path) -> AsyncIterator[CustodySite]:
    """Make a catalogue; the log has not begun."""
    url = make_url(f"sqlite+aiosqlite:///{root / 'catalogue.sqlite'}")
    async with open_catalogue(url) as store:
        yield CustodySite(store=store, folder=root / "custody")


def check_as_an_expert(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run docs/check_log.py, as it is handed on, with the log's key."""
    key = folder / "archive.pem"
    if not key.exists():
        openssl = ("openssl", "pkey", "-pubin", "-inform", "DER", "-out", str(key))
        subprocess.run(openssl, input=KEY.public.spki_der, check=True)
    command = [sys.executable, "-I", str(CHECKER)]
    command += [one.replace("KEY", str(key)) for one in arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)
