"""A dock whose no-internet rule is broken takes footage and sends nothing; it says so, signed."""

import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from demo.programs import ours
from demo.site import Site, SiteOptions
from demo.watching import Watching
from protocol.attestation import Attestation
from protocol.envelope import keyring, open_statement, take_apart
from protocol.manifest import Isolation, Manifest
from protocol.messages import BayState
from protocol.strict_json import parse
from protocol.versions import Statement
from runtime.keys import load_certificate_key
from tests.hardware.recorders import recorder
from tests.simulators.guard_word import GUARD, guarding, word_of

pytestmark = pytest.mark.processes


def _manifests(site: Site) -> list[Manifest]:
    with closing(sqlite3.connect(site.root / "server" / "catalogue.sqlite")) as catalogue:
        rows = catalogue.execute("SELECT envelope FROM manifests").fetchall()
    return [
        parse(take_apart(envelope).payload, Manifest, max_bytes=16 << 20) for (envelope,) in rows
    ]


def _attested(site: Site) -> list[bytes]:
    with closing(sqlite3.connect(site.root / "server" / "catalogue.sqlite")) as catalogue:
        rows = catalogue.execute("SELECT envelope FROM attestations ORDER BY sequence").fetchall()
    return [envelope for (envelope,) in rows]


def _until(site: Site, state: BayState) -> None:
    with Watching(site.control_socket) as watching:
        while watching.next(timeout_s=240).state is not state:
            pass


def _run(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(ours(*words), capture_output=True, text=True, check=False, timeout=240)


def _knows_who_is_registered(site: Site) -> bool:
    status = _run("edge-agent", "status", "--json", "--config", site.config("edge"))
    return bool(json.loads(status.stdout or "{}").get("dock", {}).get("registry_version"))


def test_footage_is_taken_and_kept_back(tmp_path: Path) -> None:
    """Its manifest says that the rule was broken, and so do attestations; then all goes out."""
    one = recorder(tmp_path / "recorder", 1)
    site = Site(tmp_path / "site", [one.registered], SiteOptions(bays=1, reconcile_s=1))
    site.prepare()
    path = tmp_path / "guard.sock"
    config = Path(site.config("edge"))
    config.write_text(config.read_text() + GUARD.format(socket=path))
    breached = word_of(Isolation.BREACHED, is_open=True, changes=1)
    with guarding(path, word_of(Isolation.RESTORED, is_open=False)) as guard:
        try:
            site.start_archive()
            site.start_dock()
            # Who is registered has to be known first; that is heard from the archive.
            site.edge.wait_until(lambda: _knows_who_is_registered(site), timeout_s=240)
            guard.say(breached)
            shutil.copytree(one.folder, site.root / "card")
            site.bay(1).parent.mkdir(exist_ok=True)
            (site.root / "card").rename(site.bay(1))
            _until(site, BayState.SEALED)
            kept_back = _manifests(site)
            guard.say(word_of(Isolation.RESTORED, is_open=False, changes=2))
            _until(site, BayState.RELEASABLE)
            asked = _run(
                *("server-agent", "command", "--dock", "dock-01", "--config"),
                *(site.config("server"), "attest"),
            )
            shown = _run("edge-agent", "attestations", "--config", site.config("edge"))
            said = asked.stdout.strip().encode()
            site.edge.wait_until(lambda: said in _attested(site), timeout_s=240)
        finally:
            site.stop()

    assert kept_back == []
    assert [one.isolation for one in _manifests(site)] == [Isolation.BREACHED]
    keys = keyring(load_certificate_key(site.pki / "dock-01" / "signing.pem"))
    attestation = open_statement(said, Statement.ATTESTATION, Attestation, keys)
    assert attestation.isolation is Isolation.RESTORED
    assert attestation.counted.changes == 2
    assert "breached, 1 broken" in shown.stdout
    assert shown.stdout.count(", 1 broken") == 2
    assert (shown.returncode, "✓" in shown.stdout) == (0, True), shown.stderr
