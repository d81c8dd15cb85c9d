"""``server-agent log`` on an archive that has taken something in, and what was logged of it."""

import asyncio
import hashlib
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from protocol.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from protocol.custody import (
    AttestationKept,
    BagArchived,
    LogEntry,
    ManifestAdmitted,
    ReceiptIssued,
    parse_entry,
)
from protocol.envelope import take_apart
from protocol.receipt import Receipt
from runtime.keys import load_signing_key
from server_agent.adapters.log_files import LogFiles
from server_agent.cli import main
from tests.simulators.archive_site import DOCK, ArchiveSite, lay_out_site
from tests.simulators.claims import Claim, Claimant
from tests.simulators.custody_site import CHECKER
from tests.simulators.intake_bench import IntakeBench

ABSENT: Final = "01a207be-9420-7315-926a-a37e007be06d"


class Archived:
    """A site that archived two dockings."""

    def __init__(self, root: Path) -> None:
        self.site: ArchiveSite = lay_out_site(root)
        self.claims: list[Claim] = []
        self.log = self.site.archive / "custody"
        self.claimant = Claimant(DOCK, self.site.key(DOCK))
        asyncio.run(self.deliver(recordings=[[b"one", b"two"], [b"three"]], others=[b"log"]))
        asyncio.run(self.deliver(recordings=[[b"four"]]))

    async def deliver(self, **what: Any) -> None:
        claim = self.claimant.claim(**what)
        bench = IntakeBench(self.site)
        await bench.start()
        await bench.publish([claim])
        for digest in bench.missing(claim):
            await bench.upload(claim, claim.contents[digest])
        await bench.archive()
        assert isinstance(bench.last[claim.manifest.manifest_id], Receipt)
        self.receipts = dict(bench.receipts)
        self.claims.append(claim)
        await bench.stop()

    def entries(self) -> list[LogEntry]:
        size = int((self.log / "checkpoint").read_text().splitlines()[1])
        bundle = (self.log / f"tile/entries/000.p/{size}").read_bytes()
        found: list[LogEntry] = []
        while bundle:
            end = 2 + int.from_bytes(bundle[:2])
            found.append(parse_entry(bundle[2:end]))
            bundle = bundle[end:]
        return found

    def run(self, *arguments: str) -> int:
        return main(["log", *arguments, "--config", str(self.site.config_file)])


@pytest.fixture
def archived(tmp_path: Path) -> Archived:
    return Archived(tmp_path)


def _ask_the_checker(archived: Archived, file: Path) -> subprocess.CompletedProcess[str]:
    certificate = str(archived.site.signing["archive"].certificate)
    key = archived.site.root / "archive.pem"
    openssl = ("openssl", "x509", "-in", certificate, "-noout", "-pubkey", "-out", str(key))
    subprocess.run(openssl, check=True)
    command = (sys.executable, "-I", str(CHECKER), str(file), str(key))
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_event_has_its_entry_once(archived: Archived) -> None:
    """The manifest, each of its bags, then its receipt: with the digests of their exact bytes."""
    entries = archived.entries()
    first, second = (claim.manifest for claim in archived.claims)

    assert [type(one).__name__ for one in entries] == [
        *("ManifestAdmitted", "BagArchived", "BagArchived", "BagArchived", "ReceiptIssued"),
        *("ManifestAdmitted", "BagArchived", "ReceiptIssued"),
    ]
    named = [one.manifest_id for one in entries if not isinstance(one, AttestationKept)]
    assert named == [first.manifest_id] * 5 + [second.manifest_id] * 3
    admitted, receipt = entries[5], entries[7]
    assert isinstance(admitted, ManifestAdmitted)
    sealed = take_apart(archived.claims[1].envelope)
    assert admitted.payload_sha256 == hashlib.sha256(sealed.payload).hexdigest()
    [envelope] = archived.receipts[second.manifest_id]
    payload = take_apart(envelope).payload
    assert isinstance(receipt, ReceiptIssued)
    assert receipt.payload_sha256 == hashlib.sha256(payload).hexdigest()
    [bag] = json.loads(payload)["bags"]
    assert isinstance(entries[6], BagArchived)
    assert entries[6].tagmanifest_sha256 == bag["tagmanifest_sha256"]


def test_who_it_is_about_is_in_the_catalogue_alone(archived: Archived) -> None:
    """With the salt that its digest in the log was made with."""
    entries = archived.entries()
    with closing(sqlite3.connect(archived.site.root / "catalogue.sqlite")) as catalogue:
        rows = catalogue.execute(
            "SELECT salt, personal FROM custody_entries ORDER BY entry_index"
        ).fetchall()

    for entry, (salt, personal) in zip(entries, rows, strict=True):
        if isinstance(entry, ManifestAdmitted):
            assert hashlib.sha256(salt + personal).hexdigest() == entry.subject_sha256
            assert b'"officer"' in personal
        else:
            assert (salt, personal) == (None, None)
    assert len({salt for salt, _ in rows if salt}) == 2


def test_a_good_log_verifies(archived: Archived, capsys: pytest.CaptureFixture[str]) -> None:
    """With how many entries it has; also as a copy, with a certificate in place of a server."""
    assert archived.run("verify") == 0
    assert "8 entries" in capsys.readouterr().out

    copy = archived.site.root / "disc"
    shutil.copytree(archived.log, copy)
    certificate = str(archived.site.signing["archive"].certificate)
    assert main(["log", "verify", "--log", str(copy), "--certificate", certificate]) == 0
    assert _ask_the_checker(archived, copy).returncode == 0


