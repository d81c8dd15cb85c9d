"""A dock on the network: signs for real, uploads by tus, follows the archive's answers.

Like the real one it publishes again, from time to time, what it has no receipt for.
"""

import asyncio
import contextlib
import io
import ssl
from base64 import b64encode
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from edge_agent.outbox.answers import split_logged
from edge_agent.outbox.watching import Memory, look, verify_shown
from protocol.envelope import keyring, parse_statement, take_apart
from protocol.identifiers import DockId, ManifestId
from protocol.keys import SigningKey, VerifyingKey
from protocol.log_proofs import LoggedReceipt, SeenCheckpoint
from protocol.notes import Note, cosign_text, read_note
from protocol.receipt import Admission, AdmissionState, Receipt, Refusal, check_receipt
from protocol.registry import Registry
from protocol.strict_json import encode
from protocol.topics import REGISTRY, Channel, of_dock
from protocol.versions import Statement, parse_payload_type
from runtime.errors import LinkError
from runtime.link import Link, LinkSettings, open_link
from runtime.tls import client_context
from tests.simulators.archive_site import ArchiveSite
from tests.simulators.broker import HOST
from tests.simulators.claims import Claim

TIMEOUT_S: Final = 60.0

_ASK_AGAIN_S: Final = 2.0
_SLICE_BYTES: Final = 256 * 1024
_TUS: Final = {"Tus-Resumable": "1.0.0"}
_KINDS: Final[Mapping[Statement, type[Admission | Refusal | Receipt]]] = {
    Statement.ADMISSION: Admission,
    Statement.REFUSAL: Refusal,
    Statement.RECEIPT: Receipt,
}

Answer = Admission | Refusal | Receipt


class NotDeliveredError(Exception):
    """The archive refused a manifest, or its receipt is not what was promised."""


@dataclass(slots=True, kw_only=True)
class Heard:
    """What the archive said, in order.

    Attributes:
        answers: By manifest; a refusal that names none is under None.
        registries: As they were published.
    """

    answers: defaultdict[ManifestId | None, list[Answer]] = field(
        default_factory=lambda: defaultdict(list)
    )
    registries: list[Registry] = field(default_factory=list)

    def receipts(self, claim: Claim) -> list[Receipt]:
        """Return the receipts for *claim*, each as often as it came."""
        answers = self.answers[claim.manifest.manifest_id]
        return [one for one in answers if isinstance(one, Receipt)]


