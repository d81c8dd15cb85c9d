"""The archive without a network: what comes in is handed over, what goes out is collected."""

import contextlib
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from sqlalchemy.engine import make_url

from edge_agent.outbox.answers import split_logged
from protocol.digest import sha256_hex
from protocol.envelope import keyring, parse_statement, take_apart
from protocol.identifiers import ManifestId
from protocol.receipt import Admission, AdmissionState, Receipt, Refusal
from protocol.topics import Channel, of_dock
from protocol.versions import Statement, parse_payload_type
from server_agent.adapters.bag_writer import BagWriter
from server_agent.adapters.catalogue_store import open_catalogue
from server_agent.adapters.log_files import LogFiles
from server_agent.adapters.uploads import Asking, Body, UploadLimits, UploadRefusedError, Uploads
from server_agent.admitting import Admitter
from server_agent.alarms import Alarms
from server_agent.app import load_signer_key, utc_now
from server_agent.archive.layout import CUSTODY
from server_agent.archiving import Archiver
from server_agent.arrivals import Arrivals
from server_agent.catalogue.book import Received
from server_agent.custody import CustodyLog
from server_agent.intake.offsets import Creation
from server_agent.registering import issue_registry
from server_agent.signing import Answer, Signer
from tests.simulators.archive_site import ArchiveSite
from tests.simulators.claims import Claim

_KINDS: Final[Mapping[Statement, type[Admission | Refusal | Receipt]]] = {
    Statement.ADMISSION: Admission,
    Statement.REFUSAL: Refusal,
    Statement.RECEIPT: Receipt,
}


class IntakeBench:
    """One site's archive, which may be stopped and started again.

    Attributes:
        receipts: Every receipt that went out, by manifest, as bytes.
        last: What was said last about a manifest.
    """

    def __init__(self, site: ArchiveSite) -> None:
        self.site = site
        self.receipts: defaultdict[ManifestId, list[bytes]] = defaultdict(list)
        self.last: dict[ManifestId | None, Admission | Refusal | Receipt] = {}
        self._keys = keyring(site.archive_key)
        self._stack = contextlib.AsyncExitStack()

    async def start(self) -> None:
        """Start as the program does."""
        config = self.site.configure()
        store = await self._stack.enter_async_context(
            open_catalogue(make_url(config.catalogue.url))
        )
        signer = Signer(key=load_signer_key(config.signing), clock=utc_now, entropy=os.urandom)
        in_force = await issue_registry(
            config.registry, ca=config.tls.ca, store=store, signer=signer
        )
        bags = BagWriter(self.site.archive)
        self._arrivals, self._matched = Arrivals(), Arrivals()
        self.uploads = Uploads(
            store,
            bags,
            arrived=self._arrivals.put_nowait,
            limits=UploadLimits(keep_free_bytes=0, open_files=2),
        )
        self._stack.callback(self.uploads.close)
        alarms = Alarms(store, signer)
        self.custody = CustodyLog(
            store, LogFiles(self.site.archive / CUSTODY), signer=signer, alarms=alarms
        )
        await self.custody.try_seal()
        self.admitter = Admitter(
            store,
            signer=signer,
            alarms=alarms,
            site=in_force.site,
            matched=self._matched.put_nowait,
            custody=self.custody,
        )
        self.archiver = Archiver(
            store,
            bags,
            self.uploads,
            signer=signer,
            alarms=alarms,
            ca_pem=config.tls.ca.read_bytes(),
            arrivals=self._arrivals,
            matched=self._matched,
            publish=self._hear,
            custody=self.custody,
        )
        await self.archiver.reconcile()
        for answer in await self.admitter.promote_all():
            self._hear(answer)

    async def stop(self) -> None:
        """Stop wherever everything stands."""
        await self._stack.aclose()

    async def publish(self, claims: Sequence[Claim]) -> None:
        """Hand over manifests as one batch."""
        batch = [
            Received(
                untrusted_topic=of_dock(claim.manifest.dock, Channel.MANIFESTS),
                untrusted_body=claim.envelope,
            )
            for claim in claims
        ]
        for answer in await self.admitter.take(batch):
            self._hear(answer)

    async def upload(self, claim: Claim, content: bytes, *, until_bytes: int | None = None) -> bool:
        """Send a file from where it stands; return False if the archive does not want it."""
        asking = Asking(dock=claim.manifest.dock, cut_off=lambda: None)
        creation = Creation(
            manifest_id=claim.manifest.manifest_id,
            sha256=sha256_hex(content),
            length_bytes=len(content),
        )
        try:
            progress = await self.uploads.create(asking, creation)
        except UploadRefusedError:
            return False
        rest = content[progress.offset_bytes : until_bytes]
        if rest:
            body = Body(chunks=_chunks(rest), size_bytes=len(rest))
            await self.uploads.append(
                asking, progress.upload_id, body, told_offset=progress.offset_bytes
            )
        return True

    async def archive(self) -> None:
        """Close every bag that can be closed, and read again those that stand for others."""
        while not (self._arrivals.empty() and self._matched.empty()):
            while not self._matched.empty():
                await self.archiver.matches.confirm(self._matched.get_nowait())
            while not self._arrivals.empty():
                await self.archiver.close(self._arrivals.get_nowait())

    def missing(self, claim: Claim) -> list[str]:
        """Return what the archive last said that it needs of *claim*."""
        said = self.last.get(claim.manifest.manifest_id)
        if not isinstance(said, Admission) or said.state is not AdmissionState.ADMITTED:
            return []
        return [one.sha256 for one in said.missing]

    def payload_files(self) -> list[Path]:
        """Return every file below a data/ of the archive, .incoming aside."""
        found = sorted(self.site.archive.rglob("data/*"))
        return [path for path in found if ".incoming" not in path.parts]

    def _hear(self, answer: Answer) -> None:
        envelope, _ = split_logged(answer.envelope)
        sealed = take_apart(envelope)
        sealed.verify(self._keys)
        kind, _ = parse_payload_type(sealed.payload_type)
        said: Admission | Refusal | Receipt = parse_statement(sealed, kind, _KINDS[kind])
        self.last[said.manifest_id] = said
        if isinstance(said, Receipt):
            self.receipts[said.manifest_id].append(envelope)


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 7):
        yield content[start : start + 7]
