"""Sending staged files to the archive: tus 1.0 over mutual TLS, resumed where it broke.

No ``Upload-Checksum`` goes along. TLS already keeps every byte between here and there, and the
archive compares the whole file with the digest that the dock signed, so a checksum for each slice
would only find what those two find anyway, for the price of reading and hashing every byte twice.

Source:
    https://tus.io/protocols/resumable-upload, version 1.0.0; docs/architecture.md, "HTTPS".
"""

import asyncio
import contextlib
import os
import re
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import aiohttp
import msgspec
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_random_exponential
from yarl import URL

from edge_agent.errors import (
    ArchiveAnswerError,
    ArchiveBusyError,
    ArchiveFullError,
    ArchiveUnreachableError,
    OffsetConflictError,
    StagedCopyDamagedError,
    UploadError,
    UploadGoneError,
    UploadRefusedError,
    UploadRestartedError,
)
from protocol.digest import StreamDigest
from protocol.identifiers import ManifestId

TUS_VERSION: Final = "1.0.0"
UPLOADS_PATH: Final = "/v1/uploads"

_READ_BYTES: Final = 512 * 1024
_AHEAD_BYTES: Final = 4 * 1024 * 1024
_CONNECT_TIMEOUT_S: Final = 10.0
_CONNECTIONS: Final = 4
_MAX_ERROR_BYTES: Final = 64 * 1024
_MAX_RESTARTS: Final = 2
_CHECKSUM_MISMATCH: Final = 460  # tus 1.0.0, extension checksum

