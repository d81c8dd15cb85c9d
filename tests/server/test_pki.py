"""The site's authority: what stock tools think of its certificates, and what it never does."""

import argparse
import socket
import ssl
import stat
import subprocess
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from protocol.identifiers import DockId
from protocol.keys import VerifyingKey
from runtime.keys import load_certificate_key, load_signing_key
from server_agent.pki.authority import Validity
from server_agent.pki.commands import add_pki_commands
from server_agent.pki.errors import (
    AuthorityUnusableError,
    CertificateKeptError,
    HostNameError,
    KeyFileError,
)
from server_agent.pki.folder import PkiFolder

NOW = datetime.now(UTC)
HOSTS = ("127.0.0.1", "archive.station.lan")
DOCK = DockId("dock-01")
TLS = (
    "broker/tls.pem",
    "archive/tls.pem",
    "console/tls.pem",
    "console/web.pem",
    "dock-01/tls.pem",
)
SIGNING = ("archive/signing.pem", "dock-01/signing.pem")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = PkiFolder(tmp_path_factory.mktemp("pki"))
    folder.create_authority(NOW)
    folder.issue_site(HOSTS, NOW)
    folder.issue_dock(DOCK, NOW)
    return folder.directory


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser(prog="server-agent")
    add_pki_commands(parser.add_subparsers(required=True))
    parsed = parser.parse_args(["pki", *arguments])
    status: int = parsed.run(parsed)
    return status


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def openssl_verify(pki: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["openssl", "verify", "-x509_strict", "-CAfile", str(pki / "ca.pem"), *options],
        capture_output=True,
        text=True,
        check=False,
    )


def test_files_are_where_the_contract_says(pki: Path) -> None:
    """The folder holds exactly the files of docs/architecture.md."""
    names = {str(path.relative_to(pki)) for path in content(pki)}

    certificates = {"ca.pem", *TLS, *SIGNING}
    assert names == certificates | {name.replace(".pem", ".key") for name in certificates}


def test_private_keys_are_private(pki: Path) -> None:
    """Only their owner may read private keys."""
    assert {stat.S_IMODE(path.stat().st_mode) for path in pki.rglob("*.key")} == {0o600}


@pytest.mark.parametrize("name", [*TLS, *SIGNING])
def test_openssl_accepts_each_certificate(pki: Path, name: str) -> None:
    """Stock openssl, in its strict mode, finds nothing wrong with any certificate."""
    done = openssl_verify(pki, str(pki / name))

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "purposes"),
    [
        ("broker/tls.pem", {"sslserver"}),
        ("console/web.pem", {"sslserver"}),
        ("archive/tls.pem", {"sslserver", "sslclient"}),
        ("console/tls.pem", {"sslclient"}),
        ("dock-01/tls.pem", {"sslclient"}),
    ],
)
def test_each_end_of_tls(pki: Path, name: str, purposes: set[str]) -> None:
    """A TLS certificate is good for its own end only: a dock cannot pose as the archive."""
    good = {
        purpose
        for purpose in ("sslserver", "sslclient")
        if openssl_verify(pki, "-purpose", purpose, str(pki / name)).returncode == 0
    }

    assert good == purposes


@pytest.mark.parametrize("option", [("-verify_ip", "127.0.0.1"), ("-verify_hostname", HOSTS[1])])
@pytest.mark.parametrize("name", ["broker/tls.pem", "archive/tls.pem"])
def test_servers_vouch_for_their_hosts(pki: Path, name: str, option: Sequence[str]) -> None:
    """Broker and archive are known by every host that was asked for, and by no other."""
    assert openssl_verify(pki, *option, str(pki / name)).returncode == 0
    assert openssl_verify(pki, option[0], "127.0.0.9", str(pki / name)).returncode != 0


@pytest.mark.parametrize("name", SIGNING)
def test_signing_keys(pki: Path, name: str) -> None:
    """A signing certificate is for the key beside it, and for signing alone."""
    certificate = x509.load_pem_x509_certificate((pki / name).read_bytes())
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value

    key = load_signing_key(pki / name.replace(".pem", ".key"))
    assert load_certificate_key(pki / name).key_id == key.key_id
    assert isinstance(VerifyingKey.from_certificate_pem((pki / name).read_bytes()), VerifyingKey)
    assert usage.digital_signature
    assert not usage.key_cert_sign
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)


