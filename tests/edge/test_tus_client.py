import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from edge_agent.adapters.tus_client import FileToSend, TusClient, UploadLimits, open_tus_client
from edge_agent.errors import (
    ArchiveAnswerError,
    ArchiveBusyError,
    ArchiveFullError,
    ArchiveUnreachableError,
    StagedCopyDamagedError,
    UploadGoneError,
    UploadRefusedError,
    UploadRestartedError,
)
from protocol.identifiers import ManifestId
from runtime.tls import client_context, server_context
from tests.simulators.certificates import Authority
from tests.simulators.tus_archive import TusArchive, serve_tus

MANIFEST = ManifestId("01900000-0000-7000-8000-000000000001")
CONTENT = bytes(range(256)) * 40
LIMITS = UploadLimits(slice_bytes=4_000, attempts=4, first_wait_s=0.001, longest_wait_s=0.01)


@asynccontextmanager
async def client_of(archive: TusArchive, limits: UploadLimits = LIMITS) -> AsyncIterator[TusClient]:
    async with serve_tus(archive), open_tus_client(archive.url, None, limits=limits) as client:
        yield client


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "copy"
    path.write_bytes(CONTENT)
    fd = os.open(path, os.O_RDONLY)
    yield fd
    os.close(fd)


def wanted_by(archive: TusArchive, content: bytes = CONTENT) -> FileToSend:
    return FileToSend(
        manifest_id=MANIFEST, sha256=archive.want(MANIFEST, content), size_bytes=len(content)
    )


async def test_a_file_arrives_whole(copy: int) -> None:
    """What the archive has at the end are the staged copy's bytes, sent once."""
    archive = TusArchive()
    file = wanted_by(archive)

    async with client_of(archive) as client:
        await client.send(file, copy)

    assert archive.files == {file.sha256: CONTENT}
    assert archive.patched_bytes == len(CONTENT)


async def test_progress_is_what_the_archive_confirmed(copy: int) -> None:
    """Progress goes up slice by slice and ends with the file's size."""
    archive = TusArchive()
    told: list[int] = []

    async with client_of(archive) as client:
        await client.send(wanted_by(archive), copy, progress=told.append)

    assert told == [0, 4_000, 8_000, len(CONTENT)]


async def test_a_small_file_is_one_request(copy: int) -> None:
    """Its bytes go with the request that has its upload made."""
    archive = TusArchive(with_creation=True)
    file = wanted_by(archive)
    told: list[int] = []

    async with client_of(archive) as client:
        await client.send(file, copy, progress=told.append)

    assert archive.files == {file.sha256: CONTENT}
    assert archive.requests == ["POST /v1/uploads"]
    assert told == [len(CONTENT)]


async def test_a_file_that_is_not_small_is_sent_after_it_was_asked_for(copy: int) -> None:
    """How much of it is there already has to be known before it is sent."""
    archive = TusArchive(with_creation=True)
    file = wanted_by(archive)

    async with client_of(archive, replace(LIMITS, with_creation_bytes=len(CONTENT) - 1)) as client:
        await client.send(file, copy)

    assert [one.split()[0] for one in archive.requests[:3]] == ["POST", "HEAD", "PATCH"]
    assert archive.patched_bytes == len(CONTENT)


@pytest.mark.parametrize("after", [0, 1, 3_999])
async def test_a_broken_small_file_is_resumed(copy: int, after: int) -> None:
    """What arrived before the connection broke is not sent again as its beginning."""
    archive = TusArchive(with_creation=True)
    archive.faults.drop_after_bytes = [after]
    file = wanted_by(archive)

    async with client_of(archive) as client:
        await client.send(file, copy)

    assert archive.files[file.sha256] == CONTENT


async def test_a_damaged_small_file_is_sent_again(copy: int) -> None:
    """A digest that differs after the way is answered for a small file, too."""
    archive = TusArchive(with_creation=True)
    archive.faults.damage_files = 1
    file = wanted_by(archive)

    async with client_of(archive) as client:
        await client.send(file, copy)

    assert archive.files[file.sha256] == CONTENT


