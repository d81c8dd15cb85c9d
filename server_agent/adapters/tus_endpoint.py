"""tus 1.0.0 over mutual TLS: docs/architecture.md, "HTTPS: tus 1.0.0 on the archive".

Every request but GET /healthz and OPTIONS comes from a dock: the common name of its certificate
has to be in the registry. What goes wrong is answered as JSON, {"code", "message"}.
"""

import asyncio
import contextlib
import errno
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus
from types import MappingProxyType
from typing import Final, NoReturn, TypeVar

import structlog
from aiohttp import ClientError, web
from aiohttp.http_exceptions import HttpProcessingError
from sqlalchemy.exc import SQLAlchemyError

from protocol.identifiers import DockId
from runtime.errors import Retry
from runtime.tls import peer_common_name
from server_agent.adapters.door import DEFAULT_DOOR_LIMITS, DoorLimits, Presence, open_door
from server_agent.adapters.uploads import (
    Asking,
    Body,
    OvertakenError,
    Progress,
    UploadRefusedError,
    Uploads,
)
from server_agent.errors import ServerError
from server_agent.intake.offsets import (
    CHECKSUM_ALGORITHM,
    OFFSET_MEDIA_TYPE,
    TUS_VERSION,
    Fault,
    UploadFault,
    parse_checksum,
    parse_creation,
    parse_number,
)

UPLOADS: Final = "/v1/uploads"
EXTENSIONS: Final = "creation,creation-with-upload,checksum,expiration"

# tus 1.0.0, "Checksum": HTTP has no name for it.
_CHECKSUM_MISMATCH: Final = 460
_STATUS: Final[Mapping[UploadFault, int]] = MappingProxyType(
    {
        UploadFault.NOT_A_DOCK: HTTPStatus.FORBIDDEN,
        UploadFault.NOT_MISSING: HTTPStatus.FORBIDDEN,
        UploadFault.BAD_REQUEST: HTTPStatus.BAD_REQUEST,
        UploadFault.OTHER_VERSION: HTTPStatus.PRECONDITION_FAILED,
        UploadFault.OTHER_MEDIA_TYPE: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        UploadFault.NO_UPLOAD: HTTPStatus.NOT_FOUND,
        UploadFault.OFFSET_DIFFERS: HTTPStatus.CONFLICT,
        UploadFault.TOO_LONG: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        UploadFault.DIGEST_DIFFERS: _CHECKSUM_MISMATCH,
        UploadFault.OVERTAKEN: HTTPStatus.LOCKED,
        UploadFault.STALLED: HTTPStatus.REQUEST_TIMEOUT,
        UploadFault.BUSY: HTTPStatus.SERVICE_UNAVAILABLE,
        UploadFault.ARCHIVE_FULL: HTTPStatus.INSUFFICIENT_STORAGE,
        UploadFault.DISK_FAILED: HTTPStatus.INTERNAL_SERVER_ERROR,
    }
)
_RETRY_AFTER_S: Final[Mapping[UploadFault, int]] = MappingProxyType(
    {UploadFault.BUSY: 2, UploadFault.ARCHIVE_FULL: 60}
)
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# More than one TLS record, less than what makes a hundred connections dear: 2 MiB each.
_READ_BUFFER_BYTES: Final = 1 << 20
# Who brings less than this in stall_timeout_s keeps a place that another dock could have.
_LEAST_BYTES: Final = 64 * 1024
# So long is read, and thrown away, of a body that was refused: its sender may then read the answer.
_LINGERING_S: Final = 2.0
_SHUTDOWN_S: Final = 10.0

_log = structlog.get_logger(__name__)
T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class PeerGoneError(ServerError):
    """The connection that bytes came by has ended; what came is kept."""

    code = "E-UPL-115"
    retry = Retry.SOON