def test_only_the_authority_signs_certificates(pki: Path) -> None:
    """The authority may sign certificates; nothing that it issued may."""
    able = [
        path.name
        for path in pki.rglob("*.pem")
        if x509.load_pem_x509_certificate(path.read_bytes())
        .extensions.get_extension_for_class(x509.BasicConstraints)
        .value.ca
    ]

    assert able == ["ca.pem"]


def test_numbers_are_unique(pki: Path) -> None:
    """No two certificates have one serial number, and each number is hard to guess."""
    numbers = [
        x509.load_pem_x509_certificate(path.read_bytes()).serial_number
        for path in pki.rglob("*.pem")
    ]

    assert len(set(numbers)) == len(numbers)
    assert min(number.bit_length() for number in numbers) > 64


def strict(purpose: ssl.Purpose, pki: Path, name: str) -> ssl.SSLContext:
    context = ssl.create_default_context(purpose, cafile=pki / "ca.pem")
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(pki / name / "tls.pem", pki / name / "tls.key")
    return context


@pytest.mark.parametrize("server", ["broker", "archive"])
@pytest.mark.parametrize("client", ["dock-01", "console", "archive"])
def test_strict_python_shakes_hands(pki: Path, server: str, client: str) -> None:
    """Each client and each server accept each other under VERIFY_X509_STRICT."""
    serving = strict(ssl.Purpose.CLIENT_AUTH, pki, server)
    connecting = strict(ssl.Purpose.SERVER_AUTH, pki, client)
    near, far = socket.socketpair()
    seen: list[object] = []

    def serve() -> None:
        with serving.wrap_socket(far, server_side=True) as wrapped:
            seen.append(wrapped.getpeercert())
            wrapped.sendall(wrapped.recv(1))

    thread = threading.Thread(target=serve)
    thread.start()
    with connecting.wrap_socket(near, server_hostname="127.0.0.1") as wrapped:
        wrapped.sendall(b"!")
        assert wrapped.recv(1) == b"!"
    thread.join(30)

    assert f"(('commonName', '{client}'),)" in str(seen)


def test_doing_it_again_keeps_everything(tmp_path: Path) -> None:
    """A second run makes nothing new and changes no byte."""
    folder = PkiFolder(tmp_path)

    def make() -> list[bool]:
        kept = [folder.create_authority(NOW), *folder.issue_site(HOSTS, NOW)]
        return [one.is_new for one in [*kept, *folder.issue_dock(DOCK, NOW)]]

    assert all(make())
    before = content(tmp_path)

    assert not any(make())
    assert content(tmp_path) == before


@pytest.mark.parametrize("lost", ["ca.pem", "broker/tls.pem", "archive/signing.pem"])
def test_interrupted_run_is_completed(tmp_path: Path, lost: str) -> None:
    """A key whose certificate was not written any more gets it by the next run."""
    folder = PkiFolder(tmp_path)
    folder.create_authority(NOW)
    if lost != "ca.pem":
        folder.issue_site(HOSTS, NOW)
    key = tmp_path / lost.replace(".pem", ".key")
    before = key.read_bytes()
    (tmp_path / lost).unlink()

    folder.create_authority(NOW)
    folder.issue_site(HOSTS, NOW)

    assert key.read_bytes() == before
    assert openssl_verify(tmp_path, str(tmp_path / "broker/tls.pem")).returncode == 0


def test_other_hosts_overwrite_nothing(tmp_path: Path) -> None:
    """Asking for other hosts than a certificate has is an error, and changes nothing."""
    folder = PkiFolder(tmp_path)
    folder.create_authority(NOW)
    folder.issue_site(["127.0.0.1"], NOW)
    before = content(tmp_path)

    with pytest.raises(CertificateKeptError, match="never"):
        folder.issue_site(HOSTS, NOW)

    assert content(tmp_path) == before