def test_a_receipt_is_proved(archived: Archived, capsys: pytest.CaptureFixture[str]) -> None:
    """And a manifest; the plain checker takes both proofs, and no changed one."""
    file = archived.site.root / "one.tlog-proof"
    [receipt] = [one for one in archived.entries() if isinstance(one, ReceiptIssued)][:1]
    for asked in (("--receipt", receipt.receipt_id), ("--manifest", receipt.manifest_id)):
        assert archived.run("prove", *asked) == 0
        proof = capsys.readouterr().out
        file.write_text(proof)
        checked = _ask_the_checker(archived, file)
        assert checked.returncode == 0, checked.stderr
        assert asked[1] in checked.stdout

        for number in range(1, len(proof.splitlines())):
            lines = proof.splitlines(keepends=True)
            line = lines[number]
            if not line.strip():
                continue
            at = line.index("=") if "=" in line else len(line) - 1
            lines[number] = line[: at - 2] + ("B" if line[at - 2] == "A" else "A") + line[at - 1 :]
            file.write_text("".join(lines))
            assert _ask_the_checker(archived, file).returncode, lines[number]


def test_what_is_not_in_the_log_is_not_proved(
    archived: Archived, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said, and the exit status is 1."""
    assert archived.run("prove", "--receipt", ABSENT) == 1
    assert "not in the log" in capsys.readouterr().err


def test_entries_and_checkpoint_are_shown(
    archived: Archived, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a number on; the checkpoint byte for byte."""
    assert archived.run("entries", "--from", "6") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["6", "7"]
    assert archived.run("checkpoint") == 0
    assert capsys.readouterr().out.encode() == LogFiles(archived.log).read_checkpoint()


def test_a_log_that_was_cut_is_found_by_a_kept_checkpoint(
    archived: Archived, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An older state of the log, good in itself, is not what it was."""
    older, kept = tmp_path / "older", tmp_path / "kept"
    shutil.copytree(archived.log, older)
    asyncio.run(archived.deliver(recordings=[[b"five"]]))
    shutil.copy(archived.log / "checkpoint", kept)
    assert archived.run("verify", "--earlier", str(kept)) == 0
    shutil.rmtree(archived.log)
    older.rename(archived.log)
    assert archived.run("verify") == 0
    capsys.readouterr()

    assert archived.run("verify", "--earlier", str(kept)) == 1

    assert "it was cut" in capsys.readouterr().out


def test_another_history_is_found_by_a_kept_checkpoint(
    archived: Archived, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With both set back and made to go on otherwise, the archive sees nothing; this does."""
    kept, catalogue = tmp_path / "kept", archived.site.root / "catalogue.sqlite"
    with closing(sqlite3.connect(catalogue)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(archived.log / "checkpoint", kept)
    with closing(sqlite3.connect(catalogue)) as connection, connection:
        connection.execute("DELETE FROM custody_checkpoint")
        connection.execute("DELETE FROM custody_entries WHERE entry_index = 7")
    shutil.rmtree(archived.log)
    asyncio.run(archived.deliver(recordings=[[b"five"]]))
    assert archived.run("verify") == 0
    capsys.readouterr()

    assert archived.run("verify", "--earlier", str(kept)) == 1

    assert "another history" in capsys.readouterr().out


def test_what_docks_saw_is_part_of_the_check(
    archived: Archived, capsys: pytest.CaptureFixture[str]
) -> None:
    """A log that does not begin with what a dock cosigned is bad, for both checkers."""
    key = load_signing_key(archived.site.signing["archive"].key)
    files = LogFiles(archived.log)
    note = files.read_checkpoint()
    assert note is not None
    true = open_checkpoint(note, key.public)
    files.put_watched(DOCK, note)
    assert archived.run("verify") == 0
    assert _ask_the_checker(archived, archived.log).returncode == 0
    capsys.readouterr()

    for size, root in ((7, true.root), (8, bytes(32)), (9, true.root)):
        other = Checkpoint(origin=true.origin, size=size, root=root)
        files.put_watched(DOCK, sign_checkpoint(other, key))
        assert archived.run("verify") == 1
        assert f"BAD  watched/{DOCK}: " in capsys.readouterr().out
        assert "a dock saw another log" in _ask_the_checker(archived, archived.log).stderr


def test_what_is_wrong_is_told(archived: Archived, capsys: pytest.CaptureFixture[str]) -> None:
    """Which file; and a log that is gone is exit status 4."""
    (archived.log / "tile/0/000.p/8").unlink()
    assert archived.run("verify") == 1
    assert "BAD  tile/0/000.p/8: " in capsys.readouterr().out
    shutil.rmtree(archived.log)
    assert archived.run("verify") == 4


@pytest.mark.parametrize("damage", [Path.unlink, lambda tile: tile.write_bytes(bytes(256))])
def test_a_proof_that_proves_nothing_is_not_handed_out(
    archived: Archived, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], object]
) -> None:
    """Where the log's tiles are gone, or are not those that were signed."""
    [receipt, _] = [one for one in archived.entries() if isinstance(one, ReceiptIssued)]
    damage(archived.log / "tile/0/000.p/8")

    assert archived.run("prove", "--receipt", receipt.receipt_id) == 1

    told = capsys.readouterr()
    assert (told.out, "E-LOG-101" in told.err) == ("", True)


def test_prove_needs_to_know_what(archived: Archived) -> None:
    """One of the two ids."""
    assert archived.run("prove") == 2
    assert archived.run("prove", "--receipt", ABSENT, "--manifest", ABSENT) == 2
