"""Manifests until their receipts, in the journal.

Each effect of an answer is one transaction. Reading takes the same lock as writing: what another
task has written but not committed must never leave the dock.
"""

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from edge_agent.adapters.journal import Journal
from edge_agent.adapters.log_memory import LogMemory
from edge_agent.adapters.notice_store import Clock, Notice, NoticeStore, count, unix_ms
from edge_agent.ingest.files import FileId
from edge_agent.outbox.answers import (
    Admitted,
    Answer,
    Contradiction,
    Decision,
    KnownManifest,
    Receipted,
    Refused,
    Unhandled,
    Unproved,
    Verdict,
    Waiting,
    decide,
    event_of,
    read_answer,
    split_logged,
    stray,
)
from edge_agent.outbox.machine import ManifestState, advance
from edge_agent.outbox.registry_update import NewRegistry, judge_registry, read_registry
from edge_agent.outbox.watching import Memory, Shown, verify_shown
from protocol.digest import sha256_hex
from protocol.errors import ProtocolError
from protocol.identifiers import BayNumber, DockId, DockingId, ManifestId
from protocol.keys import KeyId, VerifyingKey
from protocol.log_proofs import LoggedReceipt
from protocol.receipt import MissingFile, Receipt
from protocol.registry import Registry

# The archive asks for bytes of which this dock has no staged copy any more.
BYTES_GONE: Final = "E-OUT-104"

_ALL: Final = (1 << 63) - 1  # above every number of a manifest

# The archive asks for a manifest that it gave a receipt for: it was set back to an older state.
RECEIPT_FORGOTTEN: Final = "E-OUT-109"