class TusEndpoint:
    """The routes; `serve_tus` puts them on a network."""

    def __init__(
        self,
        uploads: Uploads,
        *,
        docks: Callable[[], Container[str]],
        on_disk_failure: Callable[[OSError], Awaitable[None]],
        stall_timeout_s: float,
    ) -> None:
        """Serve *uploads*.

        Args:
            uploads: Decides.
            docks: Returns the docks that are registered now.
            on_disk_failure: Told when our own disk failed under a request.
            stall_timeout_s: A body that brings less than 64 KiB while we wait so long is given up.
        """
        self.presence = Presence()
        self._uploads = uploads
        self._docks = docks
        self._on_disk_failure = on_disk_failure
        self._stall_timeout_s = stall_timeout_s

    def application(self) -> web.Application:
        """Return the routes."""
        app = web.Application(middlewares=[self._answer])
        app.router.add_get("/healthz", self._health)
        app.router.add_route("OPTIONS", UPLOADS, self._options)
        app.router.add_route("OPTIONS", f"{UPLOADS}/{{name}}", self._options)
        app.router.add_post(UPLOADS, self._create)
        app.router.add_head(f"{UPLOADS}/{{name}}", self._tell)
        app.router.add_patch(f"{UPLOADS}/{{name}}", self._append)
        return app

    @web.middleware
    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Turn what was raised into what is answered."""
        if request.transport is None:
            return await self._answer_present(request, handler)
        with self.presence.request(request.transport):
            return await self._answer_present(request, handler)

    async def _answer_present(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except UploadRefusedError as error:
            return _problem(error.fault)
        except OvertakenError:
            return _problem(Fault(kind=UploadFault.OVERTAKEN, detail="a later request came"))
        except PeerGoneError as error:
            _log.info("upload broke off", path=request.path, reason=str(error))
            return _problem(Fault(kind=UploadFault.STALLED, detail="the connection ended"))
        except OSError as error:
            _log.exception("our disk failed under an upload", path=request.path)
            await self._on_disk_failure(error)
            full = error.errno in _NO_SPACE
            kind = UploadFault.ARCHIVE_FULL if full else UploadFault.DISK_FAILED
            return _problem(Fault(kind=kind, detail=error.strerror or "our disk failed"))
        except SQLAlchemyError:
            _log.exception("the catalogue failed under an upload", path=request.path)
            return _problem(Fault(kind=UploadFault.DISK_FAILED, detail="the catalogue failed"))

    async def _health(self, request: web.Request) -> web.StreamResponse:
        del request
        return web.json_response({"status": "ok"})

    async def _options(self, request: web.Request) -> web.StreamResponse:
        del request
        return web.Response(
            status=HTTPStatus.NO_CONTENT,
            headers={
                "Tus-Resumable": TUS_VERSION,
                "Tus-Version": TUS_VERSION,
                "Tus-Extension": EXTENSIONS,
                "Tus-Checksum-Algorithm": CHECKSUM_ALGORITHM,
            },
        )

    async def _create(self, request: web.Request) -> web.StreamResponse:
        asking = self._asking(request)
        creation = _granted(
            parse_creation(
                untrusted_length=request.headers.get("Upload-Length"),
                untrusted_metadata=request.headers.get("Upload-Metadata"),
            )
        )
        progress = await self._uploads.create(asking, creation)
        headers = {"Location": f"{UPLOADS}/{progress.upload_id}"}
        if request.headers.get("Content-Type") == OFFSET_MEDIA_TYPE:
            # creation-with-upload; a file that is there already is there at any offset.
            if progress.offset_bytes == 0 and not progress.complete:
                body = self._body(request)
                progress = await self._uploads.append(
                    asking, progress.upload_id, body, told_offset=0
                )
            headers["Upload-Offset"] = str(progress.offset_bytes)
        return self._done(HTTPStatus.CREATED, progress, headers)

    async def _tell(self, request: web.Request) -> web.StreamResponse:
        progress = await self._uploads.tell(self._asking(request), request.match_info["name"])
        headers = {
            "Upload-Offset": str(progress.offset_bytes),
            "Upload-Length": str(progress.length_bytes),
            "Cache-Control": "no-store",
        }
        return self._done(HTTPStatus.OK, progress, headers)

    async def _append(self, request: web.Request) -> web.StreamResponse:
        asking = self._asking(request)
        if request.headers.get("Content-Type") != OFFSET_MEDIA_TYPE:
            _refuse(UploadFault.OTHER_MEDIA_TYPE, f"the content type is {OFFSET_MEDIA_TYPE}")
        told = _granted(parse_number(request.headers.get("Upload-Offset"), "Upload-Offset"))
        progress = await self._uploads.append(
            asking, request.match_info["name"], self._body(request), told_offset=told
        )
        headers = {"Upload-Offset": str(progress.offset_bytes)}
        return self._done(HTTPStatus.NO_CONTENT, progress, headers)

    def _asking(self, request: web.Request) -> Asking:
        """Return who asks, by certificate, in the one version of tus that there is."""
        transport = request.transport
        if transport is None:
            raise PeerGoneError("before its request was looked at")
        name = peer_common_name(transport.get_extra_info("ssl_object"))
        if name is None or name not in self._docks():
            _refuse(UploadFault.NOT_A_DOCK, f"{name!r} is not a registered dock")
        if request.headers.get("Tus-Resumable") != TUS_VERSION:
            _refuse(UploadFault.OTHER_VERSION, f"tus {TUS_VERSION} is spoken here")
        return Asking(dock=DockId(name), cut_off=transport.abort)

    def _body(self, request: web.Request) -> Body:
        checksum = parse_checksum(request.headers.get("Upload-Checksum"))
        return Body(
            chunks=_chunks(request, stall_timeout_s=self._stall_timeout_s),
            size_bytes=request.content_length,
            checksum=None if checksum is None else _granted(checksum),
        )

    def _done(
        self, status: HTTPStatus, progress: Progress, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        expiry: dict[str, str] = {}
        if not progress.complete:
            expires = datetime.now(UTC) + timedelta(seconds=self._uploads.limits.expiry_s)
            expiry["Upload-Expires"] = format_datetime(expires, usegmt=True)
        return web.Response(
            status=status, headers={"Tus-Resumable": TUS_VERSION, **expiry, **headers}
        )


@contextlib.asynccontextmanager
async def serve_tus(
    endpoint: TusEndpoint,
    *,
    host: str,
    port: int,
    tls: ssl.SSLContext,
    limits: DoorLimits = DEFAULT_DOOR_LIMITS,
) -> AsyncIterator[int]:
    """Serve for the length of the block; yields the port, which is *port* unless that is 0.

    Leaving the block ends requests that do not end by themselves within some seconds.

    Raises:
        OSError: The address cannot be listened on.
    """
    runner = web.AppRunner(
        endpoint.application(),
        access_log=None,
        shutdown_timeout=_SHUTDOWN_S,
        read_bufsize=_READ_BUFFER_BYTES,
        lingering_time=_LINGERING_S,
        # The digest is of the bytes as they are; nobody has us unpack anything.
        auto_decompress=False,
    )
    await runner.setup()
    try:
        if runner.server is None:
            raise RuntimeError("a runner that was set up has no server")
        async with open_door(
            runner.server, endpoint.presence, host=host, port=port, tls=tls, limits=limits
        ) as bound:
            yield bound
    finally:
        await runner.cleanup()


async def _chunks(request: web.Request, *, stall_timeout_s: float) -> AsyncIterator[bytes]:
    # Only waiting counts: how long our own disk takes is no fault of the dock.
    waited_s, brought_bytes = 0.0, 0
    clock = asyncio.get_running_loop().time
    while True:
        start_s = clock()
        try:
            async with asyncio.timeout(stall_timeout_s - waited_s):
                chunk = await request.content.readany()
        except TimeoutError:
            _refuse(UploadFault.STALLED, f"{brought_bytes} bytes came in {stall_timeout_s:g} s")
        except (OSError, ClientError, HttpProcessingError, web.RequestPayloadError) as error:
            # An OSError of the network: nothing here is of our disk.
            raise PeerGoneError(repr(error)) from error
        if not chunk:
            return
        waited_s += clock() - start_s
        brought_bytes += len(chunk)
        if brought_bytes >= _LEAST_BYTES:
            waited_s, brought_bytes = 0.0, 0
        yield chunk


def _granted(parsed: T | Fault) -> T:
    if isinstance(parsed, Fault):
        raise UploadRefusedError(parsed)
    return parsed


def _refuse(kind: UploadFault, detail: str) -> NoReturn:
    raise UploadRefusedError(Fault(kind=kind, detail=detail))


def _problem(fault: Fault) -> web.StreamResponse:
    headers = {"Tus-Resumable": TUS_VERSION}
    if fault.kind is UploadFault.OTHER_VERSION:
        headers["Tus-Version"] = TUS_VERSION
    if fault.kind in _RETRY_AFTER_S:
        headers["Retry-After"] = str(_RETRY_AFTER_S[fault.kind])
    return web.json_response(
        {"code": fault.kind.value, "message": fault.detail},
        status=_STATUS[fault.kind],
        headers=headers,
    )
