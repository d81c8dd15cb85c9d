"""The archive's tus endpoint, as docs/architecture.md promises it, with the faults a test asks for.

Keeps what it receives in memory. What was received but not "synced" when a connection breaks is
forgotten, as a careful archive's is.
"""

import asyncio
import binascii
import contextlib
import hashlib
import ssl
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from aiohttp import web

from runtime.tls import peer_common_name

HOST: Final = "127.0.0.1"
UPLOADS: Final = "/v1/uploads"
_TUS: Final = {"Tus-Resumable": "1.0.0"}
_OFFSETS: Final = "application/offset+octet-stream"


@dataclass(slots=True)
class Faults:
    """What goes wrong next; each is used up as it happens."""

    # One entry for each coming PATCH: break the connection after so many bytes of its body.
    drop_after_bytes: list[int] = field(default_factory=list)
    # One entry for each coming request with a method: answer with this status and headers at once.
    answers: dict[str, list[tuple[int, dict[str, str]]]] = field(default_factory=dict)
    # Answer every creation of a file with this digest so.
    failing: dict[str, int] = field(default_factory=dict)
    # So many of the coming files have a bit turned over on their way to the disk.
    damage_files: int = 0
    # Answer the next creation with this Location.
    location: str | None = None
    # While this event is not set, no PATCH is answered.
    gate: asyncio.Event | None = None


@dataclass(slots=True)
class _Upload:
    manifest_id: str
    sha256: str
    size_bytes: int
    content: bytearray = field(default_factory=bytearray)
    done: bool = False


