"""From an installed package to a site: what `set-up` and `dock-key` make and leave alone."""

import ipaddress
import os
import stat
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec import convert

from edge_agent.guard.policy import problems
from edge_agent.guard_config import GuardConfig, policy_of
from protocol import provisioning
from protocol.identifiers import DockId
from runtime.keys import load_signing_key
from runtime.tls import client_context, server_context
from server_agent import cli
from server_agent.adapters.registry_file import read_registry
from server_agent.config import load_config
from server_agent.console.config import load_settings
from server_agent.pki.folder import PkiFolder
from server_agent.set_up import Owners, Place, Site, set_up

NOW = datetime(2026, 11, 26, tzinfo=UTC)
DOCK = DockId("dock-01")
BAYS = '[[bays]]\nnumber = 1\nsource = "usb"\nports = ["1-1"]\n'


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(etc=tmp_path / "etc", data=tmp_path / "data", units=tmp_path / "units")


@pytest.fixture
def lines(place: Place) -> list[str]:
    return _set_up(place)


def _set_up(place: Place) -> list[str]:
    site = Site(
        host="192.168.10.2",
        networks=(ipaddress.IPv4Network("192.168.10.0/24"),),
        organisation="First bureau",
        timezone="Asia/Shanghai",
        console_port=8444,
    )
    me = Owners(server=os.getuid(), console=os.getuid(), group=os.getgid())
    return list(set_up(site, place, me, NOW))


def _contents(place: Place) -> dict[Path, bytes]:
    folders = (place.etc, place.data, place.units)
    return {
        path: path.read_bytes()
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
    }


def _dock_key(place: Place, out: Path, *words: str) -> int:
    config = ("--config", str(place.etc / "server.toml"), "--data", str(place.data))
    return cli.main(["dock-key", "--dock", DOCK, "--out", str(out), *config, *words])


@pytest.mark.usefixtures("lines")
def test_both_programs_can_read_what_was_made(place: Place) -> None:
    """Archive and console load their configurations, and everything that they name is there."""
    server = load_config(place.etc / "server.toml")
    console = load_settings(place.etc / "console.toml")

    tls = server.tls
    server_context(ca=tls.ca, certificate=tls.certificate, key=tls.key)
    load_signing_key(server.signing.key)
    assert not read_registry(server.registry, ca=tls.ca).registry.docks
    assert console.listen.certificate is not None
    assert console.listen.certificate.is_file()
    assert console.archive.root == server.archive.root
    mode = stat.S_IMODE((place.data / "catalogue/catalogue.sqlite").stat().st_mode)
    assert mode == 0o660


def test_doing_it_again_changes_nothing(place: Place, lines: list[str]) -> None:
    """Every line says that a thing was kept, and no file has another content."""
    before = _contents(place)

    again = _set_up(place)

    assert {line.split()[0] for line in lines} == {"made"}
    assert {line.split()[0] for line in again} == {"kept"}
    assert _contents(place) == before


@pytest.mark.usefixtures("lines")
def test_only_the_site_is_let_in(place: Place) -> None:
    """Each program's drop-in names this machine and the site's network."""
    for unit in ("mosquitto", "server-agent", "server-console"):
        text = (place.units / f"{unit}.service.d/50-addresses.conf").read_text()
        assert "IPAddressAllow=192.168.10.2 192.168.10.0/24\n" in text


@pytest.mark.usefixtures("lines")
def test_a_dock_key_has_all_that_a_dock_needs(place: Place, tmp_path: Path) -> None:
    """Its keys work, the dock is registered, and the archive keeps no private key of it."""
    bays = tmp_path / "bays.toml"
    bays.write_text(BAYS)
    out = tmp_path / "stick"
    out.mkdir()

    status = _dock_key(place, out, "--bays", str(bays))

    key = provisioning.parse((out / provisioning.FILE_NAME).read_bytes())
    files = {"ca": "ca", "certificate": "tls_certificate", "key": "tls_key"}
    for name, field in files.items():
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text(getattr(key.keys, field))
    client_context(**{name: tmp_path / name for name in files})
    server = load_config(place.etc / "server.toml")
    [dock] = read_registry(server.registry, ca=server.tls.ca).registry.docks
    assert status == 0
    assert (key.dock, dock.dock) == (DOCK, DOCK)
    assert key.addresses == ("192.168.10.2",)
    assert key.edge_toml.endswith(BAYS)
    assert not list((place.data / "pki" / DOCK).glob("*.key"))


