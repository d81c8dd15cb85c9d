"""Uploads under bad conditions: connections that hang or compete, disks that fail or fill up."""

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from protocol.digest import sha256_hex
from runtime.durable import sync_file, write_all
from server_agent.adapters import incoming_file
from server_agent.adapters.uploads import UploadLimits
from tests.simulators.tus_site import (
    TIMEOUT_S,
    TusSite,
    TusTester,
    location,
    open_tus_site,
)

BIG = os.urandom(3_000_000)
CUT = 1_234_567


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[TusSite]:
    async with open_tus_site(tmp_path) as opened:
        yield opened


async def first_bytes_then_silence(content: bytes, sent: asyncio.Event) -> AsyncIterator[bytes]:
    yield content
    sent.set()
    await asyncio.Event().wait()


async def test_a_later_request_overtakes(site: TusSite) -> None:
    """While one connection hangs, a new one goes on from what the first had brought."""
    claim = await site.admit(recordings=[[BIG]])
    sent = asyncio.Event()
    async with site.serving(), site.client() as hanging, site.client() as dock:
        await dock.create(claim, BIG)
        body = first_bytes_then_silence(BIG[:CUT], sent)
        first = asyncio.create_task(hanging.patch(location(claim, BIG), body, offset=0))
        async with asyncio.timeout(TIMEOUT_S):
            await sent.wait()
        await site.until_received(CUT)
        head = await dock.head(location(claim, BIG))
        second = await dock.patch(location(claim, BIG), BIG[CUT:], offset=CUT)
        with pytest.raises(aiohttp.ClientError):
            await first

    assert head.offset == CUT
    assert second.offset == len(BIG)
    assert site.incoming() == {"0001.MP4": sha256_hex(BIG)}


