"""What one dock may take of the archive's places, disk and connections."""

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from msgspec.structs import replace as replaced

from runtime.tls import server_context
from server_agent.adapters import uploads as uploads_module
from server_agent.adapters.door import DoorLimits
from server_agent.adapters.tus_endpoint import TusEndpoint, serve_tus
from server_agent.adapters.uploads import UploadLimits
from tests.simulators.archive_site import DOCK, OTHER_DOCK
from tests.simulators.broker import HOST
from tests.simulators.claims import Claim, Claimant
from tests.simulators.tus_site import (
    TIMEOUT_S,
    TUS,
    TusSite,
    location,
    metadata,
    open_tus_site,
)

MIB = 1 << 20


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[TusSite]:
    async with open_tus_site(tmp_path) as opened:
        yield opened


async def first_bytes_then_silence(content: bytes) -> AsyncIterator[bytes]:
    yield content
    await asyncio.Event().wait()


async def a_byte_now_and_then(content: bytes) -> AsyncIterator[bytes]:
    for index in range(len(content)):
        yield content[index : index + 1]
        await asyncio.sleep(0.01)


async def admit_other(site: TusSite, content: bytes) -> Claim:
    claim = Claimant(OTHER_DOCK, site.site.key(OTHER_DOCK)).claim(recordings=[[content]])
    await site.take(claim)
    return claim


def allocated_bytes(path: Path) -> int:
    return path.stat().st_blocks * 512


async def test_one_dock_leaves_places_for_others(site: TusSite) -> None:
    """A dock that has its share of the places waits; another one is received."""
    site.limits = UploadLimits(keep_free_bytes=0, receiving=8, receiving_per_dock=2)
    bodies = [b"%d" % number + b"x" * 1_000 for number in range(3)]
    greedy = await site.admit(recordings=[bodies])
    honest = await admit_other(site, b"evidence")
    async with site.serving(), site.client() as dock, site.client(OTHER_DOCK) as other:
        for body in bodies:
            await dock.create(greedy, body)
        holding = [
            asyncio.create_task(
                dock.patch(location(greedy, body), first_bytes_then_silence(body[:9]), offset=0)
            )
            for body in bodies[:2]
        ]
        async with asyncio.timeout(TIMEOUT_S):
            while sum(path.stat().st_size > 0 for path in site.files()) < 2:  # noqa: ASYNC110 -- a disk gives no event
                await asyncio.sleep(0)
        third = await dock.patch(location(greedy, bodies[2]), bodies[2], offset=0)
        theirs = await other.create(honest, b"evidence", data=b"evidence")
        for task in holding:
            task.cancel()
        await asyncio.gather(*holding, return_exceptions=True)

    assert (third.status, third.code) == (503, "E-UPL-112")
    assert "Retry-After" in third.headers
    assert theirs.status == 201


async def test_a_body_that_drips_is_given_up(site: TusSite) -> None:
    """A byte now and then does not hold a place; what it brought is kept."""
    site.stall_timeout_s = 0.3
    body = os.urandom(50_000)
    claim = await site.admit(recordings=[[body]])
    async with site.serving(), site.client() as dock:
        await dock.create(claim, body)
        reply = await dock.patch(location(claim, body), a_byte_now_and_then(body), offset=0)
        head = await dock.head(location(claim, body))

    assert (reply.status, reply.code) == (408, "E-UPL-111")
    assert 0 < head.offset < len(body)


async def test_announcing_a_file_reserves_nothing(site: TusSite) -> None:
    """A large file that is asked for takes no room before its bytes come."""
    claim = site.claimant.claim(recordings=[[b"ghost"]])
    [recording] = claim.manifest.recordings
    [clip] = recording.clips
    large = replaced(clip, file=replaced(clip.file, size_bytes=512 * MIB))
    claim = site.claimant.sign(
        replaced(claim.manifest, recordings=(replaced(recording, clips=(large,)),)),
        claim.contents,
    )
    await site.take(claim)
    async with site.serving(), site.client() as dock:
        headers = {
            **TUS,
            "Upload-Length": str(512 * MIB),
            "Upload-Metadata": metadata(claim, b"ghost"),
        }
        reply = await dock.request("POST", "/v1/uploads", headers)
        [path] = site.files()
        announced_bytes = allocated_bytes(path)
        await dock.patch(location(claim, b"ghost"), b"12345", offset=0)

    assert reply.status == 201
    assert announced_bytes == 0
    assert allocated_bytes(path) < MIB


