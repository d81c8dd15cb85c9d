import asyncio
import itertools
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import msgspec
import pytest

from edge_agent.adapters.bay_board import BayBoard
from edge_agent.adapters.control_socket import Snapshot, serve_control
from edge_agent.adapters.instance_lock import hold_lock
from edge_agent.adapters.journal import Journal
from protocol.identifiers import BayNumber
from protocol.messages import BayMessage, BayState, DockStatus
from tests.simulators.custody_entries import CustodyEntries
from tests.simulators.edge_site import EdgeSite, lay_out_edge_site
from tests.simulators.sealed_manifests import ARCHIVE_KEY, DOCK, NOW

pytestmark = pytest.mark.processes

EMPTY: Final = BayMessage(dock=DOCK, bay=BayNumber(1), state=BayState.EMPTY, changed_at=NOW)


@pytest.fixture
def site(tmp_path: Path) -> EdgeSite:
    return lay_out_edge_site(tmp_path)


async def edge_agent(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as its user does."""
    process = await asyncio.create_subprocess_exec(
        *("setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "edge_agent", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return subprocess.CompletedProcess(arguments, process.returncode, out.decode(), err.decode())


@pytest.fixture
async def answering(site: EdgeSite) -> AsyncIterator[BayBoard]:
    """Something that answers on the socket as a running agent does."""
    board = BayBoard([EMPTY])

    async def snapshot() -> Snapshot:
        status = DockStatus(dock=DOCK, online=True, since=NOW, agent="edge-agent", bays=1)
        return Snapshot(dock=status, bays=board.bays())

    async with serve_control(site.socket, board=board, snapshot=snapshot):
        yield board


@pytest.mark.parametrize("command", [(), ("run",), ("status",), ("check-config",)])
async def test_help_has_all_one_needs(command: tuple[str, ...]) -> None:
    """Every command explains itself, its exit status and, with examples, its use."""
    done = await edge_agent(*command, "--help")

    assert done.returncode == 0
    assert "exit status:" in done.stdout
    assert "--config FILE" in done.stdout
    assert not command or f"edge-agent {command[0]}" in done.stdout.partition("examples:")[2]


async def test_the_version_is_told() -> None:
    """The version is that of the installed package."""
    done = await edge_agent("--version")

    assert (done.returncode, done.stdout.split()[0]) == (0, "edge-agent")


async def test_what_a_dock_saw_of_the_log(site: EdgeSite) -> None:
    """Nothing yet; then a checkpoint, which it lets go of when it is told to, with an alert."""
    asked = ("custody", "--config", str(site.config))
    journal = site.root / "journal.sqlite"
    nothing = await edge_agent(*asked)
    assert (nothing.returncode, "nothing" in nothing.stdout) == (0, True)
    entries = CustodyEntries(ARCHIVE_KEY)
    async with Journal.open(journal) as opened:
        await opened.connection.execute(
            "INSERT INTO watched_log (only, note, contradiction) VALUES (1, ?, ?)",
            (entries.note(), b"another note"),
        )
        await opened.connection.commit()

    shown = await edge_agent(*asked)
    forgotten = await edge_agent(*asked, "--begin-anew")
    after = await edge_agent(*asked)

    assert shown.returncode == 3
    assert entries.note().decode() in shown.stdout
    assert "another note" in shown.stdout
    assert (forgotten.returncode, after.returncode) == (0, 0)
    assert after.stdout == nothing.stdout
    with hold_lock(journal):
        busy = await edge_agent(*asked)
    assert busy.returncode not in {0, 3}
    assert "E-CTL-503" in busy.stderr


async def test_a_wrong_command_line_is_2() -> None:
    """What the command line does not know is a usage error."""
    assert (await edge_agent("erase")).returncode == 2
    assert (await edge_agent("status", "--colour")).returncode == 2


@pytest.mark.parametrize("command", ["run", "status", "check-config"])
async def test_a_missing_configuration_is_one_line(command: str, tmp_path: Path) -> None:
    """No file, no traceback: a code, what is wrong, what to do."""
    done = await edge_agent(command, "--config", str(tmp_path / "none.toml"))

    [line] = done.stderr.splitlines()
    assert done.returncode == 1
    assert line.startswith("E-CFG-601: ")
    assert "none.toml" in line
    assert "--config" in line


async def test_a_wrong_key_is_one_line(site: EdgeSite) -> None:
    """The line names the file and the exact key."""
    site.config.write_text(site.config.read_text().replace("number = 1", 'number = "1"'))

    done = await edge_agent("check-config", "--config", str(site.config))

    [line] = done.stderr.splitlines()
    assert done.returncode == 1
    assert line.startswith(f"E-RUN-101: {site.config}: $.bays[0].number: ")


async def test_a_good_configuration_is_all_ticks(site: EdgeSite) -> None:
    """Each check has its line; all is well is 0."""
    done = await edge_agent("check-config", "--config", str(site.config))

    assert done.returncode == 0, done.stdout
    assert len(done.stdout.splitlines()) > 10
    assert all(line.startswith("✓ ") for line in done.stdout.splitlines())


async def test_a_bad_configuration_says_what_to_do(site: EdgeSite) -> None:
    """A failed check says what is wrong and what to do; the status is 1."""
    (site.root / "pki/dock-1/tls.key").chmod(0o644)

    done = await edge_agent("check-config", "--config", str(site.config))

    [line] = [line for line in done.stdout.splitlines() if line.startswith("✗ ")]
    assert done.returncode == 1
    assert "E-RUN-111" in line
    assert line.endswith("mode 0600")


async def test_a_bad_configuration_does_not_run(site: EdgeSite) -> None:
    """The agent refuses to start on what the check refuses, one line for each problem."""
    (site.root / "pki/dock-1/signing.key").unlink()

    done = await edge_agent("run", "--config", str(site.config))

    [line] = done.stderr.splitlines()
    assert done.returncode == 1
    assert line.startswith("E-CFG-602: signing key: ")


async def test_no_agent_is_3(site: EdgeSite) -> None:
    """Asking an agent that is not running has its own exit status."""
    done = await edge_agent("status", "--config", str(site.config))

    assert done.returncode == 3
    assert done.stderr.startswith("E-CTL-502: ")
    assert "edge-agent run" in done.stderr


async def test_the_status_is_a_table(site: EdgeSite, answering: BayBoard) -> None:
    """Without options, a person reads a table."""
    del answering
    done = await edge_agent("status", "--config", str(site.config))

    assert (done.returncode, done.stderr) == (0, "")
    assert any(line.split() == ["1", "empty"] for line in done.stdout.splitlines())


async def test_the_status_is_json(site: EdgeSite, answering: BayBoard) -> None:
    """With --json, a program reads one object."""
    del answering
    done = await edge_agent("--config", str(site.config), "status", "--json")

    assert json.loads(done.stdout)["bays"][0]["state"] == "empty"


async def test_attention_is_1(site: EdgeSite, answering: BayBoard) -> None:
    """A bay that needs a person makes the exit status 1."""
    answering.show(
        BayMessage(dock=DOCK, bay=BayNumber(1), state=BayState.ATTENTION, changed_at=NOW)
    )
    done = await edge_agent("status", "--config", str(site.config))

    assert done.returncode == 1


async def test_watching_ends_with_its_reader(site: EdgeSite, answering: BayBoard) -> None:
    """When the program that reads the table has seen enough, nobody complains."""
    process = await asyncio.create_subprocess_exec(
        *("setpriv", "--pdeathsig", "KILL"),
        *("sh", "-c", 'exec "$@" | head -n 1', "sh"),
        *(sys.executable, "-m", "edge_agent", "status", "--watch", "--config", str(site.config)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    first = await process.stdout.readline()
    ended = asyncio.create_task(process.communicate())
    for state in itertools.cycle((BayState.IDENTIFYING, BayState.EMPTY)):
        answering.show(msgspec.structs.replace(EMPTY, state=state))
        done, _ = await asyncio.wait({ended}, timeout=0.3)
        if done:
            break
    _, err = ended.result()

    assert first.split()[:2] == [b"bay", b"state"]
    assert err == b""