async def test_many_at_once_never_mix(site: TusSite) -> None:
    """However many connections send the same file at once, what arrives is the file."""
    claim = await site.admit(recordings=[[BIG]])

    async def send(dock: TusTester, *, times: int) -> None:
        for _ in range(times):
            with contextlib.suppress(aiohttp.ClientError):
                head = await dock.head(location(claim, BIG))
                offset = head.offset if head.status == 200 else 0
                part = BIG[offset : offset + 100_000]
                await dock.patch(location(claim, BIG), part, offset=offset)

    async with site.serving(), site.client() as dock, asyncio.timeout(TIMEOUT_S):
        await dock.create(claim, BIG)
        async with site.client() as one, site.client() as two, site.client() as three:
            await asyncio.gather(*(send(each, times=8) for each in (one, two, three)))
        await send(dock, times=len(BIG) // 100_000 + 1)

    assert site.incoming() == {"0001.MP4": sha256_hex(BIG)}
    assert await site.states() == {"arrived"}


async def test_what_a_broken_connection_brought_is_kept(site: TusSite) -> None:
    """A connection that ends in the middle loses nothing that was received."""
    claim = await site.admit(recordings=[[BIG]])
    sent = asyncio.Event()
    async with site.serving(), site.client() as dock:
        await dock.create(claim, BIG)
        async with site.client() as breaking:
            body = first_bytes_then_silence(BIG[:CUT], sent)
            sending = asyncio.create_task(breaking.patch(location(claim, BIG), body, offset=0))
            async with asyncio.timeout(TIMEOUT_S):
                await sent.wait()
            await site.until_received(CUT)
            sending.cancel()
        head = await dock.head(location(claim, BIG))

    assert head.offset == CUT


async def test_a_body_that_stalls_is_given_up(site: TusSite) -> None:
    """A request that brings nothing for too long is answered, and what it brought is kept."""
    site.stall_timeout_s = 0.1
    claim = await site.admit(recordings=[[BIG]])
    async with site.serving(), site.client() as dock:
        await dock.create(claim, BIG)
        body = first_bytes_then_silence(BIG[:CUT], asyncio.Event())
        reply = await dock.patch(location(claim, BIG), body, offset=0)
        head = await dock.head(location(claim, BIG))

    assert (reply.status, reply.code) == (408, "E-UPL-111")
    assert head.offset == CUT


async def test_an_unfinished_upload_expires(site: TusSite) -> None:
    """What nothing was added to for too long is removed, and is missing as before."""
    site.limits = UploadLimits(keep_free_bytes=0, expiry_s=60)
    claim = await site.admit(recordings=[[BIG], [b"fresh"]])
    async with site.serving() as uploads, site.client() as dock:
        created = await dock.create(claim, BIG)
        await dock.patch(location(claim, BIG), BIG[:CUT], offset=0)
        await dock.create(claim, b"fresh")
        for path in site.files():
            if path.stat().st_size:
                os.utime(path, (1, 1))
        removed = await uploads.expire()
        old, fresh = [await dock.head(location(claim, one)) for one in (BIG, b"fresh")]

    assert "Upload-Expires" in created.headers
    assert removed == 1
    assert (old.status, fresh.status) == (404, 200)


async def test_a_full_archive_says_so(site: TusSite) -> None:
    """What must stay free stays free; the dock is told to come again."""
    site.limits = UploadLimits(keep_free_bytes=1 << 62)
    claim = await site.admit(recordings=[[BIG]])
    async with site.serving(), site.client() as dock:
        reply = await dock.create(claim, BIG)

    assert (reply.status, reply.code) == (507, "E-UPL-113")
    assert "Retry-After" in reply.headers


async def test_a_busy_archive_says_so(site: TusSite) -> None:
    """More files at once than the archive takes have to come again."""
    site.limits = UploadLimits(keep_free_bytes=0, receiving=1)
    claim = await site.admit(recordings=[[BIG], [b"second"]])
    sent = asyncio.Event()
    async with site.serving(), site.client() as first, site.client() as second:
        await first.create(claim, BIG)
        await second.create(claim, b"second")
        body = first_bytes_then_silence(BIG[:CUT], sent)
        sending = asyncio.create_task(first.patch(location(claim, BIG), body, offset=0))
        await site.until_received(CUT)
        reply = await second.patch(location(claim, b"second"), b"second", offset=0)
        sending.cancel()

    assert (reply.status, reply.code) == (503, "E-UPL-112")
    assert "Retry-After" in reply.headers


async def test_a_disk_that_fails_to_sync_gives_nothing_away(
    site: TusSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed sync no offset is told, the file is thrown away, and the failure is told."""
    broken = [True]

    def fails_once(fd: int) -> None:
        if broken.pop() if broken else False:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync_file(fd)

    claim = await site.admit(recordings=[[BIG]])
    async with site.serving(), site.client() as dock:
        await dock.create(claim, BIG)
        monkeypatch.setattr(incoming_file, "sync_file", fails_once)
        reply = await dock.patch(location(claim, BIG), BIG[:CUT], offset=0)
        head = await dock.head(location(claim, BIG))
        await dock.create(claim, BIG)
        again = await dock.patch(location(claim, BIG), BIG, offset=0)

    assert (reply.status, reply.code) == (500, "E-UPL-114")
    assert head.status == 404
    assert [error.errno for error in site.failures] == [errno.EIO]
    assert again.offset == len(BIG)


async def test_a_disk_that_fills_up_keeps_what_it_has(
    site: TusSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the space runs out in the middle, what was written is told, and goes on later."""
    full = asyncio.Event()

    def until_full(fd: int, data: bytes) -> None:
        if full.is_set():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_all(fd, data)

    monkeypatch.setattr(incoming_file, "write_all", until_full)
    claim = await site.admit(recordings=[[BIG]])
    async with site.serving(), site.client() as dock:
        await dock.create(claim, BIG)
        await dock.patch(location(claim, BIG), BIG[:CUT], offset=0)
        full.set()
        reply = await dock.patch(location(claim, BIG), BIG[CUT:], offset=CUT)
        full.clear()
        head = await dock.head(location(claim, BIG))
        rest = await dock.patch(location(claim, BIG), BIG[CUT:], offset=CUT)

    assert (reply.status, reply.code) == (507, "E-UPL-113")
    assert head.offset == CUT
    assert rest.offset == len(BIG)


async def test_few_files_stay_open(site: TusSite) -> None:
    """Unfinished files beyond the limit are closed, and go on all the same."""
    site.limits = UploadLimits(keep_free_bytes=0, open_files=1)
    contents = [os.urandom(1_000) for _ in range(5)]
    claim = await site.admit(recordings=[[one] for one in contents])
    async with site.serving(), site.client() as dock:
        for one in contents:
            await dock.create(claim, one)
            await dock.patch(location(claim, one), one[:500], offset=0)
        open_files = site.open_files()
        for one in contents:
            await dock.patch(location(claim, one), one[500:], offset=500)

    assert len(open_files) == 1
    assert await site.states() == {"arrived"}
