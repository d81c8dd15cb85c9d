"""A USB key makes a bare machine a dock, once; one that cannot be used changes nothing."""

import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import pytest

from demo.site import PROFILES
from edge_agent.adapters import provisioning
from edge_agent.adapters.provisioning import Place, provision
from edge_agent.config import load_config
from edge_agent.errors import EdgeError
from protocol.errors import ProtocolError
from protocol.identifiers import DockId
from protocol.provisioning import FILE_NAME, MAX_BYTES, RESULT_NAME, DockKey, encode
from runtime.durable import replace_file
from runtime.errors import RuntimeFault
from server_agent.config import load_config as load_server_config
from server_agent.dock_key import new_dock_key
from server_agent.pki.folder import PkiFolder
from server_agent.set_up import Owners, Site, set_up
from server_agent.set_up import Place as ServerPlace

NOW = datetime.now(UTC)
BAYS = '[[bays]]\nnumber = 1\nsource = "usb"\nports = ["1-1"]\n'


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], DockKey]:
    """Issue keys as the archive does."""
    root = tmp_path_factory.mktemp("archive")
    place = ServerPlace(etc=root / "etc", data=root / "data", units=root / "units")
    me = Owners(server=os.getuid(), console=os.getuid(), group=os.getgid())
    site = Site(
        host="127.0.0.1",
        networks=(),
        organisation="Bureau",
        timezone="Asia/Shanghai",
        console_port=8444,
    )
    list(set_up(site, place, me, NOW))
    server = load_server_config(place.etc / "server.toml")
    pki = PkiFolder(place.data / "pki")

    def issue(dock: str) -> DockKey:
        return new_dock_key(server, pki, DockId(dock), timezone="Asia/Shanghai", bays=BAYS, now=NOW)

    return issue


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "etc").mkdir()
    (tmp_path / "state").mkdir()
    return Place(etc=tmp_path / "etc", units=tmp_path / "units", uid=os.getuid(), gid=os.getgid())


@pytest.fixture
def key(issued: Callable[[str], DockKey], tmp_path: Path) -> DockKey:
    """A key for a dock whose folders are below tmp_path."""
    issued_key = issued("dock-01")
    text = issued_key.edge_toml.replace("/opt/bayward/profiles", str(PROFILES))
    text = text.replace("/var/lib/bayward/edge", str(tmp_path / "state"))
    text = text.replace("/run/bayward", str(tmp_path / "state"))
    return msgspec.structs.replace(issued_key, edge_toml=text)


@pytest.fixture
def folder(tmp_path: Path, key: DockKey) -> Path:
    """The key, plugged in."""
    made = tmp_path / "key"
    made.mkdir()
    (made / FILE_NAME).write_bytes(encode(key))
    return made


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_machine_is_a_dock(folder: Path, place: Place, key: DockKey) -> None:
    """Its configuration loads, its private keys are its own, and the key holds none of them."""
    name = provision(folder, place)

    config = load_config(place.etc / "edge.toml")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (place.etc / "pki").iterdir()}
    drop_in = place.units / "edge-agent.service.d/50-addresses.conf"
    assert (name, config.dock) == ("dock-01", "dock-01")
    assert (place.etc / "pki/tls.key").read_text() == key.keys.tls_key
    assert {name for name, mode in modes.items() if mode == 0o600} == {"tls.key", "signing.key"}
    assert "IPAddressAllow=127.0.0.1\n" in drop_in.read_text()
    assert list(_contents(folder)) == [RESULT_NAME]
    assert "dock-01" in (folder / RESULT_NAME).read_text()


GUARD = '[guard]\ninterfaces = ["eth0"]\nnetworks = ["{network}"]\n'


def _guarded(folder: Path, key: DockKey, network: str) -> None:
    text = key.edge_toml.replace("[storage]", GUARD.format(network=network) + "[storage]")
    text = text.replace('"127.0.0.1"', '"192.168.10.2"').replace("//127.0.0.1", "//192.168.10.2")
    (folder / FILE_NAME).write_bytes(encode(msgspec.structs.replace(key, edge_toml=text)))


def test_the_no_internet_rule_is_kept_from_the_start(
    folder: Path, place: Place, key: DockKey
) -> None:
    """By a key that says in which network the dock is, edge-guard is enabled."""
    _guarded(folder, key, "192.168.10.0/24")

    provision(folder, place)

    guard = load_config(place.etc / "edge.toml").guard
    assert guard is not None
    assert guard.networks == ("192.168.10.0/24",)
    wanted = place.units / "sysinit.target.wants/edge-guard.service"
    assert wanted.readlink() == Path("/usr/lib/systemd/system/edge-guard.service")


def test_without_a_network_no_guard_begins(folder: Path, place: Place) -> None:
    """It would have nothing to keep, and fail for ever."""
    provision(folder, place)

    assert not (place.units / "sysinit.target.wants").exists()


@pytest.mark.parametrize("network", ["192.168.77.0/24", "192.0.0.0/8", "no network"])
def test_a_rule_that_cannot_be_kept_makes_no_dock(
    folder: Path, place: Place, key: DockKey, network: str
) -> None:
    """The archive is not in it, it leads to the internet, or it is none: the key stays whole."""
    _guarded(folder, key, network)
    before = (folder / FILE_NAME).read_bytes()

    with pytest.raises((EdgeError, RuntimeFault)):
        provision(folder, place)

    assert (folder / FILE_NAME).read_bytes() == before
    assert _contents(place.etc) == {}


