"""tus over real TLS on loopback, with client certificates, into a real catalogue and disk."""

import hashlib
import os
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from msgspec.structs import replace as replaced

from protocol.digest import Digests, sha256_hex
from server_agent.adapters.tus_endpoint import EXTENSIONS
from tests.simulators.archive_site import DOCK, OTHER_DOCK
from tests.simulators.claims import Claim, staged
from tests.simulators.tus_site import (
    TUS,
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


async def test_a_file_arrives(site: TusSite) -> None:
    """Created, sent in two requests, it lies whole in .incoming, and its group is told."""
    claim = await site.admit(recordings=[[BIG]])
    async with site.serving(), site.client() as dock:
        created = await dock.create(claim, BIG)
        first = await dock.patch(created.headers["Location"], BIG[:CUT], offset=0)
        second = await dock.patch(created.headers["Location"], BIG[CUT:], offset=CUT)

    assert (created.status, first.status, second.status) == (201, 204, 204)
    assert created.headers["Location"] == location(claim, BIG)
    assert (first.offset, second.offset) == (CUT, len(BIG))
    assert site.incoming() == {"0001.MP4": sha256_hex(BIG)}
    assert len(site.arrived) == 1
    assert await site.states() == {"arrived"}


async def test_a_small_file_arrives_with_its_creation(site: TusSite) -> None:
    """creation-with-upload takes the bytes at once."""
    claim = await site.admit(recordings=[[b"small"]])
    async with site.serving(), site.client() as dock:
        created = await dock.create(claim, b"small", data=b"small")

    assert (created.status, created.offset) == (201, 5)
    assert await site.states() == {"arrived"}


async def test_an_empty_file_arrives_by_being_created(site: TusSite) -> None:
    """There is nothing to send of an empty file."""
    claim = await site.admit(recordings=[[b""]])
    async with site.serving(), site.client() as dock:
        await dock.create(claim, b"")
        head = await dock.head(location(claim, b""))

    assert (head.status, head.offset) == (200, 0)
    assert await site.states() == {"arrived"}


async def test_creation_is_the_same_again(site: TusSite) -> None:
    """Asking again gives the same place, and does not undo what was sent."""
    claim = await site.admit(recordings=[[BIG]])
    async with site.serving(), site.client() as dock:
        first = await dock.create(claim, BIG)
        await dock.patch(first.headers["Location"], BIG[:CUT], offset=0)
        second = await dock.create(claim, BIG)
        head = await dock.head(location(claim, BIG))

    assert second.status == 201
    assert second.headers["Location"] == first.headers["Location"]
    assert head.offset == CUT


async def test_sm3_is_compared_where_the_dock_has_it(site: TusSite) -> None:
    """A file with a wrong SM3 is refused though its SHA-256 is right."""
    good = staged("DCIM/1.MP4", b"content", with_sm3=True)
    lying = replaced(good, digests=Digests(sha256=good.digests.sha256, sm3="0" * 64))
    claim = await site.admit(recordings=[], other_files=(lying,))
    async with site.serving(), site.client() as dock:
        created = await dock.create(claim, b"content", data=b"content")

    assert (created.status, created.code) == (460, "E-UPL-109")
    assert await site.states() == {"missing"}


async def test_a_restarted_archive_goes_on(site: TusSite) -> None:
    """After a restart the offset is where it was, the digest is made again, the rest is taken."""
    claim = await site.admit(recordings=[[BIG]], with_sm3=True)
    async with site.serving(), site.client() as dock:
        await dock.create(claim, BIG)
        await dock.patch(location(claim, BIG), BIG[:CUT], offset=0)
    async with site.serving(), site.client() as dock:
        head = await dock.head(location(claim, BIG))
        rest = await dock.patch(location(claim, BIG), BIG[CUT:], offset=CUT)

    assert (head.status, head.offset) == (200, CUT)
    assert rest.offset == len(BIG)
    assert await site.states() == {"arrived"}


async def test_a_file_that_was_whole_at_the_crash_arrives(site: TusSite) -> None:
    """All bytes are there and the catalogue was not told: the next question settles it."""
    claim = await site.admit(recordings=[[b"whole"]])
    async with site.serving(), site.client() as dock:
        await dock.create(claim, b"whole")
    [path] = site.files()
    path.write_bytes(b"whole")
    async with site.serving(), site.client() as dock:
        head = await dock.head(location(claim, b"whole"))

    assert head.offset == 5
    assert await site.states() == {"arrived"}


async def test_a_file_that_was_damaged_while_we_were_down_starts_again(site: TusSite) -> None:
    """A byte that changed between two runs is found at the end, and all of it comes again."""
    claim = await site.admit(recordings=[[BIG]])
    async with site.serving(), site.client() as dock:
        await dock.create(claim, BIG)
        await dock.patch(location(claim, BIG), BIG[:CUT], offset=0)
    [path] = site.files()
    path.write_bytes(bytes([BIG[0] ^ 1]) + BIG[1:CUT])
    async with site.serving(), site.client() as dock:
        rest = await dock.patch(location(claim, BIG), BIG[CUT:], offset=CUT)
        head = await dock.head(location(claim, BIG))
        again = await dock.patch(location(claim, BIG), BIG, offset=0)

    assert (rest.status, rest.code) == (460, "E-UPL-109")
    assert head.offset == 0
    assert again.offset == len(BIG)


async def test_another_offset_is_refused(site: TusSite) -> None:
    """Bytes that do not go on where the file ends are not taken."""
    claim = await site.admit(recordings=[[BIG]])
    async with site.serving(), site.client() as dock:
        await dock.create(claim, BIG)
        reply = await dock.patch(location(claim, BIG), BIG[5:], offset=5)
        head = await dock.head(location(claim, BIG))

    assert (reply.status, reply.code) == (409, "E-UPL-107")
    assert head.offset == 0


async def test_other_bytes_start_again(site: TusSite) -> None:
    """What does not have the promised digest is thrown away, and the file is missing again."""
    claim = await site.admit(recordings=[[b"right"]])
    async with site.serving(), site.client() as dock:
        await dock.create(claim, b"right")
        wrong = await dock.patch(location(claim, b"right"), b"wrong", offset=0)
        head = await dock.head(location(claim, b"right"))
        right = await dock.patch(location(claim, b"right"), b"right", offset=0)

    assert (wrong.status, wrong.code) == (460, "E-UPL-109")
    assert head.offset == 0
    assert right.status == 204
    assert site.incoming() == {"0001.MP4": sha256_hex(b"right")}


async def test_a_wrong_checksum_takes_back_its_own_bytes_only(site: TusSite) -> None:
    """The bytes of a request whose checksum is wrong are dropped; those before it stay."""
    claim = await site.admit(recordings=[[BIG]])
    other = f"sha256 {b64encode(hashlib.sha256(b'other').digest()).decode()}"
    right = f"sha256 {b64encode(hashlib.sha256(BIG[CUT:]).digest()).decode()}"
    async with site.serving(), site.client() as dock:
        await dock.create(claim, BIG)
        await dock.patch(location(claim, BIG), BIG[:CUT], offset=0)
        wrong = await dock.patch(location(claim, BIG), BIG[CUT:], offset=CUT, Upload_Checksum=other)
        head = await dock.head(location(claim, BIG))
        good = await dock.patch(location(claim, BIG), BIG[CUT:], offset=CUT, Upload_Checksum=right)

    assert (wrong.status, wrong.code) == (460, "E-UPL-109")
    assert head.offset == CUT
    assert good.offset == len(BIG)


async def test_too_long_a_body_is_refused_unread(site: TusSite) -> None:
    """A request that announces more than is left changes nothing."""
    claim = await site.admit(recordings=[[b"12345"]])
    async with site.serving(), site.client() as dock:
        await dock.create(claim, b"12345")
        await dock.patch(location(claim, b"12345"), b"123", offset=0)
        reply = await dock.patch(location(claim, b"12345"), b"456", offset=3)
        head = await dock.head(location(claim, b"12345"))

    assert (reply.status, reply.code) == (413, "E-UPL-108")
    assert head.offset == 3


async def test_too_long_a_stream_starts_again(site: TusSite) -> None:
    """A request that announces nothing and brings too much cannot be trusted: all comes again."""

    async def stream() -> AsyncIterator[bytes]:
        yield b"123"
        yield b"456"

    claim = await site.admit(recordings=[[b"12345"]])
    async with site.serving(), site.client() as dock:
        await dock.create(claim, b"12345")
        reply = await dock.patch(location(claim, b"12345"), stream(), offset=0)
        head = await dock.head(location(claim, b"12345"))

    assert (reply.status, reply.code) == (413, "E-UPL-108")
    assert head.offset == 0
    assert await site.states() == {"missing"}


async def test_long_requests_are_synced_on_the_way(site: TusSite) -> None:
    """What one long request brings becomes durable as it comes, and arrives whole."""
    content = os.urandom(1 << 20) * 40
    claim = await site.admit(recordings=[[content]])
    async with site.serving(), site.client() as dock:
        await dock.create(claim, content)
        reply = await dock.patch(location(claim, content), content, offset=0)

    assert reply.offset == len(content)
    assert site.incoming() == {"0001.MP4": sha256_hex(content)}


async def test_another_docks_manifest_is_refused(site: TusSite) -> None:
    """A registered dock can neither create nor see nor feed another dock's upload."""
    claim = await site.admit(recordings=[[BIG]])
    async with site.serving(), site.client() as dock, site.client(OTHER_DOCK) as other:
        created = await other.create(claim, BIG)
        await dock.create(claim, BIG)
        head = await other.head(location(claim, BIG))
        fed = await other.patch(location(claim, BIG), BIG, offset=0)

    assert (created.status, created.code) == (403, "E-UPL-102")
    assert head.status == 404
    assert (fed.status, fed.code) == (404, "E-UPL-106")


async def test_an_unregistered_certificate_is_refused(site: TusSite) -> None:
    """The site's own certificate is not enough: the registry has to know the dock."""
    claim = await site.admit(recordings=[[BIG]])
    site.docks.discard(DOCK)
    async with site.serving(), site.client() as struck_off, site.client("broker") as broker:
        replies = [await one.create(claim, BIG) for one in (struck_off, broker)]

    assert [(one.status, one.code) for one in replies] == [(403, "E-UPL-101")] * 2


async def test_no_certificate_no_connection(site: TusSite) -> None:
    """Without a certificate of the site nobody gets an answer."""
    async with site.serving():
        anonymous = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        anonymous.load_verify_locations(cafile=site.site.authority.ca)
        connector = aiohttp.TCPConnector(ssl=anonymous)
        async with aiohttp.ClientSession(connector=connector) as session:
            tester = TusTester(f"https://127.0.0.1:{site.port}", session)
            with pytest.raises(aiohttp.ClientError):
                await tester.request("GET", "/healthz")


async def test_only_promised_files_are_taken(site: TusSite) -> None:
    """Another length, another digest and a manifest that was not admitted are all refused."""
    claim = await site.admit(recordings=[[b"promised"]])
    waiting: Claim = site.claimant.claim(recordings=[[b"skipped"]])
    later = await site.admit(recordings=[[b"later"]])
    async with site.serving(), site.client() as dock:
        replies = [
            await dock.create(claim, b"promised", Upload_Length="9"),
            await dock.create(claim, b"never promised"),
            await dock.create(waiting, b"skipped"),
            await dock.create(later, b"later"),
        ]

    assert [(one.status, one.code) for one in replies] == [(403, "E-UPL-102")] * 4
    assert site.incoming() == {}


async def test_an_upload_that_was_not_created_is_not_there(site: TusSite) -> None:
    """An offset is only told of what was created; the next step is to create it."""
    claim = await site.admit(recordings=[[BIG]])
    async with site.serving(), site.client() as dock:
        head = await dock.head(location(claim, BIG))
        patched = await dock.patch(location(claim, BIG), BIG, offset=0)
        nonsense = await dock.head("/v1/uploads/nonsense")

    assert [head.status, patched.status, nonsense.status] == [404, 404, 404]


async def test_tus_version_and_media_type_are_asked_for(site: TusSite) -> None:
    """Another protocol version is answered with ours; another media type is refused."""
    claim = await site.admit(recordings=[[BIG]])
    async with site.serving(), site.client() as dock:
        await dock.create(claim, BIG)
        version = await dock.request("HEAD", location(claim, BIG), {"Tus-Resumable": "0.2.2"})
        media = await dock.patch(location(claim, BIG), BIG, offset=0, Content_Type="text/plain")

    assert version.status == 412
    assert version.headers["Tus-Version"] == "1.0.0"
    assert (media.status, media.code) == (415, "E-UPL-105")


async def test_options_and_health(site: TusSite) -> None:
    """Anybody of the site may ask what is spoken here, and whether we live."""
    async with site.serving(), site.client("broker") as anybody:
        options = await anybody.request("OPTIONS", "/v1/uploads", {})
        health = await anybody.request("GET", "/healthz", {})

    assert options.status == 204
    assert options.headers["Tus-Extension"] == EXTENSIONS
    assert options.headers["Tus-Checksum-Algorithm"] == "sha256"
    assert (health.status, health.body) == (200, b'{"status": "ok"}')


async def test_an_archived_file_is_told_whole(site: TusSite) -> None:
    """A file that is archived, or has arrived, answers with its length; nothing more is taken."""
    claim = await site.admit(recordings=[[BIG]])
    async with site.serving(), site.client() as dock:
        await dock.create(claim, BIG)
        await dock.patch(location(claim, BIG), BIG, offset=0)
        created = await dock.create(claim, BIG)
        head = await dock.head(location(claim, BIG))
        more = await dock.patch(location(claim, BIG), b"more", offset=len(BIG))

    assert created.status == 201
    assert (head.status, head.offset) == (200, len(BIG))
    assert (more.status, more.code) == (413, "E-UPL-108")


async def test_every_answer_names_the_version(site: TusSite) -> None:
    """Good or bad, each answer says which tus it is."""
    claim = await site.admit(recordings=[[b"x"]])
    async with site.serving(), site.client() as dock:
        replies = [
            await dock.create(claim, b"x"),
            await dock.head(location(claim, b"x")),
            await dock.create(claim, b"unpromised"),
        ]

    assert {one.headers["Tus-Resumable"] for one in replies} == {TUS["Tus-Resumable"]}
