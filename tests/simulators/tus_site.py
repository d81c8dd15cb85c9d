"""The archive's tus endpoint on loopback, with a catalogue and a disk; and a client for it."""

import asyncio
import contextlib
import hashlib
import io
import json
import os
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import aiohttp
from sqlalchemy import select
from sqlalchemy.engine import make_url

from protocol.topics import Channel, of_dock
from runtime.tls import client_context, server_context
from server_agent.adapters.bag_writer import BagWriter
from server_agent.adapters.catalogue_store import CatalogueStore, open_catalogue
from server_agent.adapters.log_files import LogFiles
from server_agent.adapters.registry_file import read_registry
from server_agent.adapters.tus_endpoint import TusEndpoint, serve_tus
from server_agent.adapters.uploads import UploadLimits, Uploads
from server_agent.admitting import Admitter
from server_agent.alarms import Alarms
from server_agent.app import load_signer_key, utc_now
from server_agent.archive.layout import CUSTODY
from server_agent.catalogue.book import Received
from server_agent.catalogue.tables import files as catalogue_files
from server_agent.custody import CustodyLog
from server_agent.intake.checks import KnownSite
from server_agent.intake.offsets import upload_id
from server_agent.signing import Signer
from tests.simulators.archive_site import DOCK, OTHER_DOCK, ArchiveSite, lay_out_site
from tests.simulators.broker import HOST
from tests.simulators.claims import Claim, Claimant

TIMEOUT_S: Final = 60.0
TUS: Final = MappingProxyType({"Tus-Resumable": "1.0.0"})
OFFSET_STREAM: Final = MappingProxyType({"Content-Type": "application/offset+octet-stream"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def offset(self) -> int:
        """What the answer says is durable."""
        return int(self.headers["Upload-Offset"])

    @property
    def code(self) -> str:
        """The code in a problem's body."""
        return str(json.loads(self.body)["code"])


@dataclass(slots=True, kw_only=True)
class TusSite:
    """An archive's intake with everything but MQTT and archiving.

    Attributes:
        docks: Who is registered.
        arrived: The groups that files arrived of.
        failures: What was reported of our disk.
    """

    site: ArchiveSite
    store: CatalogueStore
    admitter: Admitter
    claimant: Claimant
    limits: UploadLimits = field(default_factory=lambda: UploadLimits(keep_free_bytes=0))
    docks: set[str] = field(default_factory=lambda: {str(DOCK), str(OTHER_DOCK)})
    arrived: list[int] = field(default_factory=list)
    failures: list[OSError] = field(default_factory=list)
    stall_timeout_s: float = TIMEOUT_S
    port: int = 0

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Uploads]:
        """Serve for the length of the block: leaving and entering is a restart of the archive."""
        uploads = Uploads(
            self.store,
            BagWriter(self.site.archive),
            arrived=self.arrived.append,
            limits=self.limits,
        )
        endpoint = TusEndpoint(
            uploads,
            docks=lambda: self.docks,
            on_disk_failure=self._note,
            stall_timeout_s=self.stall_timeout_s,
        )
        tls = self.site.tls["archive"]
        context = server_context(
            ca=self.site.authority.ca, certificate=tls.certificate, key=tls.key
        )
        try:
            async with serve_tus(endpoint, host=HOST, port=0, tls=context) as self.port:
                yield uploads
        finally:
            uploads.close()

    async def admit(self, **what: Any) -> Claim:
        """Let a claim of DOCK be admitted."""
        claim = self.claimant.claim(**what)
        await self.take(claim)
        return claim

    async def take(self, claim: Claim) -> None:
        """Let the archive have a claim, as a message of its dock."""
        topic = of_dock(claim.manifest.dock, Channel.MANIFESTS)
        await self.admitter.take([Received(untrusted_topic=topic, untrusted_body=claim.envelope)])

    @contextlib.asynccontextmanager
    async def client(self, name: str = DOCK) -> AsyncIterator["TusTester"]:
        """Connect with the certificate of *name*."""
        connector = aiohttp.TCPConnector(ssl=self.tls(name))
        async with aiohttp.ClientSession(connector=connector) as session:
            yield TusTester(f"https://{HOST}:{self.port}", session)

    def tls(self, name: str) -> ssl.SSLContext:
        """Return the TLS context of *name*."""
        pair = self.site.tls[name]
        return client_context(ca=self.site.authority.ca, certificate=pair.certificate, key=pair.key)

    async def states(self) -> set[str]:
        """Return where the catalogue's files stand."""
        async with self.store.reading() as connection:
            return set((await connection.execute(select(catalogue_files.c.state))).scalars())

    def incoming(self) -> dict[str, str]:
        """Return the SHA-256 of what lies in .incoming, by name."""
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in self.files()}

    def files(self) -> list[Path]:
        """Return where the files of .incoming are."""
        return sorted((self.site.archive / ".incoming").rglob("data/*"))

    async def until_received(self, size_bytes: int) -> None:
        """Return when so many bytes are in a file of .incoming."""
        async with asyncio.timeout(TIMEOUT_S):
            while all(path.stat().st_size < size_bytes for path in self.files()):  # noqa: ASYNC110 -- a disk gives no event
                await asyncio.sleep(0)

    def open_files(self) -> list[Path]:
        """Return which files of .incoming this process has open."""
        found = (fd.readlink() for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink())
        return [path for path in found if path.is_relative_to(self.site.archive)]

    async def _note(self, error: OSError) -> None:
        self.failures.append(error)


