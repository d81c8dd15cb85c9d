"""How many entries a second the custody log takes, and how long a proof out of it takes.

Taken is: committed in the catalogue, in files and under a signed checkpoint, all of it durable.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.engine import make_url

from bench.figures import Report
from demo.programs import DemoError
from protocol.checkpoint import open_checkpoint
from protocol.keys import SigningKey
from protocol.merkle import check_inclusion, leaf_hash, prove_inclusion
from server_agent.adapters.catalogue_store import CatalogueStore, open_catalogue
from server_agent.adapters.custody_records import append_entries
from server_agent.adapters.log_files import LogFiles
from server_agent.alarms import Alarms
from server_agent.app import utc_now
from server_agent.custody import CustodyLog
from server_agent.ledger.custody import Logged
from server_agent.ledger.log_check import LogReader, check_log
from server_agent.signing import Signer

LOGGED: Final = "custody log: committed, in files and signed"

# As long as the entry of an admission.
_ENTRY_BYTES: Final = 330
# In one transaction; how many come under one checkpoint is the log's affair.
_TOGETHER: Final = 200
_PROOFS: Final = 200


def measure_custody(report: Report, root_folder: Path, *, entries: int) -> None:
    """Let a log take *entries*, prove some of them, check all; report how long each took."""
    key = SigningKey(Ed25519PrivateKey.generate())
    files = LogFiles(root_folder / "custody")
    root_folder.mkdir(parents=True, exist_ok=True)
    seconds = asyncio.run(_log(root_folder, files, key, entries))
    note = f"{entries:,} entries, {_TOGETHER} a transaction"
    report.add(LOGGED, entries / seconds, "1/s", note=note)
    checkpoint = open_checkpoint(files.read_checkpoint() or b"", key.public)
    began = time.perf_counter()
    for number in range(_PROOFS):
        reader = LogReader(entries, files.read)  # nothing of the last one is in memory
        index = number * entries // _PROOFS
        proof = prove_inclusion(index, entries, reader.nodes)
        check_inclusion(index, entries, leaf_hash(reader.entry(index)), proof, checkpoint.root)
    each_ms = (time.perf_counter() - began) / _PROOFS * 1_000
    report.add("custody log: one proof, made and checked", each_ms, "ms")
    began = time.perf_counter()
    if list(check_log(checkpoint, files.read)) or checkpoint.size != entries:
        raise DemoError("the custody log is not what was logged")
    report.add("custody log: checked", entries / (time.perf_counter() - began), "1/s")


async def _log(folder: Path, files: LogFiles, key: SigningKey, entries: int) -> float:
    signer = Signer(key=key, clock=utc_now, entropy=os.urandom)
    url = make_url(f"sqlite+aiosqlite:///{folder / 'custody.sqlite'}")
    async with open_catalogue(url) as store:
        log = CustodyLog(store, files, signer=signer, alarms=Alarms(store, signer))
        batches = [_entries(min(_TOGETHER, entries - at)) for at in range(0, entries, _TOGETHER)]
        began = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            committing = tasks.create_task(_commit(store, batches))
            while not committing.done():
                await log.seal()
                await asyncio.sleep(0)
        await log.seal()
        return time.perf_counter() - began


async def _commit(store: CatalogueStore, batches: Sequence[Sequence[Logged]]) -> None:
    for batch in batches:
        async with store.writing() as connection:
            await append_entries(connection, batch)


def _entries(count: int) -> list[Logged]:
    return [
        Logged(entry=os.urandom(_ENTRY_BYTES), salt=os.urandom(32), personal=bytes(40))
        for _ in range(count)
    ]