async def test_a_small_staged_copy_that_ends_early_is_our_disk(copy: int) -> None:
    """A staged copy shorter than its manifest says is no fault of the network."""
    archive = TusArchive(with_creation=True)
    file = wanted_by(archive, CONTENT + b"more")

    async with client_of(archive) as client:
        with pytest.raises(OSError, match="the staged copy ends"):
            await client.send(file, copy)


async def test_an_empty_file_arrives(tmp_path: Path) -> None:
    """A file of no bytes is complete as soon as it is created."""
    archive = TusArchive()
    empty = tmp_path / "empty"
    empty.touch()
    fd = os.open(empty, os.O_RDONLY)

    async with client_of(archive) as client:
        await client.send(wanted_by(archive, b""), fd)

    os.close(fd)
    assert list(archive.files.values()) == [b""]


async def test_what_is_archived_is_not_sent(copy: int) -> None:
    """An archive that has the file already gets no byte of it again."""
    archive = TusArchive()
    file = wanted_by(archive)

    async with client_of(archive) as client:
        await client.send(file, copy)
        before = archive.patched_bytes
        await client.send(file, copy)

    assert archive.patched_bytes == before


@pytest.mark.parametrize("sync_bytes", [1, 1_000, 100_000])
@pytest.mark.parametrize("after", [0, 1, 3_999, 4_000])
async def test_a_broken_connection_is_resumed(copy: int, after: int, sync_bytes: int) -> None:
    """Wherever in a slice the connection breaks, the file arrives whole."""
    archive = TusArchive(sync_bytes=sync_bytes)
    archive.faults.drop_after_bytes = [after, after]
    file = wanted_by(archive)

    async with client_of(archive) as client:
        await client.send(file, copy)

    assert archive.files[file.sha256] == CONTENT
    assert archive.patched_bytes >= len(CONTENT)


async def test_another_client_resumes_an_upload(copy: int) -> None:
    """After a restart of the agent, what was sent before is not sent again."""
    archive = TusArchive()
    file = wanted_by(archive)
    archive.faults.drop_after_bytes = [3_000]
    hopeless = UploadLimits(slice_bytes=4_000, attempts=1)

    async with serve_tus(archive):
        async with open_tus_client(archive.url, None, limits=hopeless) as client:
            with pytest.raises(ArchiveUnreachableError):
                await client.send(file, copy)
        arrived = archive.patched_bytes
        async with open_tus_client(archive.url, None, limits=LIMITS) as client:
            await client.send(file, copy)

    assert archive.files[file.sha256] == CONTENT
    assert archive.patched_bytes == len(CONTENT) - 3_000 + arrived


@pytest.mark.parametrize(
    ("method", "status"),
    [("PATCH", 409), ("PATCH", 503), ("HEAD", 503), ("POST", 503), ("PATCH", 423), ("PATCH", 500)],
)
async def test_passing_trouble_is_waited_out(copy: int, method: str, status: int) -> None:
    """A wrong offset and a busy archive cost another attempt, not the file."""
    archive = TusArchive()
    archive.faults.answers = {method: [(status, {"Retry-After": "0"})]}
    file = wanted_by(archive)

    async with client_of(archive) as client:
        await client.send(file, copy)

    assert archive.files[file.sha256] == CONTENT


@pytest.mark.parametrize(
    ("method", "status", "error"),
    [
        ("POST", 403, UploadRefusedError),
        ("POST", 400, UploadRefusedError),
        ("PATCH", 403, UploadRefusedError),
        ("PATCH", 507, ArchiveFullError),
        ("POST", 507, ArchiveFullError),
        ("POST", 307, ArchiveAnswerError),
        ("HEAD", 206, ArchiveAnswerError),
        ("POST", 404, UploadGoneError),
        ("POST", 503, ArchiveBusyError),
    ],
)
async def test_trouble_has_a_name(
    copy: int, method: str, status: int, error: type[Exception]
) -> None:
    """Each status that ends an upload becomes the error that says what to do."""
    archive = TusArchive()
    archive.faults.answers = {method: [(status, {})] * 10}

    async with client_of(archive) as client:
        with pytest.raises(error):
            await client.send(wanted_by(archive), copy)