# What the archive asked for again after its receipt is claimed again until the next one.
_UNANSWERED: Final = (
    "(state <> 'receipted' OR EXISTS (SELECT 1 FROM file"
    " WHERE file.manifest_id = manifest.manifest_id AND file.state = 'claimed'))"
)
_MANIFEST: Final = "SELECT manifest_id, sequence, payload_sha256, state, envelope FROM manifest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A staged file whose bytes the archive asked for."""

    manifest_id: ManifestId
    sequence: int
    docking_id: DockingId
    sha256: str
    size_bytes: int
    file_id: FileId


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptedDocking:
    """A docking of which every manifest now has its receipt."""

    docking_id: DockingId
    bay: BayNumber


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What was committed because of an answer, and what is to be done now.

    Attributes:
        publish_from: From this number on the archive has forgotten what it had.
    """

    decision: Decision
    uploads: tuple[Upload, ...] = ()
    docking: ReceiptedDocking | None = None
    publish_from: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxCounts:
    """How much waits: manifests without an answer or a receipt, refused ones, held files."""

    pending: int
    refused: int
    held_files: int


class OutboxStore:
    """The outbox of one dock.

    Attributes:
        log: What the dock remembers of the archive's custody log.
    """

    def __init__(
        self,
        journal: Journal,
        notices: NoticeStore,
        *,
        dock: DockId,
        archive_keys: Mapping[KeyId, VerifyingKey],
        clock: Clock,
    ) -> None:
        self._journal = journal
        self.log = LogMemory(journal, notices, dock=dock, clock=clock)
        self._notices = notices
        self._dock = dock
        self._archive_keys = archive_keys
        self._clock = clock

    async def next_unreceipted(
        self, *, after: int, all_from: int | None = None
    ) -> KnownManifest | None:
        """Return the first manifest above sequence *after* that has no receipt.

        One at a time: a dock that was offline for weeks may have more of them than memory.

        Args:
            after: What was returned last.
            all_from: From this number on, those with a receipt, too.
        """
        condition = f"({_UNANSWERED} OR sequence >= ?) AND sequence > ? ORDER BY sequence LIMIT 1"
        async with self._journal.transaction():
            return await self._known(condition, _ALL if all_from is None else all_from, after)

    async def take_answer(self, topic: str, untrusted: bytes) -> Effect:
        """Commit what follows from a message on the receipts topic, in one transaction.

        The same message again has the same effect once; after a crash in between, it is complete
        or did not happen.
        """
        envelope, logged = await asyncio.to_thread(split_logged, untrusted)
        answer = await asyncio.to_thread(
            read_answer, envelope, dock=self._dock, archive_keys=self._archive_keys
        )
        answer, shown = await asyncio.to_thread(self._with_proof, answer, logged)
        looked: tuple[Memory, bool] | None = None
        async with self._journal.transaction():
            if isinstance(answer, Unhandled):
                return await self._keep(topic, untrusted, answer)
            known = await self._find(answer)
            if known is None:
                return await self._keep(topic, untrusted, stray(answer))
            decision = await asyncio.to_thread(decide, answer, known)
            if isinstance(decision, Unhandled):
                return await self._keep(topic, untrusted, decision)
            if shown is not None:
                looked = await self.log.take(shown)
            if looked is None or looked[1]:
                effect = await self._commit(decision, known, envelope, shown)
            else:
                effect = Effect(decision=Unproved(manifest_id=known.manifest_id))
        if looked is not None:
            memory, counts = looked
            self.log.become(memory, counts=counts)
        return effect

    def _with_proof(
        self, answer: Answer | Unhandled, logged: LoggedReceipt | None
    ) -> tuple[Answer | Unhandled, Shown | None]:
        """Return a receipt with what shows that it is in the log, or why it cannot be believed."""
        if not isinstance(answer, Receipt):
            return answer, None
        problem = "without a proof that it is logged"
        if logged is not None:
            try:
                return answer, verify_shown(logged, answer, self._archive_keys.values())
            except ProtocolError as error:
                problem = f"{error.code}: {error}"
        detail = f"receipt {answer.receipt_id}: {problem}"
        return Unhandled(code=Contradiction.NOT_LOGGED.value, detail=detail), None

    async def counts(self) -> OutboxCounts:
        """Return how much waits in the outbox."""
        connection = self._journal.connection
        async with self._journal.transaction():
            return OutboxCounts(
                pending=await count(
                    connection,
                    "SELECT count(*) FROM manifest WHERE state IN ('pending', 'admitted')",
                ),
                refused=await count(
                    connection, "SELECT count(*) FROM manifest WHERE state = 'refused'"
                ),
                held_files=await count(
                    connection,
                    "SELECT count(*) FROM file JOIN docking USING (docking_id)"
                    " WHERE docking.state <> 'open' AND (file.state = 'staged'"
                    "  OR file.lost AND file.verified_bytes)",
                ),
            )

    async def promised_bytes(self, docking_id: DockingId) -> int:
        """Return how many bytes the manifests of a docking promise, each content counted once."""
        async with self._journal.transaction() as connection:
            return await count(
                connection,
                "SELECT coalesce(sum(size_bytes), 0) FROM file JOIN manifest USING (manifest_id)"
                " WHERE manifest.docking_id = ? AND same_as IS NULL",
                docking_id,
            )

    async def are_receipted(self, manifest_ids: Iterable[ManifestId]) -> bool:
        """Return whether every one of these manifests has its verified receipt."""
        wanted = json.dumps(sorted(set(manifest_ids)))
        async with self._journal.transaction() as connection:
            missing = await count(
                connection,
                "SELECT count(*) FROM json_each(?) WHERE value NOT IN"
                " (SELECT manifest_id FROM manifest WHERE state = 'receipted')",
                wanted,
            )
        return missing == 0

    async def freeable_files(self, *, limit: int) -> tuple[FileId, ...]:
        """Return ids of staged copies that nobody needs any more.

        A copy stays while another file's row leans on it and is not archived itself: the archive
        may still ask for the bytes under that file's manifest.
        """
        async with self._journal.transaction():
            rows = await self._journal.connection.execute_fetchall(
                "SELECT file_id FROM file WHERE state = 'archived' AND NOT EXISTS ("
                "  SELECT 1 FROM file AS leaning WHERE leaning.same_as = file.file_id"
                "  AND leaning.state NOT IN ('archived', 'freed')"
                ") LIMIT ?",
                (limit,),
            )
        return tuple(FileId(file_id) for (file_id,) in rows)

    async def mark_freed(self, file_id: FileId) -> None:
        """Note that a staged copy is gone; after the copy was removed, never before."""
        async with self._journal.transaction():
            await self._journal.connection.execute(
                "UPDATE file SET state = 'freed' WHERE file_id = ? AND state = 'archived'",
                (file_id,),
            )

    async def registry(self) -> Registry | None:
        """Return the newest registry that the archive signed; None before the first."""
        envelope = await self._registry_envelope()
        return None if envelope is None else read_registry(envelope)

    async def take_registry(self, topic: str, untrusted: bytes) -> Registry | None:
        """Commit what follows from a message on the registry topic.

        Returns:
            The registry, if it replaces what was known.
        """
        known = await self._registry_envelope()
        judged = await asyncio.to_thread(
            judge_registry, untrusted, archive_keys=self._archive_keys, known_envelope=known
        )
        if isinstance(judged, Unhandled):
            await self._notices.keep_unhandled(topic, untrusted, judged)
        if not isinstance(judged, NewRegistry):
            return None
        async with self._journal.transaction():
            await self._journal.connection.execute(
                "INSERT INTO registry (only, version, envelope) VALUES (1, ?, ?) ON CONFLICT (only)"
                " DO UPDATE SET version = excluded.version, envelope = excluded.envelope"
                " WHERE excluded.version > registry.version",
                (judged.registry.version, untrusted),
            )
        return judged.registry

    async def _registry_envelope(self) -> bytes | None:
        async with (
            self._journal.transaction(),
            self._journal.connection.execute("SELECT envelope FROM registry") as cursor,
        ):
            row = await cursor.fetchone()
        return None if row is None else bytes(row[0])

    async def _keep(self, topic: str, untrusted: bytes, problem: Unhandled) -> Effect:
        await self._notices.insert_unhandled(topic, untrusted, problem)
        return Effect(decision=problem)

    async def _commit(
        self, verdict: Verdict, known: KnownManifest, envelope: bytes, shown: Shown | None
    ) -> Effect:
        state = advance(known.state, event_of(verdict))
        if isinstance(verdict, Refused):
            await self._note_refusal(verdict, known)
        if state is not known.state:
            await self._journal.connection.execute(
                "UPDATE manifest SET state = ? WHERE manifest_id = ?",
                (state.value, known.manifest_id),
            )
        if isinstance(verdict, Waiting):
            return Effect(decision=verdict, publish_from=await self._forgotten(verdict, known))
        if isinstance(verdict, Admitted):
            return Effect(decision=verdict, uploads=await self._uploads(known, verdict.missing))
        if isinstance(verdict, Receipted):
            await self._note_archived(known)
        if isinstance(verdict, Receipted):
            await self._keep_receipt(known, envelope, shown)
        if isinstance(verdict, Receipted) and known.state is not ManifestState.RECEIPTED:
            return Effect(decision=verdict, docking=await self._note_receipt(known))
        return Effect(decision=verdict)

    async def _note_refusal(self, refused: Refused, known: KnownManifest) -> None:
        """Keep why; a refusal for the same reason as before raises no second alert."""
        repeated = await count(
            self._journal.connection,
            "SELECT count(*) FROM manifest WHERE manifest_id = ? AND state = 'refused'"
            " AND refusal_code = ?",
            known.manifest_id,
            refused.code.value,
        )
        await self._journal.connection.execute(
            "UPDATE manifest SET refusal_code = ?, refusal_detail = ? WHERE manifest_id = ?",
            (refused.code.value, refused.detail, known.manifest_id),
        )
        if not repeated:
            await self._notices.insert_alert(
                Notice(
                    code=refused.code.value,
                    text=f"the archive refused manifest {known.sequence}: {refused.detail}",
                    facts={"manifest": known.manifest_id, "sequence": str(known.sequence)},
                )
            )

    async def _forgotten(self, waiting: Waiting, known: KnownManifest) -> int | None:
        """Return the number that the archive waits for, if it had that one before: an incident."""
        wanted = waiting.expected_sequence
        receipted = await count(
            self._journal.connection,
            "SELECT count(*) FROM manifest WHERE sequence = ? AND state = 'receipted'",
            wanted,
        )
        if not receipted or wanted > known.sequence:
            return None
        await self._alert_once(
            RECEIPT_FORGOTTEN,
            f"the archive has forgotten manifests from {wanted} on; they are published again",
            ("sequence", str(wanted)),
        )
        return wanted

    async def _note_archived(self, known: KnownManifest) -> None:
        await self._journal.connection.execute(
            "UPDATE file SET state = 'archived' WHERE manifest_id = ? AND state = 'claimed'",
            (known.manifest_id,),
        )

    async def _keep_receipt(
        self, known: KnownManifest, envelope: bytes, shown: Shown | None
    ) -> None:
        """Keep the newest one: an archive that lost something gives another when it is whole."""
        await self._journal.connection.execute(
            "UPDATE manifest SET receipt = ?, receipted_at_ms = ? WHERE manifest_id = ?",
            (envelope, unix_ms(self._clock()), known.manifest_id),
        )
        if shown is not None:
            await self._journal.connection.execute(
                "INSERT OR REPLACE INTO receipt_proof (sequence, inclusion) VALUES (?, ?)",
                (known.sequence, shown.inclusion),
            )

    async def _note_receipt(self, known: KnownManifest) -> ReceiptedDocking | None:
        connection = self._journal.connection
        rows = await connection.execute_fetchall(
            "UPDATE docking SET state = 'receipted' WHERE state = 'sealed' AND docking_id ="
            " (SELECT docking_id FROM manifest WHERE manifest_id = ?) AND NOT EXISTS ("
            "  SELECT 1 FROM manifest WHERE manifest.docking_id = docking.docking_id"
            "  AND manifest.state <> 'receipted'"
            ") RETURNING docking_id, bay",
            (known.manifest_id,),
        )
        for docking_id, bay in rows:
            return ReceiptedDocking(docking_id=DockingId(docking_id), bay=BayNumber(bay))
        return None

    async def _uploads(
        self, known: KnownManifest, missing: tuple[MissingFile, ...]
    ) -> tuple[Upload, ...]:
        found: list[Upload] = []
        for file in missing:
            # After a receipt, too: what the archive has lost must not be freed here.
            await self._journal.connection.execute(
                "UPDATE file SET state = 'claimed'"
                " WHERE manifest_id = ? AND sha256 = ? AND state = 'archived'",
                (known.manifest_id, file.sha256),
            )
            upload = await self._staged_copy(known, file)
            if upload is None:
                await self._note_bytes_gone(known, file)
            else:
                found.append(upload)
        return tuple(found)

    async def _staged_copy(self, known: KnownManifest, file: MissingFile) -> Upload | None:
        # The manifest's own row may be a second name of another row's content.
        query = (
            "SELECT holder.file_id, manifest.docking_id FROM file AS claimed"
            " JOIN manifest ON manifest.manifest_id = claimed.manifest_id"
            " JOIN file AS holder ON holder.file_id = coalesce(claimed.same_as, claimed.file_id)"
            " WHERE claimed.manifest_id = ? AND claimed.sha256 = ? AND claimed.size_bytes = ?"
            " AND holder.state IN ('staged', 'claimed', 'archived')"
            " ORDER BY claimed.same_as IS NOT NULL LIMIT 1"
        )
        values = (known.manifest_id, file.sha256, file.size_bytes)
        async with self._journal.connection.execute(query, values) as cursor:
            row = await cursor.fetchone()
        if row is None:
            return None
        return Upload(
            manifest_id=known.manifest_id,
            sequence=known.sequence,
            docking_id=DockingId(row[1]),
            sha256=file.sha256,
            size_bytes=file.size_bytes,
            file_id=FileId(row[0]),
        )

    async def _note_bytes_gone(self, known: KnownManifest, file: MissingFile) -> None:
        detail = f"manifest {known.sequence}: no staged copy of {file.sha256} is left"
        await self._alert_once(
            BYTES_GONE,
            f"the archive asks for a file that is gone: {detail}",
            ("sha256", file.sha256),
        )

    async def _alert_once(self, code: str, text: str, fact: tuple[str, str]) -> None:
        """Raise an alert, unless one of that code with that fact was raised before."""
        name, value = fact
        repeated = await count(
            self._journal.connection,
            "SELECT count(*) FROM alert WHERE json_extract(CAST(payload AS TEXT), '$.code') = ?"
            " AND json_extract(CAST(payload AS TEXT), '$.facts.' || ?) = ?",
            code,
            name,
            value,
        )
        if not repeated:
            await self._notices.insert_alert(Notice(code=code, text=text, facts={name: value}))

    async def _find(self, answer: Answer) -> KnownManifest | None:
        if answer.manifest_id is not None:
            return await self._known("manifest_id = ?", answer.manifest_id)
        return await self._find_by_envelope(answer.message_sha256)

    async def _find_by_envelope(self, message_sha256: str) -> KnownManifest | None:
        """Only manifests without a receipt can be refused, and there are few of them."""
        after = 0
        while known := await self._known(
            "state <> 'receipted' AND sequence > ? ORDER BY sequence LIMIT 1", after
        ):
            if await asyncio.to_thread(sha256_hex, known.envelope) == message_sha256:
                return known
            after = known.sequence
        return None

    async def _known(self, condition: str, *values: str | int) -> KnownManifest | None:
        """Read one manifest; *condition* is one of this module's own sentences."""
        query = f"{_MANIFEST} WHERE {condition}"
        async with self._journal.connection.execute(query, values) as cursor:
            row = await cursor.fetchone()
        if row is None:
            return None
        manifest_id, sequence, payload_sha256, state, envelope = row
        return KnownManifest(
            manifest_id=ManifestId(manifest_id),
            sequence=int(sequence),
            payload_sha256=str(payload_sha256),
            state=ManifestState(state),
            envelope=bytes(envelope),
        )
