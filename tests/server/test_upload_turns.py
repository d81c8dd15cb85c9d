"""Whose turn a file is: the archive's own work is hindered by no dock, and removes nothing good."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from server_agent.adapters.bag_records import IncomingEntry, find_upload
from server_agent.adapters.upload_slots import OvertakenError, Slots
from server_agent.adapters.uploads import UploadLimits
from server_agent.intake.states import FileState
from tests.simulators.claims import Claim
from tests.simulators.tus_site import TusSite, location, open_tus_site

NAME = "upload"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[TusSite]:
    async with open_tus_site(tmp_path) as opened:
        yield opened


async def entry_of(site: TusSite, claim: Claim) -> IncomingEntry:
    [digest] = claim.contents
    async with site.store.reading() as connection:
        found = await find_upload(connection, claim.manifest.manifest_id, digest)
    assert found is not None
    return found[1]


async def take_turn(slots: Slots, *, is_request: bool) -> str:
    async with slots.turn(NAME, (lambda: None) if is_request else None):
        return "had its turn"


async def test_a_later_request_does_not_overtake_the_archive() -> None:
    """Who waits for a file to remove it gets its turn though requests come after it."""
    slots = Slots(open_files=1)
    async with slots.turn(NAME, lambda: None):
        earlier = asyncio.create_task(take_turn(slots, is_request=True))
        await asyncio.sleep(0)
        own = asyncio.create_task(take_turn(slots, is_request=False))
        await asyncio.sleep(0)
        later = asyncio.create_task(take_turn(slots, is_request=True))
        await asyncio.sleep(0)
    results = await asyncio.gather(earlier, own, later, return_exceptions=True)

    assert isinstance(results[0], OvertakenError)
    assert list(results[1:]) == ["had its turn", "had its turn"]


async def test_uploads_expire_while_a_dock_asks_on_and_on(site: TusSite) -> None:
    """A dock that keeps asking about an upload cannot make the sweep fail."""
    site.limits = UploadLimits(keep_free_bytes=0, expiry_s=60)
    claim = await site.admit(recordings=[[b"x" * 100_000]])
    body = next(iter(claim.contents.values()))
    async with site.serving() as uploads, site.client() as dock:
        await dock.create(claim, body)
        os.utime(site.files()[0], (1, 1))

        async def ask() -> None:
            while site.files():
                # Who is overtaken loses its connection, before or after it was looked at.
                with contextlib.suppress(OSError, aiohttp.ClientError):
                    await dock.head(location(claim, body))

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(ask())
            removed = await uploads.expire()

    assert removed == 1


async def test_a_file_that_arrived_meanwhile_stays(site: TusSite) -> None:
    """What was to be removed, and has come again before its turn, is good."""
    claim = await site.admit(recordings=[[b"good"]])
    async with site.serving() as uploads, site.client() as dock:
        await dock.create(claim, b"good", data=b"good")
        stale = replace(await entry_of(site, claim), state=FileState.MISSING)
        await uploads.forget(stale)

    assert len(site.files()) == 1