async def test_the_archives_reason_is_kept(copy: int) -> None:
    """A file that no admission lists is refused, with the archive's own code."""
    archive = TusArchive()
    stranger = FileToSend(
        manifest_id=MANIFEST, sha256=hashlib.sha256(CONTENT).hexdigest(), size_bytes=len(CONTENT)
    )

    async with client_of(archive) as client:
        with pytest.raises(UploadRefusedError) as caught:
            await client.send(stranger, copy)

    assert (caught.value.status, caught.value.archive_code) == (403, "E-ARC-403")


async def test_an_expired_upload_is_created_again(copy: int) -> None:
    """An upload that the archive forgot between two slices starts anew."""
    archive = TusArchive()
    file = wanted_by(archive)
    forgotten: list[int] = []

    def forget_once(offset: int) -> None:
        if offset and not forgotten:
            forgotten.append(offset)
            archive.forget_uploads()

    async with client_of(archive) as client:
        await client.send(file, copy, progress=forget_once)

    assert forgotten
    assert archive.files[file.sha256] == CONTENT


async def test_damage_on_the_way_is_sent_again(copy: int) -> None:
    """Where the archive found another digest and our copy is sound, the file is sent again."""
    archive = TusArchive()
    archive.faults.damage_files = 1
    file = wanted_by(archive)

    async with client_of(archive) as client:
        await client.send(file, copy)

    assert archive.files[file.sha256] == CONTENT
    assert archive.patched_bytes == 2 * len(CONTENT)


async def test_endless_damage_is_given_up(copy: int) -> None:
    """An archive that damages every copy does not get the same file for ever."""
    archive = TusArchive()
    archive.faults.damage_files = 100

    async with client_of(archive) as client:
        with pytest.raises(UploadRestartedError):
            await client.send(wanted_by(archive), copy)


async def test_a_damaged_copy_is_found_out(tmp_path: Path) -> None:
    """Where our own copy changed after it was claimed, that is said, and not blamed on the way."""
    archive = TusArchive()
    file = wanted_by(archive)
    rotten = tmp_path / "rotten"
    rotten.write_bytes(CONTENT[:-1] + b"?")
    fd = os.open(rotten, os.O_RDONLY)

    async with client_of(archive) as client:
        with pytest.raises(StagedCopyDamagedError):
            await client.send(file, fd)

    os.close(fd)
    assert not archive.files


async def test_a_copy_that_is_too_short_is_our_disks_failure(tmp_path: Path) -> None:
    """A staged copy that ends early is an OSError, not the archive's trouble."""
    archive = TusArchive()
    file = wanted_by(archive)
    short = tmp_path / "short"
    short.write_bytes(CONTENT[:5_000])
    fd = os.open(short, os.O_RDONLY)

    async with client_of(archive) as client:
        with pytest.raises(OSError, match="ends at byte 5000"):
            await client.send(file, fd)

    os.close(fd)


@pytest.mark.parametrize(
    "location",
    [
        "https://elsewhere.example/v1/uploads/x",
        "/v1/other/x",
        "//evil/v1/uploads/x",
        "http://[",
        "",
    ],
)
async def test_bytes_go_nowhere_else(copy: int, location: str) -> None:
    """A Location outside the archive's own uploads is never followed."""
    archive = TusArchive()
    file = wanted_by(archive)

    async with client_of(archive) as client:
        if location:
            archive.faults.location = location
        else:
            archive.faults.answers = {"POST": [(201, {})]}
        with pytest.raises(ArchiveAnswerError):
            await client.send(file, copy)

    assert archive.patched_bytes == 0


@pytest.mark.parametrize("offset", ["-1", "x", "10241", "9" * 5_000, "٣"])
async def test_an_impossible_offset_is_refused(copy: int, offset: str) -> None:
    """An offset that is no number, or beyond the file, breaks the contract."""
    archive = TusArchive()
    archive.faults.answers = {"HEAD": [(200, {"Upload-Offset": offset})]}

    async with client_of(archive) as client:
        with pytest.raises(ArchiveAnswerError):
            await client.send(wanted_by(archive), copy)


