"""The dock's attestations on their way to the archive: one at a time, until it answers for each."""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from edge_agent.adapters.attestations import AttestationFolder, attestations_folder
from edge_agent.adapters.notice_store import Notice, NoticeStore
from edge_agent.adapters.pulse import Pulse
from edge_agent.config import EdgeConfig
from edge_agent.errors import AttestationsError
from edge_agent.outbox.answers import Unhandled
from protocol.attested import Attested
from protocol.digest import ZERO_DIGEST, sha256_hex
from protocol.envelope import open_statement, take_apart
from protocol.errors import ProtocolError
from protocol.identifiers import DockId
from protocol.keys import KeyId, VerifyingKey
from protocol.topics import Channel, of_dock
from protocol.versions import Statement
from runtime.durable import make_directories, replace_file
from runtime.errors import LinkRefusedError
from runtime.link import Link

# The archive's word about our attestations is not what this dock signed.
CONTRADICTED: Final = "E-ATT-104"
# The archive has fewer than it once answered for.
SET_BACK: Final = "E-ATT-105"

_ANSWER: Final = "answered.dsse.json"
_LONGEST_S: Final = 600.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Letter:
    number: int
    envelope: bytes


class AttestationPost:
    """Sends what the archive has not answered for, and keeps its last answer.

    The answer is kept as it came, ``answered.dsse.json`` beside the attestations: the archive's
    signed word for how far it has them.
    """

    def __init__(
        self,
        folder: Path,
        notices: NoticeStore,
        *,
        dock: DockId,
        archive_keys: Mapping[KeyId, VerifyingKey],
        pause_s: float,
    ) -> None:
        """Send what is in *folder*; what is new there, within *pause_s*."""
        self._folder = AttestationFolder(folder)
        self._file = folder / _ANSWER
        self._notices = notices
        self._dock = dock
        self._keys = archive_keys
        self._pause_s = pause_s
        self._heard = Pulse()
        self._answer: Attested | None = None
        self._told = set[str]()

    async def run(self, link: Link) -> None:
        """Send over one connection, until cancelled.

        It begins with the newest one in any case: an archive that was set back answers that it
        has fewer, and is sent what it lacks.

        Raises:
            LinkLostError: The connection ended.
            OSError: Our disk failed.
        """
        if self._answer is None:
            self._answer = await asyncio.to_thread(read_answer, self._file.parent, self._keys)
        is_first, pause_s = True, self._pause_s
        while True:
            beats = self._heard.beats
            letter = await self._read_next(or_newest=is_first)
            if letter is None:
                await asyncio.sleep(self._pause_s)
                continue
            is_first = False
            known = self._number
            await self._send(link, letter)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    while self._number == known:
                        beats = await self._heard.beyond(beats)
            # What the archive does not take, it does not take sooner for being asked more often.
            pause_s = min(2 * pause_s, _LONGEST_S) if self._number == known else self._pause_s

    async def take(self, topic: str, untrusted: bytes) -> None:
        """Obey the archive's answer; one that is none of its own is kept, with an alert.

        Raises:
            OSError, sqlite3.Error: Our disk or journal failed; the answer has to come again.
        """
        try:
            answer = open_statement(untrusted, Statement.ATTESTED, Attested, self._keys)
        except ProtocolError as error:
            await self._keep_unhandled(topic, untrusted, error.code, str(error))
            return
        fault = await asyncio.to_thread(self._fault_of, answer)
        if fault is not None:
            await self._keep_unhandled(topic, untrusted, CONTRADICTED, fault)
            return
        before = self._answer or await asyncio.to_thread(read_answer, self._file.parent, self._keys)
        if before is not None and answer.sequence < before.sequence:
            if answer.answered_at <= before.answered_at:
                return  # it was answered before what we know, and came again
            await self._notices.raise_alert(_set_back(before, answer))
        await asyncio.to_thread(self._keep_answer, untrusted)
        self._answer = answer
        self._heard.beat()

    @property
    def _number(self) -> int:
        return 0 if self._answer is None else self._answer.sequence

    async def _send(self, link: Link, letter: _Letter) -> None:
        topic = of_dock(self._dock, Channel.ATTESTATIONS)
        try:
            await link.publish(topic, letter.envelope)
        except LinkRefusedError as error:
            _log.error("attestation not taken", number=letter.number, detail=str(error))
        else:
            _log.info("attestation sent", number=letter.number)

    async def _keep_unhandled(self, topic: str, body: bytes, code: str, detail: str) -> None:
        await self._notices.keep_unhandled(topic, body, Unhandled(code=code, detail=detail))

    async def _read_next(self, *, or_newest: bool) -> _Letter | None:
        """Return what is to be sent; one that cannot be read holds up nothing but those behind."""
        try:
            return await asyncio.to_thread(self._next, or_newest=or_newest)
        except AttestationsError as error:
            if str(error) not in self._told:
                self._told.add(str(error))
                notice = Notice(code=error.code, text=str(error), facts={})
                await self._notices.raise_alert(notice)
            return None

    def _next(self, *, or_newest: bool) -> _Letter | None:
        """Return the first that the archive has not answered for.

        Raises:
            AttestationsError: It cannot be read.
        """
        files = self._folder.files()
        waiting = [one for one in files if one[0] > self._number]
        if not waiting and not (or_newest and files):
            return None
        number, path = waiting[0] if waiting else files[-1]
        return _Letter(number=number, envelope=_read(path))

    def _fault_of(self, answer: Attested) -> str | None:
        """Return how an answer contradicts what we keep."""
        if answer.dock != self._dock:
            return f"an answer to dock {answer.dock!r}"
        digest = ZERO_DIGEST
        if answer.sequence:
            path = dict(self._folder.files()).get(answer.sequence)
            if path is None:
                return f"the archive has attestation {answer.sequence}, and this dock has not"
            try:
                digest = sha256_hex(take_apart(_read(path)).payload)
            except (ProtocolError, AttestationsError) as error:
                return f"{path.name}: {error}"
        if answer.payload_sha256 != digest:
            return f"the archive has another attestation {answer.sequence} than this dock"
        return None

    def _keep_answer(self, envelope: bytes) -> None:
        make_directories(self._file.parent)
        replace_file(self._file, envelope)