def test_the_file_is_overwritten_before_it_goes(folder: Path, place: Place, tmp_path: Path) -> None:
    """Whoever still has it open, or its blocks, reads zeros."""
    os.link(folder / FILE_NAME, tmp_path / "kept-open")

    provision(folder, place)

    assert set((tmp_path / "kept-open").read_bytes()) == {0}


def test_bays_that_were_found_out_on_this_machine(folder: Path, place: Place, key: DockKey) -> None:
    """A key without bays takes those of /etc/bayward/bays.toml."""
    text = key.edge_toml.replace(BAYS, "")
    (folder / FILE_NAME).write_bytes(encode(msgspec.structs.replace(key, edge_toml=text)))
    (place.etc / "bays.toml").write_text(BAYS.replace('"1-1"', '"3-4"'))

    provision(folder, place)

    assert load_config(place.etc / "edge.toml").bays[0].ports == ("3-4",)


def test_a_dock_stays_what_it_is(folder: Path, place: Place) -> None:
    """A second key changes neither the dock nor itself."""
    (place.etc / "edge.toml").write_text("dock = 1")
    before = (_contents(place.etc), (folder / FILE_NAME).read_bytes())

    with pytest.raises(EdgeError) as refused:
        provision(folder, place)

    assert refused.value.code == "E-PRV-101"
    assert "E-PRV-101" in (folder / RESULT_NAME).read_text()
    assert (_contents(place.etc), (folder / FILE_NAME).read_bytes()) == before


def _changed(key: DockKey, before: str, after: str) -> bytes:
    assert before in key.edge_toml
    text = key.edge_toml.replace(before, after)
    return encode(msgspec.structs.replace(key, edge_toml=text))


BAD: Final[dict[str, Callable[[DockKey, DockKey], bytes]]] = {
    "no JSON": lambda _key, _other: b"\xff{",
    "too large": lambda key, _other: encode(key) + b" " * MAX_BYTES,
    "another format": lambda key, _other: encode(key).replace(b"bayward-dock/1", b"bayward-dock/2"),
    "an unknown field": lambda key, _other: encode(key).replace(b'{"', b'{"x":1,"', 1),
    "no bays": lambda key, _other: _changed(key, BAYS, ""),
    "no TOML": lambda key, _other: _changed(key, BAYS, "[["),
    "an unknown setting": lambda key, _other: _changed(key, BAYS, BAYS + "[guard]\noff = true\n"),
    "an address of the internet": lambda key, _other: _changed(key, '"127.0.0.1"', '"8.8.8.8"'),
    "another dock's certificate": lambda key, other: encode(
        msgspec.structs.replace(key, keys=other.keys)
    ),
    "a damaged key": lambda key, _other: encode(
        msgspec.structs.replace(
            key, keys=msgspec.structs.replace(key.keys, tls_key="-----BEGIN PRIVATE " + "KEY-----")
        )
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_key_that_cannot_be_used(
    name: str, folder: Path, place: Place, key: DockKey, issued: Callable[[str], DockKey]
) -> None:
    """The reason stands on the key, with its code, and nothing was changed."""
    untrusted = BAD[name](key, issued("dock-02"))
    (folder / FILE_NAME).write_bytes(untrusted)

    with pytest.raises((EdgeError, ProtocolError, RuntimeFault)) as refused:
        provision(folder, place)

    code = getattr(refused.value, "code", "none")
    assert (folder / RESULT_NAME).read_text().startswith(code)
    assert (folder / FILE_NAME).read_bytes() == untrusted
    assert not list(place.etc.iterdir())
    assert not place.units.exists()


@pytest.mark.parametrize("kind", ["nothing", "link", "folder"])
def test_what_is_no_file(kind: str, folder: Path, place: Place, tmp_path: Path) -> None:
    """A link is not followed, whatever it points to."""
    (folder / FILE_NAME).rename(tmp_path / "elsewhere")
    if kind == "link":
        (folder / FILE_NAME).symlink_to(tmp_path / "elsewhere")
    if kind == "folder":
        (folder / FILE_NAME).mkdir()

    with pytest.raises(EdgeError) as refused:
        provision(folder, place)

    assert refused.value.code == "E-PRV-102"
    assert not list(place.etc.iterdir())


def test_cut_short_at_any_step(folder: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until edge.toml is there the key is whole, and doing it again succeeds."""
    steps = 0

    def cut_at(limit: int) -> Callable[..., None]:
        done = 0

        def replace(path: Path, data: bytes, *, mode: int) -> None:
            nonlocal done, steps
            if path.parent != folder:
                if done == limit:
                    raise OSError("the power is gone")
                done += 1
                steps = max(steps, done)
            replace_file(path, data, mode=mode)

        return replace

    limit = 0
    while not (place.etc / "edge.toml").exists():
        monkeypatch.setattr(provisioning, "replace_file", cut_at(limit))
        before = (folder / FILE_NAME).read_bytes()
        try:
            provision(folder, place)
        except OSError:
            assert (folder / FILE_NAME).read_bytes() == before
            assert not (place.etc / "edge.toml").exists()
        limit += 1

    assert steps == 8  # six PEM files, the addresses, edge.toml
    assert load_config(place.etc / "edge.toml").dock == "dock-01"
