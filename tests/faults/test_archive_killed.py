"""The archive's process is killed at any moment, again and again: everything is archived once."""

import asyncio
import contextlib
import hashlib
import random
import socket
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from protocol.checkpoint import open_checkpoint
from protocol.custody import (
    AttestationKept,
    BagArchived,
    LogEntry,
    ManifestAdmitted,
    ReceiptIssued,
    parse_entry,
)
from protocol.identifiers import ManifestId
from server_agent.adapters.bag_verifier import verify_path
from server_agent.adapters.log_files import LogFiles
from server_agent.intake.missing import groups_of
from server_agent.ledger.log_check import LogReader, check_log
from tests.architecture.source_tree import ROOT
from tests.simulators.archive_site import DOCK, ArchiveSite, lay_out_site
from tests.simulators.broker import HOST
from tests.simulators.claims import Claim, Claimant
from tests.simulators.dock import Dock, connect_dock

pytestmark = pytest.mark.processes

KILLS = 8
# A process lives for any time up to this: from before its catalogue is open to some bags later.
LONGEST_LIFE_S = 3.0
TIMEOUT_S = 200.0


@contextlib.asynccontextmanager
async def archive_process(site: ArchiveSite) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run server-agent for the length of the block, then kill it."""
    with (site.root / "server.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "server_agent", "--config", str(site.config_file)),
            cwd=ROOT,
            stderr=log,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def make_claim(claimant: Claimant, chance: random.Random) -> Claim:
    def content() -> bytes:
        return chance.randbytes(chance.choice((0, 1, 5_000, 400_000)) + chance.randrange(100))

    recordings = [[content() for _ in range(chance.randint(1, 3))] for _ in range(2)]
    return claimant.claim(recordings=recordings, others=[content()])


async def keep_delivering(
    dock: Dock, claimant: Claimant, chance: random.Random, stop: asyncio.Event
) -> list[Claim]:
    """Deliver one docking after the other until told to stop."""
    delivered: list[Claim] = []
    while not stop.is_set():
        claim = make_claim(claimant, chance)
        await dock.deliver(claim, patient=True)
        delivered.append(claim)
    return delivered


@pytest.mark.timeout(TIMEOUT_S + 60)
async def test_killed_again_and_again_archives_everything_once(tmp_path: Path) -> None:
    """Every docking gets its receipt; every file stands in one bag, once; every bag verifies."""
    seed = random.randrange(1 << 32)  # the same again with pytest-randomly's -p
    chance = random.Random(seed)
    site = lay_out_site(tmp_path)
    claimant = Claimant(DOCK, site.key(DOCK), label=str(seed))
    stop = asyncio.Event()
    with site.broker():
        site.https_port = free_port()
        site.configure()
        async with (
            asyncio.timeout(TIMEOUT_S),
            connect_dock(site, DOCK, site.https_port) as dock,
            asyncio.TaskGroup() as tasks,
        ):
            delivering = tasks.create_task(keep_delivering(dock, claimant, chance, stop))
            for _ in range(KILLS):
                async with archive_process(site):
                    await asyncio.sleep(chance.uniform(0, LONGEST_LIFE_S))
            async with archive_process(site):
                stop.set()
                delivered = await delivering

    assert_archived_once(site, delivered)
    assert_logged_once(site, delivered)


def assert_archived_once(site: ArchiveSite, delivered: list[Claim]) -> None:
    reports = list(verify_path(site.archive, ca_pem=site.authority.ca.read_bytes()))
    stored = Counter(
        hashlib.sha256(path.read_bytes()).hexdigest() for path in site.archive.rglob("data/*")
    )
    with closing(sqlite3.connect(site.root / "catalogue.sqlite")) as catalogue:
        states = catalogue.execute("SELECT DISTINCT state FROM manifests").fetchall()
        catalogued = {row[0] for row in catalogue.execute("SELECT path FROM bags")}

    assert delivered
    assert not [report for report in reports if not report.ok]
    assert {report.path for report in reports} == {str(site.archive / one) for one in catalogued}
    assert stored.keys() == {digest for claim in delivered for digest in claim.contents}
    # Empty and one-byte files repeat from docking to docking; the large ones are each unique.
    assert all(stored[digest] == 1 for one in delivered for digest in large(one))
    assert states == [("archived",)]


def assert_logged_once(site: ArchiveSite, delivered: list[Claim]) -> None:
    """Every admission, group and receipt is under the checkpoint, once, and all of it is good."""
    files = LogFiles(site.archive / "custody")
    checkpoint = open_checkpoint(files.read_checkpoint() or b"", site.archive_key)
    reader = LogReader(checkpoint.size, files.read)
    logged = Counter(
        (type(entry), entry.manifest_id)
        for index in range(checkpoint.size)
        for entry in [parse_entry(reader.entry(index))]
        if not isinstance(entry, AttestationKept)
    )
    expected = Counter[tuple[type[LogEntry], ManifestId]]()
    for claim in delivered:
        manifest = claim.manifest
        expected[ManifestAdmitted, manifest.manifest_id] = 1
        expected[BagArchived, manifest.manifest_id] = len(groups_of(manifest))
        expected[ReceiptIssued, manifest.manifest_id] = 1

    assert logged == expected
    assert list(check_log(checkpoint, files.read)) == []


def large(claim: Claim) -> list[str]:
    return [digest for digest, content in claim.contents.items() if len(content) > 100]
