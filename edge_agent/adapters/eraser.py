"""Has footage erased from recorders whose receipts are all there, where the site's policy says so.

edge-mount does it, and believes nothing of what it is told here: it is given the archive's own
signed words. What it is asked for, and what came of it, stands in the journal.
"""

import asyncio
import contextlib
import json
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, Protocol

import structlog

from edge_agent.adapters.journal import Journal
from edge_agent.adapters.notice_store import Clock, unix_ms
from edge_agent.adapters.outbox_store import BYTES_GONE, RECEIPT_FORGOTTEN
from edge_agent.adapters.proof_file import write_envelope
from edge_agent.adapters.registry_book import RegistryBook
from edge_agent.mounting.errors import (
    ArchiveForgotError,
    BayBusyError,
    EraseFailedError,
    MountServiceError,
)
from edge_agent.mounting.messages import Erased, Progress, Reply
from edge_agent.ports import DockingOutcome
from protocol.identifiers import BayNumber, DockingId, ManifestId

# A recorder that left is read no further: edge-mount says so as soon as the kernel does.
_LAST_WORD_S: Final = 10.0
_AGAIN_S: Final = 2.0
# Somebody may still be writing to the recorder, for all we know.
_NOT_ANSWERED: Final = frozenset({MountServiceError.code, BayBusyError.code})

_log = structlog.get_logger(__name__)