@pytest.mark.usefixtures("lines")
def test_a_dock_key_says_where_the_dock_belongs(place: Place, tmp_path: Path) -> None:
    """edge-guard reads its policy from it: broker, archive and time server, and nobody else."""
    out = tmp_path / "stick"
    out.mkdir()
    words = ("--network", "192.168.10.0/24", "--interface", "enp1s0")

    status = _dock_key(place, out, *words, "--time-server", "192.168.10.3")

    key = provisioning.parse((out / provisioning.FILE_NAME).read_bytes())
    config = convert(tomllib.loads(key.edge_toml), GuardConfig)
    policy = policy_of(config, out, hosts={})
    assert status == 0
    assert policy.interfaces == ("enp1s0",)
    assert {(str(one.address), one.transport.value) for one in policy.peers} == {
        ("192.168.10.2", "tcp"),
        ("192.168.10.3", "udp"),
    }
    assert (problems(policy), policy.ssh_from) == ((), None)


@pytest.mark.parametrize(
    "words",
    [
        ("--interface", "eth0"),
        ("--network", "192.168.77.0/24"),
        ("--network", "192.168.10.0/24", "--ssh-from", "192.168.77.9"),
    ],
)
@pytest.mark.usefixtures("lines")
def test_a_dock_that_would_be_locked_out(
    place: Place, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """Or of which it is not said where it belongs: no key is made."""
    out = tmp_path / "stick"
    out.mkdir()

    assert _dock_key(place, out, *words) == 1
    assert not (PkiFolder(place.data / "pki").directory / DOCK).exists()


@pytest.mark.usefixtures("lines")
def test_a_dock_is_given_its_keys_once(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second key for a dock is refused, with what to do, and makes nothing."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    _dock_key(place, tmp_path / "first")
    before = _contents(place)

    status = _dock_key(place, tmp_path / "second")

    assert status == 1
    assert "E-PKI-101" in capsys.readouterr().err
    assert not list((tmp_path / "second").iterdir())
    assert _contents(place) == before


@pytest.mark.parametrize("problem", ["no folder", "there already", "no TOML", "a name"])
@pytest.mark.usefixtures("lines")
def test_a_dock_key_that_cannot_be_written(place: Place, tmp_path: Path, problem: str) -> None:
    """It is said before any key is made."""
    out, bays = tmp_path / "key", tmp_path / "bays.toml"
    bays.write_text("[[bays" if problem == "no TOML" else BAYS)
    if problem != "no folder":
        out.mkdir()
    if problem == "there already":
        (out / provisioning.FILE_NAME).touch()
    if problem == "a name":
        config = place.etc / "server.toml"
        config.write_text(config.read_text().replace('"192.168.10.2"', '"archive.lan"'))

    assert _dock_key(place, out, "--bays", str(bays)) == 1
    assert not (PkiFolder(place.data / "pki").directory / DOCK).exists()


@pytest.mark.parametrize(
    "words",
    [
        ("--host", "8.8.8.8", "--network", "192.168.10.0/24"),
        ("--host", "192.168.10.2", "--network", "0.0.0.0/0"),
        ("--host", "192.168.10.2", "--network", "192.168.10.0/24", "--organisation", 'a "b"'),
        ("--host", "192.168.10.2", "--network", "192.168.10.0/24", "--timezone", "Mars/Base"),
        ("--host", "192.168.10.2"),
    ],
)
def test_a_site_that_cannot_be(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """An address of the internet, or a value that no file can say, is a wrong command line."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["set-up", *words])

    assert ended.value.code == 2
    assert "set-up" in capsys.readouterr().err
