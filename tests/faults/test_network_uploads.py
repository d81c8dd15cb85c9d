"""One file on its way from the real client to the real endpoint, over a network that breaks.

Whatever happens, what lies in the archive at the end is the file: no byte lost, none twice.
"""

import asyncio
import contextlib
import hashlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from edge_agent.adapters.tus_client import FileToSend, UploadLimits, open_tus_client
from edge_agent.errors import UploadError
from runtime.tls import server_context
from server_agent.adapters.uploads import UploadLimits as ArchiveLimits
from tests.simulators.archive_site import DOCK
from tests.simulators.certificates import EXPIRED
from tests.simulators.claims import Claim
from tests.simulators.fault_proxy import (
    HARMLESS,
    Ending,
    Fault,
    FaultProxy,
    Way,
    lay_proxy,
    seeded_faults,
)
from tests.simulators.request_replay import RequestReplay, Trick, lay_replay, seeded_tricks
from tests.simulators.tus_site import TIMEOUT_S, TusSite, open_tus_site

WRONG_BYTES = {413, 460}  # what an archive says that took bytes where they do not belong
SLICE = 30_000
SIZE = 100_000
LIMITS = UploadLimits(
    with_creation_bytes=0,
    slice_bytes=SLICE,
    attempts=4,
    first_wait_s=0.001,
    longest_wait_s=0.01,
    silence_s=60.0,
)
# Every file goes with the request that has its upload made.
SMALL = replace(LIMITS, with_creation_bytes=1 << 30)
IMPATIENT = UploadLimits(
    with_creation_bytes=0,
    slice_bytes=SLICE,
    attempts=4,
    first_wait_s=0.001,
    longest_wait_s=0.01,
    silence_s=0.3,
)
# With these certificates a TLS 1.3 handshake and a POST are about so many bytes.
FIRST_BYTES = (0, 1, 100, 300, 700, 1_300, 1_900, 2_500, 3_000, 3_500)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[TusSite]:
    async with open_tus_site(tmp_path) as opened:
        yield opened


async def send(
    site: TusSite,
    network: FaultProxy | RequestReplay,
    claim: Claim,
    content: bytes,
    limits: UploadLimits = LIMITS,
) -> None:
    """Send until it is there, as the upload queue does: there is no last attempt."""
    file = FileToSend(
        manifest_id=claim.manifest.manifest_id,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
    )
    url = f"https://{network.host}:{network.port}"
    with TemporaryFile() as copy:
        copy.write(content)
        copy.flush()
        async with (
            asyncio.timeout(TIMEOUT_S),
            open_tus_client(url, site.tls(DOCK), limits=limits) as client,
        ):
            while True:
                with contextlib.suppress(UploadError):
                    return await client.send(file, copy.fileno())
                await asyncio.sleep(0)


def received(site: TusSite) -> Counter[bytes]:
    return Counter(path.read_bytes() for path in site.files())


def contents(seed: int, count: int) -> Iterator[bytes]:
    dice = random.Random(seed)
    for _ in range(count):
        yield dice.randbytes(SIZE)


async def until_in_the_body(proxy: FaultProxy, ending: Ending) -> None:
    """Return when a connection, whichever it is, was struck in the middle of the file's bytes."""
    proxy.script(*[Fault(after_bytes=2 * SLICE, ending=ending)] * 3)
    await proxy.until_struck()
    proxy.unscript()


