"""A certificate ends while programs run: what is on the disk counts, at each new connection."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from runtime.tls import client_context, server_context
from tests.simulators.certificates import EXPIRED, Authority, Pair

HOST: Final = "127.0.0.1"
REFUSALS: Final = (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


@asynccontextmanager
async def answering(context: ssl.SSLContext) -> AsyncIterator[int]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b".")
        await reader.read()
        writer.close()

    listening = await asyncio.start_server(answer, HOST, 0, ssl=context)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


async def seen(port: int, context: ssl.SSLContext) -> bytes:
    """Return the certificate that the server shows to a connection that is good both ways."""
    reader, writer = await asyncio.open_connection(HOST, port, ssl=context)
    try:
        await reader.readexactly(1)
        certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    return bytes(certificate)


def client_of(authority: Authority, pair: Pair) -> ssl.SSLContext:
    return client_context(ca=authority.ca, certificate=pair.certificate, key=pair.key)


def server_of(authority: Authority, pair: Pair) -> ssl.SSLContext:
    return server_context(ca=authority.ca, certificate=pair.certificate, key=pair.key)


def in_file(pair: Pair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())


async def test_a_renewed_client_is_let_in(authority: Authority) -> None:
    """A client whose certificate ended is refused; once it is renewed on the disk it is let in."""
    archive = authority.issue_tls("archive")
    client = client_of(authority, authority.issue_tls("dock", lifetime=EXPIRED))
    async with answering(server_of(authority, archive)) as port:
        with pytest.raises(REFUSALS):
            await seen(port, client)
        authority.issue_tls("dock")
        shown = await seen(port, client)

    assert shown == in_file(archive)


async def test_a_renewed_server_is_believed(authority: Authority) -> None:
    """A server whose certificate ended is not believed; once it is renewed on the disk it is."""
    archive = authority.issue_tls("archive", lifetime=EXPIRED)
    client = client_of(authority, authority.issue_tls("dock"))
    async with answering(server_of(authority, archive)) as port:
        with pytest.raises(ssl.SSLCertVerificationError):
            await seen(port, client)
        authority.issue_tls("archive")
        shown = await seen(port, client)

    assert shown == in_file(archive)


async def test_half_a_renewal_changes_nothing(authority: Authority) -> None:
    """Between the writing of certificate and key, what was there before is still shown."""
    archive = authority.issue_tls("archive")
    before, old_key = in_file(archive), archive.key.read_bytes()
    client = client_of(authority, authority.issue_tls("dock"))
    async with answering(server_of(authority, archive)) as port:
        authority.issue_tls("archive")
        new_key = archive.key.read_bytes()
        archive.key.write_bytes(old_key)
        half = await seen(port, client)
        archive.key.write_bytes(new_key)
        whole = await seen(port, client)

    assert half == before
    assert whole == in_file(archive)


@pytest.mark.parametrize("spoil", ["exposed", "gone", "noise"])
async def test_a_renewal_that_cannot_be_used_changes_nothing(
    authority: Authority, spoil: str
) -> None:
    """A new key that others may read, or that is none, is not used; connections go on."""
    archive = authority.issue_tls("archive")
    before = in_file(archive)
    client = client_of(authority, authority.issue_tls("dock"))
    async with answering(server_of(authority, archive)) as port:
        authority.issue_tls("archive")
        if spoil == "exposed":
            archive.key.chmod(0o644)
        elif spoil == "gone":
            archive.key.unlink()
        else:
            archive.key.write_bytes(b"noise")
        shown = await seen(port, client)

    assert shown == before


async def test_a_blocking_client_is_renewed_too(authority: Authority) -> None:
    """What connects in a thread, as the MQTT library does, shows the renewed certificate."""
    server = server_of(authority, authority.issue_tls("archive"))
    client = client_of(authority, authority.issue_tls("dock", lifetime=EXPIRED))
    authority.issue_tls("dock")
    async with answering(server) as port:
        answer = await asyncio.to_thread(blocking_hello, port, client)

    assert answer == b"."


def blocking_hello(port: int, context: ssl.SSLContext) -> bytes:
    with (
        socket.create_connection((HOST, port), 30) as plain,
        context.wrap_socket(plain, server_hostname=HOST) as wrapped,
    ):
        return wrapped.recv(1)
