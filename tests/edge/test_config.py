import re
from pathlib import Path
from typing import Final

import pytest

from edge_agent.config import Check, check_config, load_config, load_profiles
from edge_agent.errors import ProfileError
from runtime.errors import SettingsError
from tests.simulators.edge_site import PROFILES, EdgeSite, lay_out_edge_site

ORIGINAL: Final = 'dock = "dock-1"'


@pytest.fixture
def site(tmp_path: Path) -> EdgeSite:
    return lay_out_edge_site(tmp_path)


def problems(site: EdgeSite) -> dict[str, Check]:
    checks = check_config(load_config(site.config))
    return {check.name: check for check in checks if check.problem is not None}


def rewrite(site: EdgeSite, old: str, new: str) -> None:
    text = site.config.read_text()
    assert old in text
    site.config.write_text(text.replace(old, new))


def test_a_good_configuration_passes(site: EdgeSite) -> None:
    """Where everything is in place, no check finds anything."""
    assert not problems(site)


def test_paths_are_relative_to_the_file(site: EdgeSite) -> None:
    """A relative path is one beside the configuration, wherever the agent was started."""
    config = load_config(site.config)

    assert config.storage.journal == site.root / "journal.sqlite"
    assert config.bays[0].path == site.root / "bays/1"


@pytest.mark.parametrize(
    ("old", "new", "key_path"),
    [
        (ORIGINAL, "", "$.dock"),
        (ORIGINAL, "dock = 1", "$.dock"),
        (ORIGINAL, f"{ORIGINAL}\ndocks = 1", "$.docks"),
        ("mqtt_port = 8883", "mqtt_port = 70000", "$.archive.mqtt_port"),
        ("mqtt_port = 8883", 'mqtt_port = "8883"', "$.archive.mqtt_port"),
        ('socket = "control.socket"', "", "$.control.socket"),
        ("number = 1", "number = 0", "$.bays[0].number"),
        ("number = 1", "", "$.bays[0].number"),
        ('source = "directory"', 'source = "serial"', "$.bays[0].source"),
        ('source = "directory"', 'source = "usb"', "$.bays[0]"),
        ('path = "bays/1"', 'ports = ["1-1"]', "$.bays[0]"),
        ('path = "bays/1"', 'path = "bays/1"\nports = ["1-1"]', "$.bays[0]"),
        ('path = "bays/1"', 'ports = ["../1"]', "$.bays[0].ports[0]"),
        ('path = "bays/1"', 'path = ""', "$.bays[0].path"),
        (
            'path = "bays/1"',
            'path = "bays/1"\nread_limit_bytes_s = 0',
            "$.bays[0].read_limit_bytes_s",
        ),
        ("reconcile_s = 1", "reconcile_s = 0", "$.uplink.reconcile_s"),
        ('level = "debug"', 'level = "loud"', "$.log.level"),
        ("[uplink]", '[ingest]\nevidence = "L4"\n[uplink]', "$.ingest.evidence"),
        ("[uplink]", "[ingest]\ncheckpoint_bytes = 1\n[uplink]", "$.ingest.checkpoint_bytes"),
        (ORIGINAL, "dock = ", "$"),
    ],
)
def test_a_wrong_key_is_named(site: EdgeSite, old: str, new: str, key_path: str) -> None:
    """The error says where in the file, to the key."""
    rewrite(site, old, new)

    with pytest.raises(SettingsError) as caught:
        load_config(site.config)

    assert caught.value.key_path == key_path


def test_a_dock_has_bays(site: EdgeSite) -> None:
    """A dock without any bay is none."""
    text = site.config.read_text()
    site.config.write_text("bays = []\n" + text[: text.index("[[bays]]")])

    with pytest.raises(SettingsError) as caught:
        load_config(site.config)

    assert caught.value.key_path == "$.bays"


@pytest.mark.parametrize(
    ("old", "new", "check"),
    [
        (ORIGINAL, 'dock = "Dock 1"', "dock's name"),
        (ORIGINAL, 'dock = "archive"', "dock's name"),
        (ORIGINAL, 'dock = "dock-2"', "certificate's name"),
        ('"Asia/Shanghai"', '"Asia/Atlantis"', "timezone"),
        ('"Asia/Shanghai"', '"../../etc/passwd"', "timezone"),
        ('mqtt_host = "127.0.0.1"', 'mqtt_host = "8.8.8.8"', "broker's address"),
        ('"https://127.0.0.1:8443"', '"https://8.8.8.8:8443"', "archive's address"),
        ('"https://127.0.0.1:8443"', '"https://[2001:4860::8888]"', "archive's address"),
        ('"https://127.0.0.1:8443"', '"http://127.0.0.1:8443"', "archive's address"),
        ('"https://127.0.0.1:8443"', '"https://127.0.0.1:8443/x"', "archive's address"),
        ('"https://127.0.0.1:8443"', '"https://127.0.0.1:99999"', "archive's address"),
        ('"https://127.0.0.1:8443"', '"127.0.0.1"', "archive's address"),
        ('staging = "staging"', 'staging = "nowhere/at/all"', "staging folder"),
        ('staging = "staging"', 'staging = "edge.toml/x"', "staging folder"),
        ('journal = "journal.sqlite"', 'journal = "a/b/journal.sqlite"', "journal's folder"),
        ('socket = "control.socket"', 'socket = "a/b/control.socket"', "control socket's folder"),
        ('socket = "control.socket"', f'socket = "{"x" * 100}"', "control socket's name"),
        ('staging = "staging"', 'staging = "bays/1/staging"', "bays and storage"),
        ('journal = "journal.sqlite"', 'journal = "bays/1/j.sqlite"', "bays and storage"),
        ('path = "bays/1"', 'path = "staging/files"', "bays and storage"),
        ('ca = "pki/ca.pem"', 'ca = "edge.toml"', "TLS identity"),
        ('ca = "pki/ca.pem"', 'ca = "pki/none.pem"', "TLS identity"),
        ("dock-1/tls.key", "archive/tls.key", "TLS identity"),
        ("dock-1/signing.key", "dock-1/tls.key", "signing key"),
        ("archive/signing.pem", "archive/tls.pem", "archive's signing certificate"),
    ],
)
def test_a_wrong_value_is_found(site: EdgeSite, old: str, new: str, check: str) -> None:
    """Each check finds what it is for, and says what to do."""
    rewrite(site, old, new)

    found = problems(site)

    assert check in found
    assert found[check].remedy