class TusArchive:
    """An archive's HTTPS server; from `serve_tus`.

    Attributes:
        wanted: (manifest id, sha256) → size: what an admission listed as missing.
        files: sha256 → content of everything that arrived whole.
        requests: Method and path of each request, in order.
    """

    def __init__(self, *, sync_bytes: int = 1, with_creation: bool = False) -> None:
        self.wanted: dict[tuple[str, str], int] = {}
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.peers: set[str | None] = set()
        self.faults = Faults()
        self.url = ""
        self.on_file: Callable[[str, str], None] = lambda _manifest_id, _sha256: None
        self.patched_bytes = 0
        self.patching = 0
        self.most_patching = 0
        self._patching_changed = asyncio.Event()
        self._uploads: dict[str, _Upload] = {}
        self._sync_bytes = sync_bytes
        self._with_creation = with_creation

    def want(self, manifest_id: str, content: bytes) -> str:
        """Let a file of a manifest be uploaded; return its digest."""
        digest = hashlib.sha256(content).hexdigest()
        self.wanted[manifest_id, digest] = len(content)
        return digest

    async def until_patching(self, count: int) -> None:
        """Return as soon as *count* files are being received at the same time."""
        while self.patching < count:
            self._patching_changed.clear()
            await self._patching_changed.wait()

    def forget_uploads(self) -> None:
        """Let every upload that is not complete expire."""
        self._uploads = {name: upload for name, upload in self._uploads.items() if upload.done}

    def set_back(self) -> None:
        """Be as before anything arrived."""
        self.files.clear()
        self.wanted.clear()
        self._uploads.clear()

    def application(self) -> web.Application:
        """Return the server's routes."""
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post(UPLOADS, self._create)
        app.router.add_head(f"{UPLOADS}/{{name}}", self._tell)
        app.router.add_patch(f"{UPLOADS}/{{name}}", self._append)
        app.middlewares.append(self._misbehave)
        return app

    @web.middleware
    async def _misbehave(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path}")
        transport = request.transport
        if transport is not None and transport.get_extra_info("ssl_object") is not None:
            self.peers.add(peer_common_name(transport.get_extra_info("ssl_object")))
        waiting = self.faults.answers.get(request.method, [])
        if waiting:
            status, headers = waiting.pop(0)
            return _problem(status, "E-ARC-999", "as the test asked", headers)
        if request.headers.get("Tus-Resumable") != _TUS["Tus-Resumable"]:
            return _problem(412, "E-ARC-412", "tus 1.0.0 is spoken here")
        return await handler(request)

    async def _create(self, request: web.Request) -> web.StreamResponse:
        metadata = _metadata(request.headers.get("Upload-Metadata", ""))
        manifest_id, sha256 = metadata.get("manifest", ""), metadata.get("sha256", "")
        if sha256 in self.faults.failing:
            return _problem(self.faults.failing[sha256], "E-ARC-999", "as the test asked", {})
        size_bytes = self.wanted.get((manifest_id, sha256))
        if size_bytes is None or request.headers.get("Upload-Length") != str(size_bytes):
            return _problem(403, "E-ARC-403", "not listed in an admission")
        name = hashlib.sha256(f"{manifest_id}/{sha256}".encode()).hexdigest()[:32]
        upload = self._uploads.setdefault(
            name, _Upload(manifest_id=manifest_id, sha256=sha256, size_bytes=size_bytes)
        )
        if sha256 in self.files:
            upload.content, upload.done = bytearray(self.files[sha256]), True
        elif size_bytes == 0:
            self._finish(upload)
        location, self.faults.location = self.faults.location, None
        headers = {**_TUS, "Location": location or f"{UPLOADS}/{name}"}
        if self._with_creation and request.headers.get("Content-Type") == _OFFSETS:
            if not upload.content:
                answer = await self._receive(request, upload)
                if answer.status != HTTPStatus.NO_CONTENT:
                    return answer
            headers["Upload-Offset"] = str(len(upload.content))
        return web.Response(status=201, headers=headers)

    async def _tell(self, request: web.Request) -> web.StreamResponse:
        upload = self._uploads.get(request.match_info["name"])
        if upload is None:
            return _problem(404, "E-ARC-404", "no such upload")
        headers = {
            **_TUS,
            "Upload-Offset": str(len(upload.content)),
            "Upload-Length": str(upload.size_bytes),
            "Cache-Control": "no-store",
        }
        return web.Response(headers=headers)

    async def _append(self, request: web.Request) -> web.StreamResponse:
        upload = self._uploads.get(request.match_info["name"])
        if upload is None:
            return _problem(404, "E-ARC-404", "no such upload")
        if request.headers.get("Upload-Offset") != str(len(upload.content)):
            return _problem(409, "E-ARC-409", "another offset is expected")
        self.patching += 1
        self.most_patching = max(self.most_patching, self.patching)
        self._patching_changed.set()
        try:
            return await self._receive(request, upload)
        finally:
            self.patching -= 1

    async def _receive(self, request: web.Request, upload: _Upload) -> web.StreamResponse:
        if self.faults.gate is not None:
            await self.faults.gate.wait()
        drop_after = self.faults.drop_after_bytes.pop(0) if self.faults.drop_after_bytes else None
        start, body = len(upload.content), bytearray()
        if drop_after == 0:
            return self._break_off(request, upload, body)
        async for chunk in request.content.iter_any():
            body += chunk
            self.patched_bytes += len(chunk)
            if drop_after is not None and len(body) >= drop_after:
                return self._break_off(request, upload, body[:drop_after])
        upload.content += body
        if start + len(body) > upload.size_bytes:
            upload.content.clear()
            return _problem(413, "E-ARC-413", "more bytes than announced")
        if len(upload.content) == upload.size_bytes and not self._finish(upload):
            return _problem(460, "E-ARC-460", "the digest differs")
        return web.Response(status=204, headers={**_TUS, "Upload-Offset": str(len(upload.content))})

    def _break_off(
        self, request: web.Request, upload: _Upload, body: bytearray
    ) -> web.StreamResponse:
        synced = len(body) // self._sync_bytes * self._sync_bytes
        upload.content += body[:synced]
        if len(upload.content) == upload.size_bytes:
            self._finish(upload)
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)

    def _finish(self, upload: _Upload) -> bool:
        if self.faults.damage_files and upload.content:
            self.faults.damage_files -= 1
            upload.content[len(upload.content) // 2] ^= 1
        if hashlib.sha256(upload.content).hexdigest() != upload.sha256:
            upload.content.clear()
            return False
        upload.done = True
        self.files[upload.sha256] = bytes(upload.content)
        self.on_file(upload.manifest_id, upload.sha256)
        return True


@contextlib.asynccontextmanager
async def serve_tus(
    archive: TusArchive, *, tls: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[TusArchive]:
    """Let *archive* listen on this machine for the length of the block."""
    runner = web.AppRunner(archive.application(), access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port, ssl_context=tls).start()
        bound = runner.addresses[0][1]
        archive.url = f"{'http' if tls is None else 'https'}://{HOST}:{bound}"
        yield archive
    finally:
        await runner.cleanup()


def _metadata(header: str) -> dict[str, str]:
    pairs = (pair.strip().partition(" ") for pair in header.split(","))
    try:
        return {name: b64decode(value, validate=True).decode() for name, _, value in pairs}
    except (binascii.Error, UnicodeDecodeError):
        return {}


def _problem(
    status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> web.StreamResponse:
    return web.json_response(
        {"code": code, "message": message}, status=status, headers={**_TUS, **(headers or {})}
    )
