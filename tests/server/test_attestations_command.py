"""``server-agent attestations``, and docs/verify.md's commands for what it writes out."""

import asyncio
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from protocol.envelope import seal, take_apart
from protocol.versions import Statement
from server_agent.cli import main
from tests.simulators.archive_site import DOCK, OTHER_DOCK, ArchiveSite, lay_out_site
from tests.simulators.attestation_bench import AttestationBench, Chain
from tests.simulators.custody_site import CHECKER

PAGE: Final = Path(__file__).resolve().parents[2] / "docs/verify.md"
COMMANDS: Final = re.compile(r"^## 隔离证明.*?^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Attested:
    """A site whose dock attested five times, the last two with a new key."""

    def __init__(self, root: Path) -> None:
        self.site: ArchiveSite = lay_out_site(root)
        self.out = root / "out"
        self.sent: list[bytes] = []
        asyncio.run(self._fill())

    async def _fill(self) -> None:
        bench, chain = AttestationBench(self.site), Chain(self.site.key(DOCK))
        await bench.start()
        await bench.send(*(chain.next() for _ in range(3)))
        await bench.stop()
        (self.site.root / "pki" / DOCK).rename(self.site.root / "pki" / "old")
        self.site.signing[DOCK] = self.site.authority.issue_signing(DOCK)
        bench.now += timedelta(days=1)
        await bench.start()
        renewed = Chain(self.site.key(DOCK), head=chain.head)
        await bench.send(renewed.next(), renewed.next())
        await bench.custody.seal()
        await bench.stop()
        self.sent = chain.sent + renewed.sent

    def write_out(self, *, dock: str = DOCK) -> int:
        config = ("--config", str(self.site.config_file))
        return main(["attestations", "--dock", dock, "--out", str(self.out), *config])

    def execute(self, statement: str, *values: object) -> None:
        """Change the catalogue behind the archive's back."""
        with closing(sqlite3.connect(self.site.root / "catalogue.sqlite")) as catalogue:
            catalogue.execute(statement, values)
            catalogue.commit()

    def follow(self, *, ca: Path | None = None, dock: str = DOCK) -> tuple[int, str]:
        """Do what the page says, with the three lines that it says to change changed."""
        found = COMMANDS.search(PAGE.read_text(encoding="utf-8"))
        assert found is not None
        changed = {"ATTESTATIONS": self.out, "CA": ca or self.site.authority.ca, "DOCK": dock}
        commands = found[1]
        for name, value in changed.items():
            commands, count = re.subn(
                rf"^{name}=.*$", f"{name}={value}", commands, count=1, flags=re.MULTILINE
            )
            assert count == 1
        work = self.site.root / "work"
        work.mkdir(exist_ok=True)
        done = subprocess.run(
            ["bash", "-c", commands],
            env={"PATH": os.environ["PATH"], "TMPDIR": str(work), "LANG": "C.UTF-8"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout


@pytest.fixture
def attested(tmp_path: Path) -> Attested:
    return Attested(tmp_path)


def test_each_as_it_was_signed(attested: Attested, capsys: pytest.CaptureFixture[str]) -> None:
    """Byte for byte, by number; with the certificates of both keys, and the authority's."""
    assert attested.write_out() == 0
    assert attested.write_out() == 0  # again: nothing is written over

    assert "5 attestations up to number 5: each follows" in capsys.readouterr().out
    files = sorted(attested.out.glob("*.dsse.json"))
    assert [path.name for path in files] == [f"{number:08d}.dsse.json" for number in range(1, 6)]
    assert [path.read_bytes() for path in files] == attested.sent
    assert len(list(attested.out.glob("certificates/*.pem"))) == 2
    assert (attested.out / "ca.pem").read_bytes() == attested.site.authority.ca.read_bytes()


def test_an_expert_checks_them(attested: Attested) -> None:
    """The page's commands, as they stand there, pass on what was written out."""
    attested.write_out()

    status, screen = attested.follow()

    assert status == 0, screen
    assert screen.count("Signature Verified Successfully") == 5
    assert screen.splitlines()[-1].startswith("5 ")


def test_the_log_says_which_was_the_last(attested: Attested, tmp_path: Path) -> None:
    """The page's last command shows the entry of number 5, by a program that is not ours."""
    key = tmp_path / "archive.pem"
    certificate = attested.site.signing["archive"].certificate
    openssl = ("openssl", "x509", "-in", str(certificate), "-noout", "-pubkey", "-out", str(key))
    subprocess.run(openssl, check=True)
    checker = (sys.executable, "-I", str(CHECKER), str(attested.site.archive / "custody"))
    shown = subprocess.run(
        [*checker, str(key), '"attestation-kept"'], capture_output=True, text=True, check=True
    )

    last = [line for line in shown.stdout.splitlines() if f'"dock":"{DOCK}"' in line][-1]
    assert '"sequence":5' in last


def _cut_short(out: Path) -> None:
    (out / "00000003.dsse.json").unlink()


def _changed(out: Path) -> None:
    path = out / "00000002.dsse.json"
    body = bytearray(path.read_bytes())
    at = body.index(b'"payload":"') + 300
    body[at] = ord("A") if body[at] != ord("A") else ord("B")
    path.write_bytes(body)


def _swapped(out: Path) -> None:
    one, two = out / "00000001.dsse.json", out / "00000002.dsse.json"
    first = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(first)


def _without_a_certificate(out: Path) -> None:
    for path in out.glob("certificates/*.pem"):
        path.unlink()
        return


def _with_another_name(out: Path) -> None:
    for path in out.glob("certificates/*.pem"):
        path.write_bytes((out / "ca.pem").read_bytes())
        return


@pytest.mark.parametrize(
    "tamper", [_cut_short, _changed, _swapped, _without_a_certificate, _with_another_name]
)
def test_what_was_tampered_with(attested: Attested, tamper: Callable[[Path], None]) -> None:
    """The page's commands stop at it, and end with a failure."""
    attested.write_out()
    tamper(attested.out)

    status, screen = attested.follow()

    assert status != 0, screen


def test_another_authority_or_dock(attested: Attested, tmp_path: Path) -> None:
    """What was signed is of the site that the expert trusts, and of the dock that he asks about."""
    attested.write_out()
    other = lay_out_site(tmp_path / "other")

    assert attested.follow(ca=other.authority.ca)[0] != 0
    assert attested.follow(dock=OTHER_DOCK)[0] != 0


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM attestations WHERE sequence = 2",
        "UPDATE attestations SET envelope = x'7b7d' WHERE sequence = 1",
        "UPDATE attestations SET envelope = x'7b7d' WHERE sequence = 3",
        "DELETE FROM signing_certificates WHERE known_since < '2026-11-28'",
    ],
)
def test_a_catalogue_that_was_changed(
    attested: Attested, capsys: pytest.CaptureFixture[str], statement: str
) -> None:
    """All that is there is written out, what is wrong is named, and it ends with 1."""
    attested.execute(statement)

    assert attested.write_out() == 1

    assert "BAD" in capsys.readouterr().out
    assert list(attested.out.glob("*.dsse.json"))


def test_a_chain_of_another_content(attested: Attested) -> None:
    """One that the dock signed in its place later is found out by the one behind it."""
    sealed = take_apart(attested.sent[1])
    other = seal(sealed.payload.replace(b"holding", b"breached"), Statement.ATTESTATION,
                 attested.site.key(DOCK))  # fmt: skip
    attested.execute("UPDATE attestations SET envelope = ? WHERE sequence = 2", other)

    assert attested.write_out() == 1
    assert attested.follow()[0] != 0


def test_nothing_to_write_out(attested: Attested, capsys: pytest.CaptureFixture[str]) -> None:
    """A dock that never attested is said, with a status of its own; no folder is made."""
    assert attested.write_out(dock=OTHER_DOCK) == 4
    assert not attested.out.exists()

    (attested.site.root / "catalogue.sqlite").rename(attested.site.root / "elsewhere")
    assert attested.write_out() == 1
    assert "E-ARC-112" in capsys.readouterr().err
    assert not (attested.site.root / "catalogue.sqlite").exists()


def test_what_stands_there_is_not_written_over(
    attested: Attested, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of the same name with other bytes ends it, and stays."""
    attested.out.mkdir()
    (attested.out / "00000002.dsse.json").write_text("somebody's")

    assert attested.write_out() == 1

    assert (attested.out / "00000002.dsse.json").read_text() == "somebody's"
    assert "00000002" in capsys.readouterr().err
