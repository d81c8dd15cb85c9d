"""What a dock signs about the no-internet rule, and that nobody can take a part of it away."""

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.adapters.attestations import AttestationFolder, Attester, open_sockets
from edge_agent.adapters.guard_link import Isolated
from edge_agent.errors import AttestationsError
from edge_agent.guard.attesting import attest
from edge_agent.guard.messages import (
    ToldBreach,
    ToldDoor,
    ToldRefusal,
    ToldUsb,
    Word,
)
from protocol.attestation import Attestation, Occasion, SeenInterface, SeenNetwork
from protocol.chain import GENESIS
from protocol.digest import sha256_hex
from protocol.envelope import keyring, open_statement, take_apart
from protocol.manifest import Isolation
from protocol.strict_json import encode, parse
from protocol.versions import Statement
from runtime.keys import load_signing_key
from tests.hardware.operations import commands
from tests.simulators.certificates import Authority
from tests.simulators.sealed_manifests import DOCK

NOW = datetime(2026, 11, 27, 8, 0, tzinfo=UTC)
USB = ToldUsb(port="1-2", ids="1234:5678", name="'stick'", let_in=False, because="no model")
WORD = Word(
    isolation=Isolation.RESTORED,
    since=NOW,
    enforced=True,
    incident=(ToldBreach(code="E-ISO-102", subject="default", text="a route to everywhere"),),
    began_at=NOW,
    table_sha256="ab" * 32,
    door=ToldDoor(
        present=(USB,),
        refused=(ToldRefusal(device=USB, first_at=NOW, last_at=NOW, times=3),),
        refusals=3,
    ),
    network=SeenNetwork(
        interfaces=(SeenInterface(name="eth0", sort="ethernet", is_up=True),),
        routes=("192.168.10.0/24 dev eth0 table 254",),
    ),
)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    Authority(folder).issue_signing(DOCK)
    return folder / DOCK


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "attestations"


@pytest.fixture
def isolated() -> Isolated:
    return Isolated(Isolation.HOLDING)


@pytest.fixture
def attester(folder: Path, isolated: Isolated, pki: Path) -> Attester:
    return Attester(
        AttestationFolder(folder),
        isolated,
        dock=DOCK,
        agent="edge-agent 1",
        key=load_signing_key(pki / "signing.key"),
        clock=lambda: NOW,
        sockets=lambda: ["tcp 0A0A0A07:0016 00000000:0000 0A"],
    )


def read(folder: Path, pki: Path) -> list[Attestation]:
    keys = keyring(load_signing_key(pki / "signing.key").public)
    return [
        open_statement(path.read_bytes(), Statement.ATTESTATION, Attestation, keys)
        for _, path in AttestationFolder(folder).files()
    ]


def digest(path: Path) -> str:
    return sha256_hex(take_apart(path.read_bytes()).payload)


async def test_each_names_the_one_before(
    attester: Attester, isolated: Isolated, folder: Path, pki: Path
) -> None:
    """Numbered from 1, all that the guard said in it; without its word it says that."""
    isolated.word = WORD
    for occasion in (Occasion.STARTED, Occasion.ASKED):
        await attester.attest(occasion)
    isolated.word = None
    await attester.attest(Occasion.DAILY)

    one, two, three = read(folder, pki)
    paths = [path for _, path in AttestationFolder(folder).files()]
    assert [path.name for path in paths] == [f"0000000{n}.dsse.json" for n in (1, 2, 3)]
    assert one.previous_sha256 == GENESIS.payload_sha256
    assert [after.previous_sha256 for after in (two, three)] == [digest(one) for one in paths[:2]]
    assert (one.isolation, one.enforced, one.table_sha256) == (Isolation.RESTORED, True, "ab" * 32)
    assert one.network == WORD.network
    assert [(usb.port, usb.times) for usb in one.usb] == [("1-2", 0), ("1-2", 3)]
    assert [broken.code for broken in one.broken] == ["E-ISO-102"]
    assert one.sockets == ("tcp 0A0A0A07:0016 00000000:0000 0A",)
    assert (three.isolation, three.enforced, three.network) == (
        Isolation.NOT_ENFORCED,
        False,
        None,
    )


@contextlib.asynccontextmanager
async def running(attester: Attester) -> AsyncIterator[None]:
    task = asyncio.create_task(attester.run(first_s=0, pause_s=0))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - what it waits for happens in a thread
        await asyncio.sleep(0)


