"""Attestations of a whole site reach its archive, each once, whatever is killed."""

import random
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest

from demo.programs import ours
from demo.site import Site, SiteOptions
from edge_agent.adapters.attestations import AttestationFolder
from protocol.attested import Attested
from protocol.custody import AttestationKept, parse_entry
from protocol.envelope import keyring, open_statement
from protocol.manifest import Isolation
from protocol.versions import Statement
from runtime.keys import load_certificate_key
from tests.simulators.guard_word import GUARD, guarding, word_of

pytestmark = pytest.mark.processes

KILLS = 6
PATIENCE_S = 120


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "site", [], SiteOptions(bays=1, reconcile_s=1))
    site.prepare()
    config = Path(site.config("edge"))
    config.write_text(config.read_text() + GUARD.format(socket=tmp_path / "guard.sock"))
    with guarding(tmp_path / "guard.sock", word_of(Isolation.HOLDING, is_open=False)):
        try:
            yield site
        finally:
            site.stop()


def made(site: Site) -> list[bytes]:
    files = AttestationFolder(site.root / "dock" / "attestations").files()
    return [path.read_bytes() for _, path in files]


def has_made(site: Site, count: int) -> bool:
    return len(made(site)) >= count


def answered(site: Site) -> int:
    path = site.root / "dock" / "attestations" / "answered.dsse.json"
    if not path.exists():
        return 0
    keys = keyring(load_certificate_key(site.pki / "archive" / "signing.pem"))
    return open_statement(path.read_bytes(), Statement.ATTESTED, Attested, keys).sequence


@contextmanager
def catalogue(site: Site) -> Iterator[sqlite3.Connection]:
    path = site.root / "server" / "catalogue.sqlite"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as one:
        yield one


@pytest.mark.timeout(400)
def test_killed_programs_keep_each_attestation_once(site: Site) -> None:
    """Dock, archive and broker are killed at random moments; what was made is there, in order."""
    dice = random.Random(3)
    site.start_archive()
    site.start_dock()
    for kill in range(KILLS):
        site.edge.wait_until(partial(has_made, site, kill + 1), timeout_s=PATIENCE_S)
        if dice.random() < 0.5:
            site.edge.wait_until(lambda: answered(site) == len(made(site)), timeout_s=PATIENCE_S)
        killed = dice.sample([site.broker, site.server], dice.randrange(3))
        for program in [*killed, site.edge]:
            program.kill()
        for program in killed:
            program.start()
        site.start_dock()
    site.edge.wait_until(partial(has_made, site, KILLS + 1), timeout_s=PATIENCE_S)
    site.edge.wait_until(lambda: answered(site) == len(made(site)), timeout_s=PATIENCE_S)
    site.stop()

    with catalogue(site) as found:
        kept = found.execute("SELECT envelope FROM attestations ORDER BY sequence").fetchall()
        entries = found.execute("SELECT entry FROM custody_entries").fetchall()
        refused = found.execute("SELECT code FROM refused_messages").fetchall()
    logged = [parse_entry(entry) for (entry,) in entries]
    numbers = [one.sequence for one in logged if isinstance(one, AttestationKept)]
    assert [envelope for (envelope,) in kept] == made(site)
    assert numbers == list(range(1, len(kept) + 1))
    assert refused == []
    shown = subprocess.run(
        ours("edge-agent", "attestations", "--newest", "1", "--config", site.config("edge")),
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip().endswith(f"that it keeps them up to number {len(kept)}")