async def test_nobody_listens(copy: int) -> None:
    """An archive that is not there is unreachable, by its name in the error tree."""
    archive = TusArchive()
    async with serve_tus(archive):
        pass

    async with open_tus_client(archive.url, None, limits=LIMITS) as client:
        with pytest.raises(ArchiveUnreachableError):
            await client.send(wanted_by(archive), copy)


async def test_a_cancelled_upload_goes_on_later(copy: int) -> None:
    """Stopping the agent in the middle of a slice loses nothing that was confirmed."""
    archive = TusArchive()
    file = wanted_by(archive)
    confirmed = asyncio.Event()

    def held(offset: int) -> None:
        if offset:
            archive.faults.gate = asyncio.Event()
            confirmed.set()

    async with client_of(archive) as client:
        sending = asyncio.create_task(client.send(file, copy, progress=held))
        await confirmed.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        archive.faults.gate = None
        await client.send(file, copy)

    assert archive.files[file.sha256] == CONTENT


async def test_both_ends_show_their_certificates(copy: int, tmp_path: Path) -> None:
    """The archive sees the dock's certificate, and the dock accepts the site's archive."""
    site = Authority(tmp_path / "pki")
    ours, theirs = site.issue_tls("dock-1"), site.issue_tls("archive")
    archive = TusArchive()
    file = wanted_by(archive)
    served = server_context(ca=site.ca, certificate=theirs.certificate, key=theirs.key)
    tls = client_context(ca=site.ca, certificate=ours.certificate, key=ours.key)

    async with (
        serve_tus(archive, tls=served),
        open_tus_client(archive.url, tls, limits=LIMITS) as client,
    ):
        await client.send(file, copy)

    assert archive.peers == {"dock-1"}
    assert archive.files[file.sha256] == CONTENT


@pytest.mark.parametrize("wrong", ["authority", "name"])
async def test_a_false_archive_gets_nothing(copy: int, tmp_path: Path, wrong: str) -> None:
    """An archive of another authority, or with another name, gets no request at all."""
    site, other = Authority(tmp_path / "site"), Authority(tmp_path / "other")
    ours = site.issue_tls("dock-1")
    forger = other if wrong == "authority" else site
    hosts = ("127.0.0.1",) if wrong == "authority" else ("archive.example",)
    theirs = forger.issue_tls("archive", hosts=hosts)
    archive = TusArchive()
    served = server_context(ca=forger.ca, certificate=theirs.certificate, key=theirs.key)
    tls = client_context(ca=site.ca, certificate=ours.certificate, key=ours.key)

    async with (
        serve_tus(archive, tls=served),
        open_tus_client(archive.url, tls, limits=LIMITS) as client,
    ):
        with pytest.raises(ArchiveUnreachableError):
            await client.send(wanted_by(archive), copy)

    assert not archive.requests


async def test_the_rate_can_be_limited(copy: int) -> None:
    """With a limit, a file still arrives whole."""
    archive = TusArchive()
    file = wanted_by(archive)
    limits = UploadLimits(slice_bytes=4_000, max_bytes_s=1_000_000)

    async with client_of(archive, limits) as client:
        await client.send(file, copy)

    assert archive.files[file.sha256] == CONTENT


@pytest.mark.parametrize("retry_after", ["9" * 5_000, "\u0663", "soon", "-1"])
async def test_an_odd_retry_after_is_passed_over(copy: int, retry_after: str) -> None:
    """However the archive says when to come back, the file arrives."""
    archive = TusArchive()
    archive.faults.answers = {"POST": [(503, {"Retry-After": retry_after})]}

    async with client_of(archive) as client:
        await client.send(wanted_by(archive), copy)

    assert list(archive.files.values()) == [CONTENT]


@pytest.mark.parametrize("body", [b'{"a":' + b"[" * 60_000, b'{"code":"\\ud800"}', b"\xff"])
async def test_an_odd_reason_is_passed_over(copy: int, body: bytes) -> None:
    """Whatever stands in the body of a refusal, it is a refusal."""

    async def refuse(_request: web.Request) -> web.Response:
        return web.Response(status=403, body=body)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", refuse)
    async with (
        TestServer(app) as server,
        open_tus_client(str(server.make_url("/")), None) as client,
    ):
        with pytest.raises(UploadRefusedError):
            await client.send(wanted_by(TusArchive()), copy)