async def test_each_change_is_signed(
    attester: Attester, isolated: Isolated, folder: Path, pki: Path
) -> None:
    """One at the start, and one whenever it stands otherwise."""
    isolated.word = WORD
    async with running(attester):
        await until(lambda: len(read(folder, pki)) == 1)
        isolated.word = msgspec.structs.replace(WORD, isolation=Isolation.BREACHED)
        isolated.become(Isolation.BREACHED)
        await until(lambda: len(read(folder, pki)) == 2)

    first, second = read(folder, pki)
    assert (first.occasion, second.occasion) == (Occasion.STARTED, Occasion.CHANGED)
    assert second.isolation is Isolation.BREACHED


async def test_two_at_once_are_two(attester: Attester, folder: Path, pki: Path) -> None:
    """However many ask, the chain has no fork."""
    await asyncio.gather(*(attester.attest(Occasion.ASKED) for _ in range(5)))

    found = read(folder, pki)
    paths = [path for _, path in AttestationFolder(folder).files()]
    assert [one.sequence for one in found] == [1, 2, 3, 4, 5]
    for path, after in zip(paths, found[1:], strict=False):
        assert after.previous_sha256 == digest(path)


def _remove_first(folder: Path) -> None:
    (folder / "00000001.dsse.json").unlink()


def _cut_last(folder: Path) -> None:
    path = folder / "00000002.dsse.json"
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize("damage", [_remove_first, _cut_last])
async def test_what_is_not_whole_is_not_gone_on_with(
    attester: Attester, folder: Path, damage: Callable[[Path], None]
) -> None:
    """A number that is missing, a file that is none: somebody has to look first."""
    for _ in range(2):
        await attester.attest(Occasion.ASKED)
    damage(folder)

    with pytest.raises(AttestationsError):
        await attester.attest(Occasion.ASKED)


async def test_none_is_written_over(attester: Attester, folder: Path) -> None:
    """Of two programs that follow on the same one, the second fails."""
    signed = await attester.attest(Occasion.ASKED)

    with pytest.raises(FileExistsError):
        AttestationFolder(folder).add(b"another", sequence=1)

    assert signed.path.read_bytes() == signed.envelope


def _verify(script: str, file: Path, pki: Path) -> "subprocess.CompletedProcess[str]":
    work = file.with_suffix(".work")
    work.mkdir()
    env = {"PATH": "/usr/bin:/bin", "FILE": str(file), "CERTIFICATE": str(pki / "signing.pem")}
    return subprocess.run(
        ["bash", "-ec", script], cwd=work, env=env, capture_output=True, text=True, check=False
    )


async def test_stock_tools_agree(
    attester: Attester, isolated: Isolated, pki: Path, tmp_path: Path
) -> None:
    """The commands of docs/no-internet.md verify it, and refuse a changed one."""
    isolated.word = WORD
    signed = await attester.attest(Occasion.ASKED)
    [script] = commands("Attestations", page="no-internet.md")
    changed = tmp_path / "changed.dsse.json"
    changed.write_bytes(signed.envelope.replace(b'"payload":"ey', b'"payload":"eX'))

    done = await asyncio.to_thread(_verify, script, signed.path, pki)
    refused = await asyncio.to_thread(_verify, script, changed, pki)

    assert done.returncode == 0, done.stderr
    assert digest(signed.path) in done.stdout
    assert refused.returncode != 0


def test_sockets_on_loopback_are_not_told(tmp_path: Path) -> None:
    """All others are, in both families; a table that is not there is none."""
    (tmp_path / "tcp").write_text(
        "  sl  local_address rem_address   st\n"
        "   0: 0100007F:1F90 00000000:0000 0A\n"
        "   1: 00000000:0016 00000000:0000 0A\n"
    )
    (tmp_path / "tcp6").write_text(
        "  sl  local_address rem_address   st\n"
        "   0: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A\n"
        "   1: 0000000000000000FFFF00000100007F:1F90 00000000000000000000000000000000:0000 0A\n"
        "   2: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A\n"
    )

    assert open_sockets(tmp_path) == [
        "tcp 00000000:0016 00000000:0000 0A",
        "tcp6 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A",
    ]


@given(sockets=st.lists(st.text(max_size=30), max_size=150))
def test_it_can_be_read_again_whatever_there_was(sockets: list[str]) -> None:
    """Bounded, and what is not listed is counted."""
    made = attest(
        GENESIS,
        WORD,
        dock=DOCK,
        agent="edge-agent 1",
        occasion=Occasion.DAILY,
        sockets=sockets,
        now=NOW,
    )

    assert parse(encode(made), Attestation, max_bytes=1 << 20) == made
    assert len(made.sockets) + made.unlisted_sockets == len(sockets)
