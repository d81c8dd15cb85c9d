"""What a dock signs about the no-internet rule, and that nobody can take a part of it away."""

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.adapters.attestations import AttestationFolder, Attester, open_sockets
from edge_agent.adapters.guard_link import Isolated
from edge_agent.errors import AttestationsError
from edge_agent.guard.attesting import Budget, attest
from edge_agent.guard.messages import (
    ToldBreach,
    ToldDoor,
    ToldRefusal,
    ToldSpell,
    ToldUsb,
    Word,
)
from protocol.attestation import Attestation, Counted, Occasion, SeenInterface, SeenNetwork
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
        refused=(ToldRefusal(device=USB, first_at=NOW, last_at=NOW, number=3, times=3),),
        refusals=3,
    ),
    counted=Counted(run="one", changes=2, breaches=1, usb=3, packets=7),
    spells=(
        ToldSpell(
            number=1,
            changed=2,
            breach=ToldBreach(code="E-ISO-102", subject="default", text="a route to everywhere"),
            began_at=NOW,
            ended_at=NOW,
        ),
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
    isolated.hear(WORD)
    for occasion in (Occasion.STARTED, Occasion.ASKED):
        await attester.attest(occasion)
    isolated.hear(None)
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
    assert (one.refused_usb, one.refused_packets) == (3, 7)
    assert one.sockets == ("tcp 0A0A0A07:0016 00000000:0000 0A",)
    assert (three.isolation, three.enforced, three.network) == (
        Isolation.NOT_ENFORCED,
        False,
        None,
    )


@contextlib.asynccontextmanager
async def running(attester: Attester, **how: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(attester.run(first_s=0, **how))
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
    isolated.hear(WORD)
    async with running(attester):
        await until(lambda: len(read(folder, pki)) == 1)
        isolated.hear(msgspec.structs.replace(WORD, isolation=Isolation.BREACHED))
        await until(lambda: len(read(folder, pki)) == 2)

    first, second = read(folder, pki)
    assert (first.occasion, second.occasion) == (Occasion.STARTED, Occasion.CHANGED)
    assert second.isolation is Isolation.BREACHED


def later(number: int, **changed: Any) -> Word:
    """Return the guard's word when one more breach began."""
    counted = Counted(run="one", changes=2 + number, breaches=1 + number, usb=3, packets=7)
    spell = msgspec.structs.replace(
        WORD.spells[0], number=1 + number, changed=2 + number, ended_at=None
    )
    return msgspec.structs.replace(WORD, counted=counted, spells=(*WORD.spells, spell), **changed)


async def test_nothing_is_told_twice(
    attester: Attester, isolated: Isolated, folder: Path, pki: Path
) -> None:
    """The next one has what came since, also by another program; a guard begun anew tells all."""
    isolated.hear(WORD)
    await attester.attest(Occasion.STARTED)
    await attester.attest(Occasion.ASKED)
    isolated.hear(None)
    await attester.attest(Occasion.ASKED)
    isolated.hear(later(1))
    await attester.attest(Occasion.ASKED)
    counted = Counted(run="two", changes=2, breaches=3, usb=3, packets=1)
    isolated.hear(msgspec.structs.replace(WORD, counted=counted))
    await attester.attest(Occasion.ASKED)

    _, again, silent, one_more, anew = read(folder, pki)
    for nothing in (again, silent):
        assert (nothing.broken, nothing.refused_usb, nothing.refused_packets) == ((), 0, 0)
        assert nothing.counted == WORD.counted
    assert [usb.times for usb in again.usb] == [0]
    assert [broken.ended_at for broken in one_more.broken] == [None]
    assert (len(anew.broken), anew.refused_usb, anew.refused_packets) == (1, 3, 1)
    assert anew.unlisted_broken == 2


async def test_changes_at_once_are_each_signed_until_there_are_too_many(
    attester: Attester, isolated: Isolated, folder: Path, pki: Path
) -> None:
    """Beyond the budget the last one is, and it counts those that are not."""
    is_waiting, goes_on = asyncio.Event(), asyncio.Event()
    budget = Budget(most=2, each_s=1e6)

    async def wait(_seconds: float) -> None:
        is_waiting.set()
        await goes_on.wait()

    isolated.hear(WORD)
    async with running(attester, budget=budget, wait=wait):
        await until(lambda: len(read(folder, pki)) == 1)
        for number in range(1, 6):
            isolated.hear(later(number))
        await is_waiting.wait()
        before = read(folder, pki)
        await attester.attest(Occasion.ASKED)

    assert [one.counted.changes for one in before] == [2, 3, 4]
    assert [one.left_out for one in before] == [0, 0, 0]
    last = read(folder, pki)[-1]
    assert (last.counted.changes, last.left_out) == (7, 2)


async def test_more_than_can_wait_are_counted(
    attester: Attester, isolated: Isolated, folder: Path, pki: Path
) -> None:
    """Whatever comes and goes, and however fast."""
    for number in range(1, 101):
        isolated.hear(later(number))
    await attester.attest(Occasion.CHANGED)
    await attester.attest(Occasion.ASKED)

    first, last = read(folder, pki)
    assert (first.counted.changes, first.left_out) == (2 + 41, 40)
    assert (last.counted.changes, last.left_out) == (2 + 100, 58)


@given(gaps=st.lists(st.floats(min_value=0, max_value=500), max_size=300))
def test_a_disk_cannot_be_filled(gaps: list[float]) -> None:
    """Sixty at once and one a minute: never more than that in any time."""
    budget, now_s, made = Budget(), 0.0, 0
    for gap in gaps:
        now_s += gap
        if budget.wait_s(now_s) == 0:
            budget, made = budget.spent(now_s), made + 1
        assert made <= 60 + now_s / 60
    assert made == len(gaps) or len(gaps) > 60


async def test_who_signed_before_is_known(
    attester: Attester, folder: Path, pki: Path, tmp_path: Path
) -> None:
    """The public half of a key that was replaced is kept, and verifies what it signed."""
    first = await attester.attest(Occasion.ASKED)
    Authority(tmp_path / "other").issue_signing(DOCK)
    key = load_signing_key(tmp_path / "other" / DOCK / "signing.key")
    other = Attester(
        AttestationFolder(folder),
        Isolated(),
        dock=DOCK,
        agent="edge-agent 1",
        key=key,
        clock=lambda: NOW,
    )
    second = await other.attest(Occasion.ASKED)

    keys = AttestationFolder(folder).keys()
    assert set(keys) == {load_signing_key(pki / "signing.key").key_id, key.key_id}
    for signed in (first, second):
        take_apart(signed.envelope).verify(keys)


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
    isolated.hear(WORD)
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