class EraseClient(Protocol):
    """edge-mount, asked for one bay; see edge_agent.adapters.mount_client."""

    def erase(
        self, docking_id: DockingId, proof_fd: int, go_on: Callable[[Progress], bool]
    ) -> Reply:
        """Have the footage erased that a proof lets go; MountServiceError without an answer."""

    def mount(self) -> Reply:
        """Have it read-only again, and mounted; MountServiceError without an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """What came of it; *problem* is a code and a text."""

    erased: Erased
    problem: tuple[str, str] | None = None


class Eraser:
    """Erases for all bays that edge-mount looks after."""

    def __init__(
        self,
        journal: Journal,
        registry: RegistryBook,
        clients: Mapping[BayNumber, EraseClient],
        *,
        folder: Path,
        clock: Clock,
    ) -> None:
        """Take the parts.

        Args:
            journal: Has manifests and receipts, and keeps what was done.
            registry: Says what the policy is.
            clients: Of bays whose recorders can be erased.
            folder: On a disk, for a proof while it is shown.
            clock: Aware.
        """
        self._journal = journal
        self._registry = registry
        self._clients = clients
        self._folder = folder
        self._clock = clock

    def is_wanted(self, bay: BayNumber, outcome: DockingOutcome) -> bool:
        """Return whether the site wants footage erased from the recorder of a docking."""
        registry = self._registry.current
        if registry is None or outcome.recorder is None or bay not in self._clients:
            return False
        return registry.erasing.delay_of(outcome.recorder.model) is not None

    async def erase(
        self,
        bay: BayNumber,
        outcome: DockingOutcome,
        gone: asyncio.Event,
        show: Callable[[Progress], None],
    ) -> Erasure:
        """Have it done, and return what came of it; ends early when the recorder leaves.

        Args:
            bay: One that it is wanted for.
            outcome: Of a docking whose manifests all have their receipts.
            gone: Set when the recorder leaves.
            show: Called in the event loop, about once a second.

        Raises:
            OSError, sqlite3.Error: Our own disk or the journal failed.
        """
        if outcome.docking_id is None:
            raise ValueError("a docking that was not begun")
        earlier_ids = sorted(outcome.known_manifest_ids - set(outcome.manifest_ids))
        all_ids = (*outcome.manifest_ids, *earlier_ids)
        if await self._is_any_forgotten(all_ids):
            text = "the archive has lost manifests or files since it gave receipts for them"
            return Erasure(erased=Erased(), problem=(ArchiveForgotError.code, text))
        try:
            file = await asyncio.to_thread(_nameless_file, self._folder)
        except OSError as error:
            return _disk_failed(error)
        with file:
            try:
                version = await self._write_proof(file, all_ids)
            except OSError as error:
                return _disk_failed(error)
            erasure_id = await self._note_begin(outcome.docking_id, version)
            asked = partial(self._clients[bay].erase, outcome.docking_id, file.fileno())
            reply = await _until_gone(asked, gone, show)
        if reply.code in _NOT_ANSWERED:
            await self._until_read_only(bay, gone)
        problem = None if reply.code is None else (reply.code, reply.text)
        # Without an answer nobody here knows what is gone; edge-mount's own log does.
        await self._note_end(erasure_id, reply.erased, problem)
        erased = reply.erased or Erased()
        _log.info(
            "erasing ended",
            bay=bay,
            docking=outcome.docking_id,
            files=erased.files,
            size_bytes=erased.size_bytes,
            problem=problem,
        )
        return Erasure(erased=erased, problem=problem)

    async def _until_read_only(self, bay: BayNumber, gone: asyncio.Event) -> None:
        """Return when edge-mount, which gave no answer, has the recorder read-only, or it left."""
        while not gone.is_set():
            with contextlib.suppress(MountServiceError):
                reply = await asyncio.to_thread(self._clients[bay].mount)
                if reply.code not in _NOT_ANSWERED:
                    return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN_S):
                    await gone.wait()

    async def _is_any_forgotten(self, manifest_ids: tuple[ManifestId, ...]) -> bool:
        """Return whether one of the receipts is older than the archive's last loss.

        An archive that was set back to an older state asks again for what it had: whether it has
        the rest is known from receipts that it gave after that, and from no other ones.
        """
        async with self._journal.transaction() as connection:
            told = await connection.execute_fetchall(
                "SELECT json_extract(CAST(payload AS TEXT), '$.raised_at') FROM alert"
                " WHERE json_extract(CAST(payload AS TEXT), '$.code') IN (?, ?)",
                (RECEIPT_FORGOTTEN, BYTES_GONE),
            )
            lost_at_ms = max((unix_ms(datetime.fromisoformat(at)) for (at,) in told), default=-1)
            rows = await connection.execute_fetchall(
                "SELECT count(*) FROM manifest JOIN json_each(?) ON value = manifest_id"
                " WHERE receipted_at_ms <= ? OR EXISTS (SELECT 1 FROM file"
                "  WHERE file.manifest_id = manifest.manifest_id AND file.state = 'claimed')",
                (json.dumps(manifest_ids), lost_at_ms),
            )
        return any(count for (count,) in rows)

    async def _write_proof(self, file: BinaryIO, manifest_ids: tuple[ManifestId, ...]) -> int:
        """Write the registry, and manifests with their receipts; return the registry's version."""
        async with self._journal.transaction() as connection:
            rows = await connection.execute_fetchall("SELECT version, envelope FROM registry")
        [(version, envelope)] = rows
        await asyncio.to_thread(write_envelope, file, envelope)
        for manifest_id in manifest_ids:
            # One at a time: all of them may be more than memory.
            async with self._journal.transaction() as connection:
                rows = await connection.execute_fetchall(
                    "SELECT envelope, receipt FROM manifest WHERE manifest_id = ?"
                    " AND state = 'receipted'",
                    (manifest_id,),
                )
            for envelope, receipt in rows:
                await asyncio.to_thread(write_envelope, file, envelope)
                await asyncio.to_thread(write_envelope, file, receipt)
        await asyncio.to_thread(file.flush)
        return int(version)

    async def _note_begin(self, docking_id: DockingId, registry_version: int) -> int:
        async with self._journal.transaction() as connection:
            rows = await connection.execute_fetchall(
                "INSERT INTO erasure (docking_id, registry_version, asked_at_ms)"
                " VALUES (?, ?, ?) RETURNING erasure_id",
                (docking_id, registry_version, unix_ms(self._clock())),
            )
        return next(int(erasure_id) for (erasure_id,) in rows)

    async def _note_end(
        self, erasure_id: int, erased: Erased | None, problem: tuple[str, str] | None
    ) -> None:
        code, text = problem or (None, None)
        async with self._journal.transaction() as connection:
            await connection.execute(
                "UPDATE erasure SET ended_at_ms = ?, files = ?, size_bytes = ?, code = ?,"
                " detail = ? WHERE erasure_id = ?",
                (
                    unix_ms(self._clock()),
                    None if erased is None else erased.files,
                    None if erased is None else erased.size_bytes,
                    code,
                    text,
                    erasure_id,
                ),
            )


def _disk_failed(error: OSError) -> Erasure:
    text = f"the dock's own disk: {error.strerror}"
    return Erasure(erased=Erased(), problem=(EraseFailedError.code, text))


def _nameless_file(folder: Path) -> BinaryIO:
    return tempfile.TemporaryFile(dir=folder)


async def _until_gone(
    asked: Callable[[Callable[[Progress], bool]], Reply],
    gone: asyncio.Event,
    show: Callable[[Progress], None],
) -> Reply:
    """Ask in a thread, and return the answer; soon after the recorder left, whatever comes."""
    loop, stop = asyncio.get_running_loop(), threading.Event()

    def go_on(progress: Progress) -> bool:
        loop.call_soon_threadsafe(show, progress)
        return not stop.is_set()

    def ask() -> Reply:
        try:
            return asked(go_on)
        except MountServiceError as error:
            return Reply(code=error.code, text=str(error))

    leaving = asyncio.create_task(gone.wait())
    asking = asyncio.create_task(asyncio.to_thread(ask))
    try:
        await asyncio.wait({asking, leaving}, return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        await asyncio.wait({asking}, timeout=_LAST_WORD_S)
    finally:
        stop.set()
        leaving.cancel()
    if asking.done():
        return asking.result()
    return Reply(code=MountServiceError.code, text="the recorder left while it was being erased")