async def test_room_is_set_aside_in_steps(site: TusSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a file comes in, the disk is asked for a step at a time, never beyond its size."""
    monkeypatch.setattr(uploads_module, "RESERVED_BYTES", 400_000)
    asked: list[int] = []
    body = os.urandom(8_000_000)
    claim = await site.admit(recordings=[[body]])
    async with site.serving(), site.client() as dock:
        monkeypatch.setattr(
            "server_agent.adapters.incoming_file.extend_reservation",
            lambda _, size_bytes: asked.append(size_bytes),
        )
        await dock.create(claim, body)
        reply = await dock.patch(location(claim, body), body, offset=0)

    assert reply.offset == len(body)
    assert asked == sorted(set(asked))
    assert len(asked) >= 3
    assert asked[-1] <= len(body)


async def test_an_archive_that_fills_up_keeps_what_came(
    site: TusSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a later step finds no room, the dock is told, and goes on from there when there is."""
    monkeypatch.setattr(uploads_module, "RESERVED_BYTES", 400_000)
    body = os.urandom(3_000_000)
    claim = await site.admit(recordings=[[body]])
    free = iter([1 << 40, 1 << 40])
    async with site.serving(), site.client() as dock:
        with monkeypatch.context() as patched:
            patched.setattr(uploads_module, "_free_bytes", lambda _: next(free, 0))
            await dock.create(claim, body)
            full = await dock.patch(location(claim, body), body, offset=0)
        head = await dock.head(location(claim, body))
        rest = await dock.patch(location(claim, body), body[head.offset :], offset=head.offset)

    assert (full.status, full.code) == (507, "E-UPL-113")
    assert head.offset > 0
    assert rest.offset == len(body)


async def test_a_sealed_file_that_is_missing_comes_again(site: TusSite) -> None:
    """What lost its write bits in a bag that did not read back is removed when it is asked for."""
    claim = await site.admit(recordings=[[b"right"]])
    async with site.serving(), site.client() as dock:
        await dock.create(claim, b"right")
        [path] = site.files()
    path.write_bytes(b"wrong")
    path.chmod(0o444)
    async with site.serving(), site.client() as dock:
        again = await dock.create(claim, b"right", data=b"right")

    assert again.status == 201
    assert [one.read_bytes() for one in site.files()] == [b"right"]


@contextlib.asynccontextmanager
async def served(site: TusSite, limits: DoorLimits) -> AsyncIterator[int]:
    async with site.serving() as uploads:
        endpoint = TusEndpoint(
            uploads,
            docks=lambda: site.docks,
            on_disk_failure=_ignore,
            stall_timeout_s=TIMEOUT_S,
        )
        tls = site.site.tls["archive"]
        context = server_context(
            ca=site.site.authority.ca, certificate=tls.certificate, key=tls.key
        )
        async with serve_tus(endpoint, host=HOST, port=0, tls=context, limits=limits) as port:
            yield port


async def _ignore(_: OSError) -> None:
    return None


async def connect(
    port: int, tls: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(HOST, port, ssl=tls)


async def health(port: int, tls: ssl.SSLContext) -> int:
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session,
        session.get(
            f"https://{HOST}:{port}/healthz", timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)
        ) as answer,
    ):
        return answer.status


async def test_a_silent_connection_is_closed(site: TusSite) -> None:
    """Who connects and asks for nothing loses the connection."""
    async with served(site, DoorLimits(idle_s=0.2)) as port:
        reader, writer = await connect(port, site.tls(DOCK))
        async with asyncio.timeout(TIMEOUT_S):
            with contextlib.suppress(OSError):
                assert await reader.read() == b""
        writer.close()


async def test_headers_that_drip_are_not_waited_for(site: TusSite) -> None:
    """A request whose headers never end is no request."""
    async with served(site, DoorLimits(idle_s=0.2)) as port:
        reader, writer = await connect(port, site.tls(DOCK))
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        async with asyncio.timeout(TIMEOUT_S):
            with contextlib.suppress(OSError):
                assert await reader.read() == b""
        writer.close()


async def test_a_certificate_has_so_many_connections(site: TusSite) -> None:
    """A dock that opens too many loses the new ones; another dock is served."""
    async with served(site, DoorLimits(of_certificate=2)) as port:
        first, second, third = [await connect(port, site.tls(DOCK)) for _ in range(3)]
        async with asyncio.timeout(TIMEOUT_S):
            with contextlib.suppress(OSError):
                assert await third[0].read() == b""
        status = await health(port, site.tls(OTHER_DOCK))
        for _, writer in (first, second, third):
            writer.close()

    assert status == 200


async def test_strangers_do_not_keep_docks_out(site: TusSite) -> None:
    """Connections that show no certificate are few for each address, and end soon."""
    limits = DoorLimits(connections=4, of_address=2, handshake_s=0.3)
    async with served(site, limits) as port:
        strangers = [socket.create_connection((HOST, port)) for _ in range(10)]
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                with contextlib.suppress(aiohttp.ClientError, OSError):
                    status = await health(port, site.tls(DOCK))
                    break
                await asyncio.sleep(0.05)
        for one in strangers:
            one.close()

    assert status == 200