@pytest.mark.parametrize("name", ["archive.lan", "10.1.2.3", "192.168.7.7", "fd00::7"])
def test_local_hosts_are_welcome(site: EdgeSite, name: str) -> None:
    """Private addresses, and names of one's own network, pass."""
    rewrite(site, 'mqtt_host = "127.0.0.1"', f'mqtt_host = "{name}"')

    assert not problems(site)


@pytest.mark.parametrize("key", ["tls.key", "signing.key"])
def test_keys_are_private(site: EdgeSite, key: str) -> None:
    """A private key that others may read is refused, with its name."""
    path = site.root / "pki/dock-1" / key
    path.chmod(0o640)

    [found] = problems(site).values()

    assert found.problem is not None
    assert re.search(rf"E-RUN-111: .*{re.escape(str(path))}", found.problem)


@pytest.mark.parametrize(
    "second",
    [
        'number = 1\nsource = "directory"\npath = "bays/2"',
        'number = 2\nsource = "directory"\npath = "bays/1"',
        'number = 2\nsource = "directory"\npath = "bays/../bays/1/"',
    ],
)
def test_bays_are_distinct(site: EdgeSite, second: str) -> None:
    """Two bays share neither a number nor a folder, however it is written."""
    site.config.write_text(f"{site.config.read_text()}\n[[bays]]\n{second}\n")

    assert list(problems(site)) == ["bays"]


def test_profiles_are_read(site: EdgeSite) -> None:
    """A wrong profile is found before a recorder is docked."""
    folder = site.root / "profiles"
    folder.mkdir()
    text = site.config.read_text()
    site.config.write_text(re.sub(r'profiles = ".*"', 'profiles = "profiles"', text))
    none = problems(site)
    (folder / "wrong.toml").write_text("name = 1")
    wrong = problems(site)

    assert list(none) == list(wrong) == ["profiles"]
    assert "wrong.toml" in str(wrong["profiles"].problem)


@pytest.mark.parametrize(
    "content",
    [b"a = \xff", b"a = " + b"[" * 3_000, b"a = " + b"9" * 5_000, b'a = "\x00"'],
    ids=["no UTF-8", "nested deeply", "a long number", "a NUL"],
)
def test_what_is_no_toml_is_said_so(site: EdgeSite, content: bytes) -> None:
    """Whatever bytes stand in a file, it is named, as a configuration and as a profile."""
    site.config.write_bytes(content)
    with pytest.raises(SettingsError):
        load_config(site.config)

    site.config.rename(site.root / "odd.toml")
    with pytest.raises(ProfileError, match=r"odd\.toml"):
        load_profiles(site.root)


def test_a_path_has_no_nul(site: EdgeSite) -> None:
    """A path that no system call would take is found before one is tried."""
    rewrite(site, 'path = "bays/1"', 'path = "bays/\\u0000"')

    with pytest.raises(SettingsError, match=r"\$\.bays\[0\]\.path"):
        load_config(site.config)


def test_profiles_have_names_of_their_own(site: EdgeSite) -> None:
    """Two profiles of one name are refused: dockings are closed by the profile's name."""
    text = (PROFILES / "generic.toml").read_text(encoding="utf-8")
    for name in ("one.toml", "other.toml"):
        (site.root / name).write_text(text, encoding="utf-8")
    site.config.unlink()

    with pytest.raises(ProfileError, match="generic"):
        load_profiles(site.root)


USB: Final = 'source = "usb"\nports = ["1-1.2", "2-1.2"]'


def test_a_usb_bay_needs_no_folder(site: EdgeSite) -> None:
    """Its connector's paths say where it is."""
    rewrite(site, 'source = "directory"\npath = "bays/1"', USB)

    assert load_config(site.config).bays[0].ports == ("1-1.2", "2-1.2")
    assert not problems(site)


@pytest.mark.parametrize("port", ["1-1.2", "1-1", "2-1.2.4"])
def test_two_bays_never_share_a_port(site: EdgeSite, port: str) -> None:
    """Neither the same one, nor one that is a hub above or below it."""
    other = f'[[bays]]\nnumber = 9\nsource = "usb"\nports = ["{port}"]\n\n[[bays]]'
    rewrite(site, 'source = "directory"\npath = "bays/1"', USB)
    site.config.write_text(site.config.read_text().replace("[[bays]]", other, 1))

    assert "bays" in problems(site)