def _read(path: Path) -> bytes:
    """Return an attestation's bytes.

    Raises:
        AttestationsError: It cannot be read: footage and all else go on without it.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise AttestationsError(f"{path.name} cannot be read: {error.strerror}") from error


def read_answer(folder: Path, archive_keys: Mapping[KeyId, VerifyingKey]) -> Attested | None:
    """Return the archive's last answer; None if there is none that can be read.

    Raises:
        OSError: Our disk failed.
    """
    try:
        kept = (folder / _ANSWER).read_bytes()
        return open_statement(kept, Statement.ATTESTED, Attested, archive_keys)
    except FileNotFoundError:
        return None
    except ProtocolError as error:
        _log.warning("the archive's last answer cannot be read", detail=str(error))
        return None  # all is sent again, and answered again


def make_post(
    config: EdgeConfig,
    notices: NoticeStore,
    dock: DockId,
    archive_keys: Mapping[KeyId, VerifyingKey],
) -> AttestationPost | None:
    """Return what sends a dock's attestations; None where no guard is configured."""
    if config.guard is None:
        return None
    return AttestationPost(
        attestations_folder(config),
        notices,
        dock=dock,
        archive_keys=archive_keys,
        pause_s=config.uplink.reconcile_s,
    )


def _set_back(before: Attested, answer: Attested) -> Notice:
    text = (
        f"the archive answered for {before.sequence} attestations and has {answer.sequence} now;"
        " the others are sent again"
    )
    facts = {"had": str(before.sequence), "has": str(answer.sequence)}
    return Notice(code=SET_BACK, text=text, facts=facts)