def test_certificate_of_another_authority(tmp_path: Path, pki: Path) -> None:
    """A certificate that another authority issued is found, and not overwritten."""
    folder = PkiFolder(tmp_path)
    folder.create_authority(NOW)
    (tmp_path / DOCK).mkdir()
    for name in ("tls.pem", "tls.key"):
        (tmp_path / DOCK / name).write_bytes((pki / DOCK / name).read_bytes())

    with pytest.raises(CertificateKeptError, match="another authority"):
        folder.issue_dock(DOCK, NOW)


def test_certificate_of_another_key(tmp_path: Path) -> None:
    """A certificate that is not the key's beside it is found."""
    folder = PkiFolder(tmp_path)
    folder.create_authority(NOW)
    folder.issue_dock(DOCK, NOW)
    folder.issue_dock(DockId("dock-02"), NOW)
    (tmp_path / "dock-02/tls.pem").write_bytes((tmp_path / "dock-01/tls.pem").read_bytes())

    with pytest.raises((KeyFileError, CertificateKeptError)):
        folder.issue_dock(DockId("dock-02"), NOW)


def test_without_an_authority(tmp_path: Path) -> None:
    """Nothing is issued where there is no authority."""
    with pytest.raises(AuthorityUnusableError, match="pki init"):
        PkiFolder(tmp_path).issue_dock(DOCK, NOW)

    assert content(tmp_path) == {}


def test_after_the_authority_has_ended(tmp_path: Path) -> None:
    """An authority that has ended issues nothing; one that ends soon issues no longer than that."""
    folder = PkiFolder(tmp_path)
    ends = folder.create_authority(NOW, days=10).certificate.not_valid_after_utc

    [tls, _] = folder.issue_dock(DOCK, NOW, days=99)
    assert tls.certificate.not_valid_after_utc == ends

    with pytest.raises(AuthorityUnusableError, match="ended"):
        folder.issue_dock(DockId("dock-02"), NOW + timedelta(days=12))


@pytest.mark.parametrize("host", ["", "a b", "-x", "http://x", "127.0.0.1:8883", "x" * 64, "é"])
def test_hosts_that_are_none(tmp_path: Path, host: str) -> None:
    """What is neither a DNS name nor an address gets into no certificate."""
    folder = PkiFolder(tmp_path)
    folder.create_authority(NOW)

    with pytest.raises(HostNameError):
        folder.issue_site([host], NOW)


def test_clock_that_is_slow() -> None:
    """A certificate holds at once, also on a machine whose clock is hours behind."""
    validity = Validity.starting(NOW, days=1)

    assert validity.begins < NOW - timedelta(hours=12)
    assert validity.ends > NOW + timedelta(hours=23)


def test_commands_make_a_site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """init, issue and show do on a command line what the folder does."""
    folder = str(tmp_path / "pki")

    assert run("init", "--dir", folder, "--host", "127.0.0.1", "--host", "localhost") == 0
    assert run("issue", "--dir", folder, "--dock", DOCK) == 0
    assert capsys.readouterr().out.count("made") == 8
    assert run("show", "--dir", folder) == 0

    shown = capsys.readouterr().out
    key = load_certificate_key(tmp_path / "pki" / DOCK / "signing.pem")
    assert key.key_id in shown
    assert "127.0.0.1" in shown


def test_commands_say_what_went_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A command that cannot do it says its code, and ends with 1."""
    assert run("issue", "--dir", str(tmp_path), "--dock", DOCK) == 1
    assert "E-PKI-102" in capsys.readouterr().err

    assert run("show", "--dir", str(tmp_path)) == 1


@pytest.mark.parametrize("name", ["archive", "console", "broker", "Dock", "../x", ""])
def test_names_that_are_no_docks(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A dock is never given the name of the archive's own programs, nor a path."""
    with pytest.raises(SystemExit):
        run("issue", "--dir", str(tmp_path), "--dock", name)

    assert "usage" in capsys.readouterr().err
    assert content(tmp_path) == {}


@pytest.mark.parametrize("command", ["init", "issue", "show"])
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command's help shows how to call it."""
    with pytest.raises(SystemExit):
        run(command, "--help")

    assert f"server-agent pki {command} --dir" in capsys.readouterr().out
