import asyncio
import ssl
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives import serialization

from runtime.errors import KeyExposedError, KeyUnusableError
from runtime.tls import client_context, peer_common_name, server_context
from tests.simulators.certificates import Authority, Pair

HOST: Final = "127.0.0.1"
REFUSALS: Final = (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def archive(authority: Authority) -> Pair:
    return authority.issue_tls("archive")


@pytest.fixture(scope="module")
def dock(authority: Authority) -> Pair:
    return authority.issue_tls("dock-7")


def server(authority: Authority, pair: Pair) -> ssl.SSLContext:
    return server_context(ca=authority.ca, certificate=pair.certificate, key=pair.key)


def client(authority: Authority, pair: Pair) -> ssl.SSLContext:
    return client_context(ca=authority.ca, certificate=pair.certificate, key=pair.key)


async def shake_hands(
    serving: ssl.SSLContext, connecting: ssl.SSLContext, *, name: str = HOST
) -> tuple[str | None, str | None, str | None]:
    """Return who the server saw, who the client saw, and the protocol's version."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(peer_common_name(writer.get_extra_info("ssl_object")))
        writer.write(b".")
        await reader.read()
        writer.close()
        over.set()

    seen: list[str | None] = []
    over = asyncio.Event()
    listening = await asyncio.start_server(answer, HOST, 0, ssl=serving)
    async with listening:
        host, port = listening.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(
            host, port, ssl=connecting, server_hostname=name
        )
        try:
            await reader.readexactly(1)
            ssl_object = writer.get_extra_info("ssl_object")
            result = peer_common_name(ssl_object), ssl_object.version()
        finally:
            writer.close()
        await over.wait()
    return seen[0], *result


async def test_both_know_each_other(authority: Authority, archive: Pair, dock: Pair) -> None:
    """Each end sees the other's common name, over TLS 1.3."""
    seen = await shake_hands(server(authority, archive), client(authority, dock))

    assert seen == ("dock-7", "archive", "TLSv1.3")


async def test_an_older_peer_speaks_tls_1_2(
    authority: Authority, archive: Pair, dock: Pair
) -> None:
    """TLS 1.2 is still spoken with those who know no better."""
    old = client(authority, dock)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    seen = await shake_hands(server(authority, archive), old)

    assert seen == ("dock-7", "archive", "TLSv1.2")


def test_nothing_older_is_spoken(authority: Authority, dock: Pair) -> None:
    """TLS 1.1 and below are off at both ends."""
    contexts = client(authority, dock), server(authority, dock)

    assert {context.minimum_version for context in contexts} == {ssl.TLSVersion.TLSv1_2}


def test_only_the_sites_authority_vouches(authority: Authority, dock: Pair) -> None:
    """The system's certificate authorities are not asked."""
    contexts = client(authority, dock), server(authority, dock)

    assert [len(context.get_ca_certs()) for context in contexts] == [1, 1]
    assert {context.verify_mode for context in contexts} == {ssl.CERT_REQUIRED}


async def test_a_client_without_certificate_is_refused(authority: Authority, archive: Pair) -> None:
    """Who shows nothing gets nothing."""
    nobody = ssl.create_default_context(cafile=authority.ca)

    with pytest.raises(REFUSALS):
        await shake_hands(server(authority, archive), nobody)


async def test_a_client_of_another_site_is_refused(
    tmp_path: Path, authority: Authority, archive: Pair
) -> None:
    """A certificate of another authority is as good as none."""
    other = Authority(tmp_path)
    stranger = ssl.create_default_context(cafile=authority.ca)
    pair = other.issue_tls("dock-7")
    stranger.load_cert_chain(pair.certificate, pair.key)

    with pytest.raises(REFUSALS):
        await shake_hands(server(authority, archive), stranger)


async def test_a_server_of_another_site_is_refused(
    tmp_path: Path, authority: Authority, dock: Pair
) -> None:
    """A client talks to its own site only."""
    other = Authority(tmp_path)
    impostor = server(other, other.issue_tls("archive"))

    with pytest.raises(ssl.SSLCertVerificationError):
        await shake_hands(impostor, client(authority, dock))


async def test_a_server_of_another_name_is_refused(
    authority: Authority, archive: Pair, dock: Pair
) -> None:
    """A machine of our own site cannot stand for another one."""
    with pytest.raises(ssl.SSLCertVerificationError):
        await shake_hands(
            server(authority, archive), client(authority, dock), name="archive.example"
        )


def test_no_connection_has_no_name() -> None:
    """Without TLS nobody is known."""
    assert peer_common_name(None) is None


def test_an_unfinished_handshake_has_no_name(authority: Authority, dock: Pair) -> None:
    """Who has shown nothing yet is nobody."""
    context = client(authority, dock)
    unfinished = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=HOST)

    with pytest.raises(ValueError, match="handshake"):
        peer_common_name(unfinished)


@pytest.mark.parametrize("make", [client_context, server_context])
def test_an_exposed_key_is_refused(authority: Authority, make: type[ssl.SSLContext]) -> None:
    """A private key to which others have any right is not used."""
    pair = authority.issue_tls(f"exposed-{make.__name__}")
    pair.key.chmod(0o640)

    with pytest.raises(KeyExposedError):
        make(ca=authority.ca, certificate=pair.certificate, key=pair.key)


def test_a_key_of_another_certificate_is_refused(
    authority: Authority, archive: Pair, dock: Pair
) -> None:
    """The message names the file that does not fit."""
    with pytest.raises(KeyUnusableError) as caught:
        client_context(ca=authority.ca, certificate=archive.certificate, key=dock.key)

    assert caught.value.file == dock.key


def test_an_encrypted_key_is_refused(authority: Authority) -> None:
    """A daemon has nobody to ask for a password, and does not wait for one."""
    pair = authority.issue_tls("encrypted")
    key = serialization.load_pem_private_key(pair.key.read_bytes(), password=None)
    pair.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )

    with pytest.raises(KeyUnusableError):
        client(authority, pair)


def test_an_authority_that_is_none_is_refused(
    tmp_path: Path, authority: Authority, dock: Pair
) -> None:
    """A file without a certificate does not make a context that trusts nobody, or everybody."""
    (tmp_path / "ca.pem").write_text("nothing")

    with pytest.raises(KeyUnusableError) as caught:
        client_context(ca=tmp_path / "ca.pem", certificate=dock.certificate, key=dock.key)
    assert caught.value.file == tmp_path / "ca.pem"
    assert authority.ca.exists()


def test_a_missing_file_is_our_disks_word(tmp_path: Path, authority: Authority, dock: Pair) -> None:
    """A file that cannot be read is told as the disk tells it."""
    with pytest.raises(FileNotFoundError):
        client_context(ca=tmp_path / "none", certificate=dock.certificate, key=dock.key)
    with pytest.raises(FileNotFoundError):
        client_context(ca=authority.ca, certificate=dock.certificate, key=tmp_path / "none")
