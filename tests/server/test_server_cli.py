"""server-agent as its user meets it: what it prints, and the status it ends with."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from server_agent.cli import main
from tests.architecture.source_tree import ROOT
from tests.simulators.archive_site import DOCK, ArchiveSite, lay_out_site
from tests.simulators.bag_site import build_site
from tests.simulators.claims import Claimant
from tests.simulators.dock import connect_dock

TIMEOUT_S = 60.0
COMMANDS = ((), ("run",), ("check-config",), ("verify",), ("pki",), ("broker-config",))


@pytest.fixture
def site(tmp_path: Path) -> ArchiveSite:
    site = lay_out_site(tmp_path)
    site.configure()
    return site


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command) or "-")
def test_help_is_there(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Every command explains itself and ends well."""
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])

    assert ended.value.code == 0
    assert "usage: server-agent" in capsys.readouterr().out


def test_an_unknown_command_is_a_usage_error() -> None:
    """A command line that cannot be read ends with 2."""
    with pytest.raises(SystemExit) as ended:
        main(["erase"])

    assert ended.value.code == 2


def test_good_bags_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each good bag has a line; the sum says what was compared and who vouches."""
    site = build_site(tmp_path / "pki")
    site.archive(tmp_path / "archive")

    status = main(["verify", str(tmp_path / "archive"), "--ca", str(site.pki.ca)])

    lines = capsys.readouterr().out.splitlines()
    assert status == 0
    assert [line.split()[0] for line in lines[:2]] == ["OK", "OK"]
    assert lines[2].startswith("2 bags verified, 0 with findings")
    assert f"issued by {site.pki.ca}" in lines[3]


def test_quiet_good_bags_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Quietly, a good bag has no line; the sum is there, and says that nobody was asked."""
    build_site(tmp_path / "pki").archive(tmp_path / "archive")

    assert main(["verify", "--quiet", str(tmp_path / "archive")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("2 bags verified")
    assert "authority in each bag only" in out


def test_a_damaged_bag_is_bad(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A flipped byte is found, with its code and file, and the status says so."""
    bag = build_site(tmp_path / "pki").archive(tmp_path / "archive")[0]
    victim = min((bag / "data").iterdir())
    content = victim.read_bytes()
    victim.chmod(0o600)
    victim.write_bytes(bytes([content[0] ^ 1]) + content[1:])

    status = main(["verify", str(tmp_path / "archive")])

    out = capsys.readouterr().out
    assert status == 1
    assert "BAD  " in out
    assert f"F-BAG-002 data/{victim.name}" in out
    assert "2 bags verified, 1 with findings" in out


def test_nothing_to_verify_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty folder is not a verified archive."""
    assert main(["verify", str(tmp_path)]) == 4
    assert capsys.readouterr().out.startswith("0 bags verified")


def test_a_missing_path_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A path that is not there was mistyped."""
    assert main(["verify", str(tmp_path / "nowhere")]) == 2
    assert "is no folder" in capsys.readouterr().err


def test_a_good_configuration_is_well(
    site: ArchiveSite, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything that was looked at has a line."""
    assert main(["check-config", "--config", str(site.config_file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert all(line.startswith("ok ") for line in lines)


def _open_key(site: ArchiveSite) -> None:
    site.signing["archive"].key.chmod(0o644)


def _other_key(site: ArchiveSite) -> None:
    site.signing["archive"].key.write_bytes(site.signing[DOCK].key.read_bytes())


def _spoiled_registry(site: ArchiveSite) -> None:
    site.recorders *= 2
    site.write_registry()


def _no_ca(site: ArchiveSite) -> None:
    site.authority.ca.unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_open_key, "BAD  signing key: E-RUN-111"),
        (_other_key, "BAD  signing key: E-CFG-102"),
        (_spoiled_registry, "BAD  registry: E-CFG-101"),
        (_no_ca, "BAD  TLS identity towards docks: "),
    ],
)
def test_a_wrong_configuration_is_said(
    site: ArchiveSite,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[ArchiveSite], None],
    said: str,
) -> None:
    """What is wrong is named, with its code; what is well is still looked at."""
    spoil(site)

    assert main(["check-config", "--config", str(site.config_file)]) == 1
    out = capsys.readouterr().out
    assert said in out
    assert "ok   archive's folder" in out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[https]\nprot = 1\n", "E-RUN-101"),
        ('[catalogue]\nurl = "sqlite+aiosqlite://"\n', "$.catalogue.url"),
        ('[catalogue]\nurl = "mysql://x/y"\n', "$.catalogue.url"),
        ('[catalogue]\nurl = "nothing"\n', "$.catalogue.url"),
    ],
)
def test_a_wrong_key_is_one_line(
    site: ArchiveSite, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    """A key that is wrong is named in one line, and nothing is started."""
    table = line.split("\n", maxsplit=1)[0]
    text = site.config_file.read_text()
    start = text.index(table)
    end = text.index("[", start + 1)
    site.config_file.write_text(text[:start] + line + text[end:])

    assert main(["run", "--config", str(site.config_file)]) == 1
    [printed] = capsys.readouterr().err.splitlines()
    assert said in printed


def test_a_configuration_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing file is said in one line."""
    assert main(["--config", str(tmp_path / "server.toml")]) == 1
    [printed] = capsys.readouterr().err.splitlines()
    assert "server.toml" in printed


@contextlib.asynccontextmanager
async def service_manager(path: Path) -> AsyncIterator[Callable[[str], "asyncio.Future[None]"]]:
    """Listen where systemd would; yields a function that waits for a state to be told."""
    loop = asyncio.get_running_loop()
    told: list[str] = []
    news = asyncio.Event()

    class Listener(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, _addr: object) -> None:
            told.append(data.decode())
            news.set()

    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.setblocking(False)  # noqa: FBT003 -- the socket's own signature
    sock.bind(str(path))
    transport, _ = await loop.create_datagram_endpoint(Listener, sock=sock)

    async def until(state: str) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while state not in told:
                news.clear()
                await news.wait()

    try:
        yield lambda state: asyncio.ensure_future(until(state))
    finally:
        transport.close()


@pytest.mark.processes
async def test_the_service_starts_reloads_and_stops(site: ArchiveSite) -> None:
    """It tells its manager when it is ready, reads the registry on SIGHUP, ends well on SIGTERM."""
    notify = site.root / "notify"
    with site.broker():
        site.configure()
        async with service_manager(notify) as until:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "server_agent", "--config", str(site.config_file)),
                cwd=ROOT,
                env=os.environ | {"NOTIFY_SOCKET": str(notify)},
                stderr=asyncio.subprocess.DEVNULL,
            )
            try:
                await until("READY=1")
                async with connect_dock(site, DOCK, 1) as dock:
                    site.docks = (DOCK,)
                    site.write_registry()
                    process.send_signal(signal.SIGHUP)
                    await dock.until(lambda heard: 2 in [one.version for one in heard.registries])
                    await dock.deliver(Claimant(DOCK, site.key(DOCK)).claim(recordings=[]))
                process.send_signal(signal.SIGTERM)
                await until("STOPPING=1")
                async with asyncio.timeout(TIMEOUT_S):
                    status = await process.wait()
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

    assert status == 0