_DECIMAL: Final = re.compile(r"[0-9]{1,19}")
_BUSY: Final = frozenset(
    {
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.LOCKED,  # the archive still holds the connection that broke
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileToSend:
    """One file of an admitted manifest, as the archive's ``missing`` names it."""

    manifest_id: ManifestId
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadLimits:
    """How hard to try, and how much at a time.

    Attributes:
        slice_bytes: The most that one request carries; each answer confirms what is durable.
        with_creation_bytes: A file of no more is sent with the request that has its upload made.
        attempts: For each slice; a step forward starts the count anew.
        first_wait_s: About how long before the second attempt; then twice as long, with jitter.
        longest_wait_s: The most before any attempt.
        max_bytes_s: For all files together; None for as fast as it goes.
        silence_s: A request is given up when for so long the network took nothing of it and brought
            no answer. It has to cover what the machine still holds of a slow network's bytes, and
            the archive's sync.
    """

    slice_bytes: int = 64 << 20
    with_creation_bytes: int = 1 << 20
    attempts: int = 5
    first_wait_s: float = 0.5
    longest_wait_s: float = 20.0
    max_bytes_s: int | None = None
    silence_s: float = 180.0


class _ArchiveProblem(msgspec.Struct, frozen=True):
    code: str = ""
    message: str = ""


class _Pace:
    """Spreads bytes over time."""

    def __init__(self, max_bytes_s: int | None) -> None:
        self._max_bytes_s = max_bytes_s
        self._free_at_s = 0.0

    async def spend(self, size_bytes: int) -> None:
        if self._max_bytes_s is None:
            return
        now_s = asyncio.get_running_loop().time()
        self._free_at_s = max(self._free_at_s, now_s) + size_bytes / self._max_bytes_s
        await asyncio.sleep(self._free_at_s - now_s)


class _Slice:
    """The bytes of one request, read as they are sent; remembers if our own disk failed."""

    def __init__(self, fd: int, *, offset: int, size_bytes: int, pace: _Pace) -> None:
        self._fd = fd
        self._offset = offset
        self._pace = pace
        self.size_bytes = size_bytes
        self.failure: OSError | None = None
        self.on_taken: Callable[[], None] = _nothing

    async def __aiter__(self) -> AsyncIterator[bytes]:
        position, end = self._offset, self._offset + self.size_bytes
        while position < end:
            wanted = min(_READ_BYTES, end - position)
            try:
                chunk = await asyncio.to_thread(_read_ahead, self._fd, wanted, position)
                if not chunk:
                    raise OSError(f"the staged copy ends at byte {position}, not {end}")  # noqa: TRY301 -- it is our disk's failure like the one that pread raises
            except OSError as error:
                self.failure = error
                raise
            await self._pace.spend(len(chunk))
            position += len(chunk)
            yield chunk
            self.on_taken()


def _read_ahead(fd: int, size_bytes: int, position: int) -> bytes:
    """Read a part, and let the disk go on with the next ones while it is on the network."""
    os.posix_fadvise(fd, position + size_bytes, _AHEAD_BYTES, os.POSIX_FADV_WILLNEED)
    return os.pread(fd, size_bytes, position)


class TusClient:
    """Sends files to one archive; from `open_tus_client`."""

    def __init__(self, session: aiohttp.ClientSession, base: URL, limits: UploadLimits) -> None:
        self._session = session
        self._uploads = base.with_path(UPLOADS_PATH)
        self._limits = limits
        self._pace = _Pace(limits.max_bytes_s)
        self._wait = wait_random_exponential(
            multiplier=limits.first_wait_s, max=limits.longest_wait_s
        )

    async def send(
        self, file: FileToSend, fd: int, *, progress: Callable[[int], None] | None = None
    ) -> None:
        """Return when the archive has every byte of *file* on its disk.

        Args:
            file: What the archive asked for.
            fd: Its staged copy, open for reading; left open.
            progress: Told how many bytes the archive has confirmed, as often as that changes.

        Raises:
            UploadError: By its class; what was sent so far stays there for the next attempt.
            OSError: Our own disk failed.
        """
        for _ in range(_MAX_RESTARTS):
            try:
                return await self._send_once(file, fd, progress or _nobody)
            except UploadRestartedError:
                await asyncio.to_thread(_refuse_damaged, file, fd)
            except UploadGoneError:
                pass  # expired between two requests: it is created again
        return await self._send_once(file, fd, progress or _nobody)

    async def _send_once(self, file: FileToSend, fd: int, progress: Callable[[int], None]) -> None:
        location, offset = URL(), 0
        async for attempt in self._attempts():
            with attempt:
                location, offset = await self._begin(file, fd)
        progress(offset)
        while offset < file.size_bytes:
            offset = await self._send_slice(location, file, fd, offset)
            progress(offset)

    async def _send_slice(self, location: URL, file: FileToSend, fd: int, offset: int) -> int:
        async for attempt in self._attempts():
            with attempt:
                if attempt.retry_state.attempt_number > 1:
                    offset = await self._offset(location, file)
                if offset < file.size_bytes:
                    offset = await self._append(location, file, fd, offset)
        return offset

    async def _begin(self, file: FileToSend, fd: int) -> tuple[URL, int]:
        """Have an upload made, a small file's bytes with it; return it and where it stands."""
        metadata = f"manifest {_base64(file.manifest_id)},sha256 {_base64(file.sha256)}"
        headers = {"Upload-Length": str(file.size_bytes), "Upload-Metadata": metadata}
        body = None
        if 0 < file.size_bytes <= self._limits.with_creation_bytes:
            body = _Slice(fd, offset=0, size_bytes=file.size_bytes, pace=self._pace)
            headers |= _headers_of(body)
        async with self._request("POST", self._uploads, headers, body) as response:
            await _refuse(response, wanted=HTTPStatus.CREATED)
            location = self._location(_header(response, "Location"))
            if body is not None and "Upload-Offset" in response.headers:
                return location, _offset_of(response, at_most=file.size_bytes)
        return location, await self._offset(location, file)

    def _location(self, untrusted: str) -> URL:
        """Return where an upload is; never anywhere but at this archive."""
        with contextlib.suppress(ValueError):
            location = self._uploads.join(URL(untrusted))
            same_origin = location.origin() == self._uploads.origin()
            if same_origin and location.path.startswith(f"{UPLOADS_PATH}/"):
                return location
        raise ArchiveAnswerError(f"Location {untrusted[:200]!r} is not below {UPLOADS_PATH}")

    async def _offset(self, location: URL, file: FileToSend) -> int:
        async with self._request("HEAD", location, {}) as response:
            await _refuse(response, wanted=HTTPStatus.OK)
            return _offset_of(response, at_most=file.size_bytes)

    async def _append(self, location: URL, file: FileToSend, fd: int, offset: int) -> int:
        size_bytes = min(self._limits.slice_bytes, file.size_bytes - offset)
        body = _Slice(fd, offset=offset, size_bytes=size_bytes, pace=self._pace)
        headers = {"Upload-Offset": str(offset), **_headers_of(body)}
        async with self._request("PATCH", location, headers, body) as response:
            await _refuse(response, wanted=HTTPStatus.NO_CONTENT)
            confirmed = _offset_of(response, at_most=offset + size_bytes)
        if confirmed <= offset:
            raise ArchiveAnswerError(f"took a slice at {offset}, and stands at {confirmed}")
        return confirmed

    @contextlib.asynccontextmanager
    async def _request(
        self, method: str, url: URL, headers: Mapping[str, str], body: _Slice | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            async with (
                self._patience(body),
                self._session.request(
                    method,
                    url,
                    headers={"Tus-Resumable": TUS_VERSION, **headers},
                    data=body,
                    timeout=aiohttp.ClientTimeout(sock_connect=_CONNECT_TIMEOUT_S),
                    allow_redirects=False,
                ) as response,
            ):
                yield response
        except (aiohttp.ClientError, TimeoutError) as error:
            if body is not None and body.failure is not None:
                raise body.failure from None
            raise ArchiveUnreachableError(f"{method} {url.path}: {error!r}") from error

    @contextlib.asynccontextmanager
    async def _patience(self, body: _Slice | None) -> AsyncIterator[None]:
        """Raise TimeoutError in the block when nothing happens for too long."""
        loop, max_bytes_s = asyncio.get_running_loop(), self._limits.max_bytes_s
        own_s = _CONNECTIONS * _READ_BYTES / max_bytes_s if max_bytes_s else 0.0
        longest_s = self._limits.silence_s + own_s
        async with asyncio.timeout(longest_s) as patience:

            def on_taken() -> None:
                if not patience.expired():
                    patience.reschedule(loop.time() + longest_s)

            if body is None:
                yield
                return
            body.on_taken = on_taken
            try:
                yield
            finally:
                body.on_taken = _nothing

    def _attempts(self) -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_exception(_is_worth_repeating),
            stop=stop_after_attempt(self._limits.attempts),
            wait=self._pause_s,
            reraise=True,
        )

    def _pause_s(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, ArchiveBusyError) and error.retry_after_s is not None:
            return min(error.retry_after_s, self._limits.longest_wait_s) + self._wait(state)
        return self._wait(state)


@contextlib.asynccontextmanager
async def open_tus_client(
    base_url: str, tls: ssl.SSLContext | None, *, limits: UploadLimits | None = None
) -> AsyncIterator[TusClient]:
    """Keep connections to the archive for the length of the block.

    Args:
        base_url: ``https://host:port``; the host must stand in the archive's certificate.
        tls: From runtime.tls: our certificate, and the only authority that may vouch for theirs.
            None for a test's archive without TLS.
        limits: How hard to try, and how much at a time.
    """
    connector = aiohttp.TCPConnector(ssl=tls if tls is not None else True, limit=_CONNECTIONS)
    async with aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
    ) as session:
        yield TusClient(session, URL(base_url), limits or UploadLimits())


def _headers_of(body: _Slice) -> dict[str, str]:
    return {
        "Content-Type": "application/offset+octet-stream",
        "Content-Length": str(body.size_bytes),
    }


def _nothing() -> None:
    """Hear of bytes that were taken when no request waits for it any more."""


def _nobody(_offset_bytes: int) -> None:
    """Take progress that nobody asked for."""


def _base64(text: str) -> str:
    return b64encode(text.encode()).decode()


def _is_worth_repeating(error: BaseException) -> bool:
    # Only trouble on the way. A file that starts again, an upload that is gone and an archive that
    # is full are decided further up.
    return isinstance(error, ArchiveUnreachableError | ArchiveBusyError | OffsetConflictError)


def _header(response: aiohttp.ClientResponse, name: str) -> str:
    value = response.headers.get(name)
    if value is None:
        raise ArchiveAnswerError(f"{response.method} answered {response.status} without {name}")
    return value


def _offset_of(response: aiohttp.ClientResponse, *, at_most: int) -> int:
    untrusted = _header(response, "Upload-Offset")
    if not _DECIMAL.fullmatch(untrusted) or int(untrusted) > at_most:
        raise ArchiveAnswerError(f"Upload-Offset {untrusted[:40]!r}, at most {at_most} is possible")
    return int(untrusted)


async def _refuse(response: aiohttp.ClientResponse, *, wanted: HTTPStatus) -> None:
    """Return if *response* is what we wanted; otherwise raise what it means."""
    status = response.status
    if status == wanted:
        return
    problem = await _problem_of(response)
    text = f"{response.method} answered {status} {problem.code} {problem.message[:300]!r}"
    raise _error_of(status, text, response.headers.get("Retry-After"), problem.code)


def _error_of(status: int, text: str, retry_after: str | None, code: str) -> UploadError:
    plain: dict[int, type[UploadError]] = {
        HTTPStatus.CONFLICT: OffsetConflictError,
        HTTPStatus.NOT_FOUND: UploadGoneError,
        HTTPStatus.GONE: UploadGoneError,
        HTTPStatus.INSUFFICIENT_STORAGE: ArchiveFullError,
        _CHECKSUM_MISMATCH: UploadRestartedError,
    }
    if status in plain:
        return plain[status](text)
    if status in _BUSY:
        digits = retry_after if _DECIMAL.fullmatch(retry_after or "") else None
        return ArchiveBusyError(text, retry_after_s=None if digits is None else int(digits))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ArchiveBusyError(text, retry_after_s=None)
    if status >= HTTPStatus.BAD_REQUEST:
        return UploadRefusedError(text, status=status, archive_code=code or None)
    return ArchiveAnswerError(text)


async def _problem_of(response: aiohttp.ClientResponse) -> _ArchiveProblem:
    untrusted = await response.content.read(_MAX_ERROR_BYTES)
    try:
        return msgspec.json.decode(untrusted, type=_ArchiveProblem)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _ArchiveProblem()


def _refuse_damaged(file: FileToSend, fd: int) -> None:
    """Return if the staged copy is what its manifest promises: then the damage was on the way."""
    digest = StreamDigest()
    while chunk := os.pread(fd, _READ_BYTES, digest.size_bytes):
        digest.update(chunk)
    if digest.digests().sha256 != file.sha256:
        raise StagedCopyDamagedError(
            f"the staged copy of {file.sha256} now hashes to {digest.digests().sha256}"
        )