class Dock:
    """One connection of a dock; from `connect_dock`."""

    def __init__(
        self,
        dock: DockId,
        link: Link,
        http: aiohttp.ClientSession,
        url: str,
        key: VerifyingKey,
        own_key: SigningKey,
    ) -> None:
        self.heard = Heard()
        self.memory: Memory | None = None
        self.unproved = 0
        self._own_key = own_key
        self._dock = dock
        self._link = link
        self._http = http
        self._url = url
        self._keys = keyring(key)
        self._news = asyncio.Condition()

    async def publish(self, claim: Claim) -> None:
        """Publish a manifest."""
        await self.publish_bytes(claim.envelope)

    async def publish_bytes(self, payload: bytes, *, channel: Channel = Channel.MANIFESTS) -> None:
        """Publish anything on one of the dock's topics."""
        await self._link.publish(of_dock(self._dock, channel), payload)

    async def until(self, condition: Callable[[Heard], bool]) -> None:
        """Return as soon as what was heard fulfils *condition*."""
        async with asyncio.timeout(TIMEOUT_S), self._news:
            await self._news.wait_for(lambda: condition(self.heard))

    async def answer_to(self, claim: Claim, *, after: int = 0) -> Answer:
        """Return the first answer to *claim* beyond the first *after*."""
        manifest_id = claim.manifest.manifest_id
        await self.until(lambda heard: len(heard.answers[manifest_id]) > after)
        return self.heard.answers[manifest_id][after]

    async def deliver(self, claim: Claim, *, patient: bool = False) -> Receipt:
        """Publish *claim*, send what is missing, and return its receipt, verified.

        Args:
            claim: What to deliver.
            patient: Whether an upload that fails is left, until the archive is asked again.

        Raises:
            NotDeliveredError: The archive refused it, or the receipt is wrong.
        """
        seen = 0
        async with asyncio.timeout(TIMEOUT_S):
            await self.publish(claim)
            while True:
                answer = await self._next_answer(claim, seen)
                if answer is None:
                    await self.publish(claim)
                    continue
                seen += 1
                if isinstance(answer, Receipt):
                    return _checked(answer, claim)
                if isinstance(answer, Refusal):
                    raise NotDeliveredError(f"{answer.code.value}: {answer.detail}")
                if answer.state is AdmissionState.ADMITTED:
                    with contextlib.suppress(*([aiohttp.ClientError] if patient else [])):
                        for missing in answer.missing:
                            await self.upload(claim, missing.sha256)

    async def upload(self, claim: Claim, sha256: str) -> None:
        """Send one file of *claim*, from wherever it stands, as often as it takes."""
        content = claim.contents[sha256]
        path = await self._create(claim, sha256, len(content))
        while (offset := await self._offset(path)) < len(content):
            await self._append(path, content[offset : offset + _SLICE_BYTES], offset)

    async def cosign(self) -> None:
        """Say what was seen of the archive's log, and that proofs shall begin there."""
        assert self.memory is not None
        note = read_note(self.memory.note)
        line = cosign_text(note.text, self._dock, self._own_key, unix_s=1)
        cosigned = Note(text=note.text, lines=(*note.lines, line)).encode().decode()
        seen = SeenCheckpoint(note=cosigned, asks_again=self.memory.unproved_since_ms is not None)
        await self.publish_bytes(encode(seen), channel=Channel.COSIGNATURES)

    async def listen(self) -> None:
        """Take in what the archive says, until the connection ends."""
        async for message in self._link.messages():
            async with self._news:
                seen = self.memory
                self._take_in(message.topic, message.payload)
                self._news.notify_all()
            if self.memory is not seen:
                await self.cosign()
            await self._link.acknowledge(message)

    def _take_in(self, topic: str, payload: bytes) -> None:
        envelope, logged = split_logged(payload)
        sealed = take_apart(envelope)
        sealed.verify(self._keys)
        if topic == REGISTRY:
            registry = parse_statement(sealed, Statement.REGISTRY, Registry)
            self.heard.registries.append(registry)
            return
        kind, _ = parse_payload_type(sealed.payload_type)
        answer: Answer = parse_statement(sealed, kind, _KINDS[kind])
        if isinstance(answer, Receipt) and not self._counts(answer, logged):
            return  # it is asked for again
        self.heard.answers[answer.manifest_id].append(answer)

    def _counts(self, receipt: Receipt, logged: LoggedReceipt | None) -> bool:
        """Check that a receipt is in the log, and return whether the log is shown to go on."""
        if logged is None:
            raise NotDeliveredError("a receipt without a proof")
        shown = verify_shown(logged, receipt, self._keys.values())
        self.memory, counts = look(self.memory, shown, now_ms=0)
        self.unproved += not counts
        return counts

    async def _next_answer(self, claim: Claim, seen: int) -> Answer | None:
        """Return the next answer; None if it is time to ask again."""
        manifest_id = claim.manifest.manifest_id
        try:
            async with asyncio.timeout(_ASK_AGAIN_S), self._news:
                await self._news.wait_for(lambda: len(self.heard.answers[manifest_id]) > seen)
        except TimeoutError:
            return None
        return self.heard.answers[manifest_id][seen]

    async def _create(self, claim: Claim, sha256: str, size_bytes: int) -> str:
        metadata = f"manifest {_base64(claim.manifest.manifest_id)},sha256 {_base64(sha256)}"
        headers = {**_TUS, "Upload-Length": str(size_bytes), "Upload-Metadata": metadata}
        async with self._http.post(f"{self._url}/v1/uploads", headers=headers) as answer:
            answer.raise_for_status()
            return answer.headers["Location"]

    async def _offset(self, path: str) -> int:
        async with self._http.head(self._url + path, headers=_TUS) as answer:
            answer.raise_for_status()
            return int(answer.headers["Upload-Offset"])

    async def _append(self, path: str, content: bytes, offset: int) -> None:
        headers = {
            **_TUS,
            "Content-Type": "application/offset+octet-stream",
            "Upload-Offset": str(offset),
        }
        url, body = self._url + path, io.BytesIO(content)
        async with self._http.patch(url, headers=headers, data=body) as answer:
            answer.raise_for_status()


@contextlib.asynccontextmanager
async def connect_dock(site: ArchiveSite, dock: DockId, https_port: int) -> AsyncIterator[Dock]:
    """Connect a dock to broker and archive for the length of the block."""
    tls = dock_tls(site, dock)
    settings = LinkSettings(
        host=HOST,
        port=site.mqtt_port,
        client_id=f"test-{dock}",
        tls=tls,
    )
    connector = aiohttp.TCPConnector(ssl=tls)
    async with aiohttp.ClientSession(connector=connector) as http, open_link(settings) as link:
        connected = Dock(
            dock, link, http, f"https://{HOST}:{https_port}", site.archive_key, site.key(dock)
        )
        await link.subscribe(of_dock(dock, Channel.RECEIPTS))
        await link.subscribe(REGISTRY)
        listening = asyncio.create_task(connected.listen(), name=f"{dock} listens")
        try:
            yield connected
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError, LinkError):
                await listening


def dock_tls(site: ArchiveSite, dock: DockId) -> ssl.SSLContext:
    """Return the TLS context of a dock."""
    pair = site.tls[dock]
    return client_context(ca=site.authority.ca, certificate=pair.certificate, key=pair.key)


def _checked(receipt: Receipt, claim: Claim) -> Receipt:
    findings = check_receipt(receipt, claim.manifest, payload_sha256=claim.payload_sha256)
    if findings:
        raise NotDeliveredError(str(findings))
    return receipt


def _base64(text: str) -> str:
    return b64encode(text.encode()).decode()