@pytest.mark.parametrize("ending", [Ending.RESET, Ending.FIN])
@pytest.mark.parametrize("way", list(Way))
async def test_cut_anywhere_the_file_arrives(site: TusSite, way: Way, ending: Ending) -> None:
    """Cut in handshake, request, body or answer, each file arrives once, byte for byte."""
    measuring, *files = contents(1, 30)
    async with site.serving(), lay_proxy("127.0.0.1", site.port) as proxy:
        claim = await site.admit(recordings=[[one] for one in (measuring, *files)])
        await send(site, proxy, claim, measuring)
        whole = proxy.passed[way]
        places = {*FIRST_BYTES, *(whole * part // 8 for part in range(1, 8)), whole - 1}
        # A file comes by one connection or two: creation, then bytes.
        cuts = [(before, place) for before in (0, 1) for place in sorted(places)]
        sent = [measuring]
        for (before, after_bytes), content in zip(cuts, files, strict=False):
            cut = Fault(way=way, after_bytes=after_bytes, ending=ending)
            proxy.script(*[HARMLESS] * before, cut)
            await send(site, proxy, claim, content)
            proxy.unscript()
            sent.append(content)
            assert received(site) == Counter(sent), (before, after_bytes)

    assert len(proxy.struck) >= len(FIRST_BYTES)


@pytest.mark.parametrize("way", list(Way))
async def test_a_silent_network_is_given_up(site: TusSite, way: Way) -> None:
    """On a half-open connection the client does not wait for ever; on the next the file arrives."""
    files = list(contents(2, 4))
    async with site.serving(), lay_proxy("127.0.0.1", site.port) as proxy:
        claim = await site.admit(recordings=[[one] for one in files])
        for after_bytes, content in zip((0, 1_000, 2_000, 2_500), files, strict=True):
            proxy.script(*[Fault(way=way, after_bytes=after_bytes, ending=Ending.SILENCE)] * 2)
            await send(site, proxy, claim, content, IMPATIENT)
            proxy.unscript()

    assert len(proxy.struck) >= len(files)
    assert received(site) == Counter(files)


@pytest.mark.parametrize("seed", range(6))
async def test_random_cuts_and_pauses(site: TusSite, seed: int) -> None:
    """However often and wherever it breaks, by whatever seed, each file arrives once."""
    files = list(contents(seed, 3))
    faults = seeded_faults(seed, share=0.7, most_bytes=SIZE)
    async with site.serving(), lay_proxy("127.0.0.1", site.port, faults=faults) as proxy:
        claim = await site.admit(recordings=[[one] for one in files])
        for content in files:
            await send(site, proxy, claim, content, IMPATIENT)

    assert received(site) == Counter(files)
    assert await site.states() == {"arrived"}


@pytest.mark.parametrize("damaged", [False, True])
async def test_an_archive_restarted_in_mid_file(site: TusSite, *, damaged: bool) -> None:
    """What was durable is not lost; and where it was damaged meanwhile, all of it comes again."""
    [content] = contents(4, 1)
    claim = await site.admit(recordings=[[content]])
    async with lay_proxy("127.0.0.1", 1) as proxy:
        async with site.serving():
            proxy.lead_to(site.port)
            sending = asyncio.create_task(send(site, proxy, claim, content))
            await until_in_the_body(proxy, Ending.SILENCE)
            await site.until_received(1)
            await proxy.cut()
        if damaged:
            [file] = site.files()
            file.write_bytes(bytes(file.stat().st_size))
        async with site.serving():
            proxy.lead_to(site.port)
            await proxy.plug_in()
            await sending

    assert received(site) == Counter([content])
    assert await site.states() == {"arrived"}


@pytest.mark.parametrize(
    "refusing",
    [
        ArchiveLimits(keep_free_bytes=1 << 62),
        ArchiveLimits(keep_free_bytes=0, receiving=0),
    ],
    ids=["full", "busy"],
)
async def test_an_archive_that_has_no_room_for_a_while(
    site: TusSite, refusing: ArchiveLimits
) -> None:
    """A file that was answered 507 or 503 arrives as soon as there is room, from where it was."""
    [content] = contents(5, 1)
    claim = await site.admit(recordings=[[content]])
    async with site.serving() as uploads, lay_proxy("127.0.0.1", site.port) as proxy:
        room = uploads.limits
        sending = asyncio.create_task(send(site, proxy, claim, content))
        await until_in_the_body(proxy, Ending.RESET)
        uploads.limits = refusing
        await proxy.until_accepted(proxy.accepted + 2)
        uploads.limits = room
        await sending

    assert received(site) == Counter([content])


@pytest.mark.parametrize("whose", [str(DOCK), "archive"])
async def test_a_certificate_ends_in_mid_transfer(site: TusSite, whose: str) -> None:
    """No byte passes under a certificate that ended; renewed on the disk, the file arrives."""
    [content] = contents(6, 1)
    claim = await site.admit(recordings=[[content]])
    async with site.serving(), lay_proxy("127.0.0.1", site.port) as proxy:
        sending = asyncio.create_task(send(site, proxy, claim, content))
        await until_in_the_body(proxy, Ending.SILENCE)
        await site.until_received(1)
        site.site.authority.issue_tls(whose, lifetime=EXPIRED)
        await proxy.cut()
        await proxy.plug_in()
        await proxy.until_accepted(proxy.accepted + 5)
        meanwhile = received(site)
        site.site.authority.issue_tls(whose)
        await sending

    assert meanwhile.total() == 1
    assert meanwhile != Counter([content])
    assert received(site) == Counter([content])


@contextlib.asynccontextmanager
async def replaying(site: TusSite, *tricks: Trick, seed: int = 0) -> AsyncIterator[RequestReplay]:
    archive = site.site.tls["archive"]
    near = server_context(
        ca=site.site.authority.ca, certificate=archive.certificate, key=archive.key
    )
    async with lay_replay(
        site.port,
        tricks or seeded_tricks(seed, share=0.6),
        seed=seed,
        near_tls=near,
        far_tls=site.tls(DOCK),
    ) as replay:
        yield replay


@pytest.mark.parametrize("trick", [one for one in Trick if one is not Trick.PASS])
@pytest.mark.parametrize("request_number", range(6))
async def test_any_request_may_be_played_any_trick(
    site: TusSite, trick: Trick, request_number: int
) -> None:
    """Lost, doubled, late, overlapping or replayed: no request makes the file another one."""
    [content] = contents(3, 1)
    tricks = [*[Trick.PASS] * request_number, trick]
    async with site.serving(), replaying(site, *tricks) as replay:
        claim = await site.admit(recordings=[[content]])
        await send(site, replay, claim, content)

    assert replay.played[trick] == 1
    assert not WRONG_BYTES & replay.answered.keys()
    assert received(site) == Counter([content])
    assert await site.states() == {"arrived"}


@pytest.mark.parametrize("trick", [one for one in Trick if one is not Trick.PASS])
async def test_a_small_file_s_one_request_may_be_played_any_trick(
    site: TusSite, trick: Trick
) -> None:
    """A request that both makes an upload and brings its bytes is no less safe."""
    [content] = contents(4, 1)
    async with site.serving(), replaying(site, trick) as replay:
        claim = await site.admit(recordings=[[content]])
        await send(site, replay, claim, content, limits=SMALL)

    assert replay.played[trick] == 1
    assert not WRONG_BYTES & replay.answered.keys()
    assert received(site) == Counter([content])
    assert await site.states() == {"arrived"}


@pytest.mark.parametrize("seed", range(8))
async def test_random_tricks(site: TusSite, seed: int) -> None:
    """However requests are lost, doubled, reordered and replayed, each file arrives once."""
    files = list(contents(seed, 3))
    async with site.serving(), replaying(site, seed=seed) as replay:
        claim = await site.admit(recordings=[[one] for one in files])
        await asyncio.gather(*(send(site, replay, claim, one) for one in files))

    assert replay.played.total() > replay.played[Trick.PASS]
    assert not WRONG_BYTES & replay.answered.keys()
    assert received(site) == Counter(files)
    assert await site.states() == {"arrived"}