class TusTester:
    """A client that does what a test says, right or wrong."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def request(
        self, method: str, path: str, headers: Mapping[str, str] = TUS, data: Any = None
    ) -> Reply:
        """Send any request."""
        async with self._session.request(
            method,
            self._url + path,
            data=io.BytesIO(data) if isinstance(data, bytes) else data,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
        ) as answer:
            return Reply(status=answer.status, headers=answer.headers, body=await answer.read())

    async def create(self, claim: Claim, content: bytes, data: Any = None, **changed: str) -> Reply:
        """Ask for an upload; *changed* headers have underscores for hyphens."""
        headers = {
            **TUS,
            **(OFFSET_STREAM if data is not None else {}),
            "Upload-Length": str(len(content)),
            "Upload-Metadata": metadata(claim, content),
        }
        return await self.request("POST", "/v1/uploads", _with(headers, changed), data)

    async def head(self, path: str) -> Reply:
        """Ask for an offset."""
        return await self.request("HEAD", path)

    async def patch(self, path: str, data: Any, *, offset: int, **changed: str) -> Reply:
        """Append; *changed* headers have underscores for hyphens."""
        headers = {**TUS, **OFFSET_STREAM, "Upload-Offset": str(offset)}
        return await self.request("PATCH", path, _with(headers, changed), data)


@contextlib.asynccontextmanager
async def open_tus_site(root: Path) -> AsyncIterator[TusSite]:
    """Lay out a site and open its catalogue; nothing listens yet."""
    site = lay_out_site(root)
    config = site.configure()
    signer = Signer(key=load_signer_key(config.signing), clock=utc_now, entropy=os.urandom)
    registry = read_registry(config.registry, ca=config.tls.ca).registry
    async with open_catalogue(make_url(config.catalogue.url)) as store:
        alarms = Alarms(store, signer)
        yield TusSite(
            site=site,
            store=store,
            admitter=Admitter(
                store,
                signer=signer,
                alarms=alarms,
                site=KnownSite.of(registry),
                matched=lambda _bag_id: None,
                custody=CustodyLog(
                    store, LogFiles(site.archive / CUSTODY), signer=signer, alarms=alarms
                ),
            ),
            claimant=Claimant(DOCK, site.key(DOCK)),
        )


def metadata(claim: Claim, content: bytes) -> str:
    """Return the Upload-Metadata of a file."""
    digest = hashlib.sha256(content).hexdigest()
    return f"manifest {_base64(claim.manifest.manifest_id)},sha256 {_base64(digest)}"


def location(claim: Claim, content: bytes) -> str:
    """Return where the upload of a file is."""
    name = upload_id(claim.manifest.manifest_id, hashlib.sha256(content).hexdigest())
    return f"/v1/uploads/{name}"


def _base64(text: str) -> str:
    return b64encode(text.encode()).decode()


def _with(headers: Mapping[str, str], changed: Mapping[str, str]) -> dict[str, str]:
    return {**headers, **{name.replace("_", "-"): value for name, value in changed.items()}}
