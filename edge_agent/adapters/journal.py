"""The dock's journal: one SQLite database, one connection, one writer.

What a transaction has committed survives a power cut (WAL, synchronous=FULL). Errors of the
database itself are passed on as they are.
"""

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Final

import aiosqlite

from edge_agent.adapters.journal_files import ROWS_AT_ONCE, find_files
from edge_agent.errors import JournalContradictionError, JournalVersionError, RecorderBusyError
from edge_agent.ingest.files import Device, FileId, FileKey, FileRow
from edge_agent.ingest.told import Told
from edge_agent.manifest.sealing import SealedManifest
from edge_agent.ports import NewCopy, OpenDocking, StagedCopy
from protocol import strict_json
from protocol.chain import GENESIS, ChainHead
from protocol.digest import Digests
from protocol.identifiers import BayNumber, DockingId, ManifestId, OfficerId
from protocol.manifest import ByteRange, EvidenceLevel, RecorderFacts

VERSION: Final = 6
_SCHEMA: Final = Path(__file__).with_name("journal_schema.sql")
_BUSY_TIMEOUT_MS: Final = 30_000
_MAX_FACTS_BYTES: Final = 64 * 1024


class Journal:
    """The open journal; made by `Journal.open`."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self.connection = connection
        self._lock = asyncio.Lock()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator["Journal"]:
        """Open the journal, and create or migrate it first if need be.

        Args:
            path: The database; its folder exists.

        Raises:
            JournalVersionError: A newer release wrote it.
            sqlite3.Error: The database failed.
        """
        async with aiosqlite.connect(path, isolation_level=None) as connection:
            connection.row_factory = sqlite3.Row
            for setting in (
                f"busy_timeout = {_BUSY_TIMEOUT_MS}",
                "journal_mode = WAL",
                "synchronous = FULL",
                "foreign_keys = ON",
            ):
                await connection.execute_fetchall(f"PRAGMA {setting}")
            await _empty_log(connection)
            await _migrate(connection, path)
            yield cls(connection)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        """Hold the only transaction: committed at the end of the block, undone if that raises.

        Not reentrant. A cancelled commit either happened or did not.
        """
        async with self._lock:
            try:
                await self.connection.execute("BEGIN IMMEDIATE")
                yield self.connection
                await self.connection.commit()
            except BaseException:
                await self.connection.rollback()
                raise

    async def open_docking(self, docking: OpenDocking) -> None:
        """Note that a recorder is being read.

        Raises:
            RecorderBusyError: An open docking of this recorder is there already.
        """
        async with self.transaction() as connection:
            rows = await connection.execute_fetchall(
                "SELECT bay FROM docking WHERE model = ? AND serial = ? AND state = 'open'",
                (docking.recorder.model, docking.recorder.serial),
            )
            for (bay,) in rows:
                raise RecorderBusyError(f"{docking.recorder.recorder_id} is open in bay {bay}")
            await connection.execute(
                "INSERT INTO docking (docking_id, bay, model, serial, officer, facts,"
                " docked_at_ms, state) VALUES (?, ?, ?, ?, ?, ?, ?, 'open')",
                (
                    docking.docking_id,
                    docking.bay,
                    docking.recorder.model,
                    docking.recorder.serial,
                    docking.officer,
                    strict_json.encode(docking.recorder),
                    docking.docked_at_ms,
                ),
            )
            if docking.told is not None:
                await connection.execute(
                    "INSERT INTO talk VALUES (?, ?)",
                    (docking.docking_id, strict_json.encode(docking.told)),
                )
                await connection.execute(
                    "DELETE FROM recorder_clock WHERE serial = ?", (docking.told.serial,)
                )

    async def open_dockings(self) -> tuple[OpenDocking, ...]:
        """Return the dockings that were begun and not sealed, oldest first."""
        async with self.transaction() as connection:
            rows = await connection.execute_fetchall(
                "SELECT docking_id, bay, officer, facts, docked_at_ms, told FROM docking"
                " LEFT JOIN talk USING (docking_id)"
                " WHERE state = 'open' ORDER BY docked_at_ms, docking_id"
            )
        return tuple(
            OpenDocking(
                docking_id=DockingId(docking_id),
                bay=BayNumber(bay),
                recorder=strict_json.parse(facts, RecorderFacts, max_bytes=_MAX_FACTS_BYTES),
                officer=None if officer is None else OfficerId(officer),
                docked_at_ms=docked_at_ms,
                told=None
                if told is None
                else strict_json.parse(told, Told, max_bytes=_MAX_FACTS_BYTES),
            )
            for docking_id, bay, officer, facts, docked_at_ms, told in rows
        )

    async def known_files(self, device: Device) -> tuple[FileRow, ...]:
        """Return every file of a recorder that was ever begun: 1.5 KiB of memory each."""
        return await self._files(device, "")

    async def unclaimed_keys(self, device: Device) -> tuple[FileKey, ...]:
        """Return which files of a recorder were begun and are claimed by no manifest yet."""
        async with self.transaction() as connection:
            rows = await connection.execute_fetchall(
                "SELECT path, size_bytes, mtime_ns, generation FROM file"
                " WHERE model = ? AND serial = ? AND state IN ('copying', 'staged')",
                (device.model, device.serial),
            )
        return tuple(
            FileKey(path=path, size_bytes=size_bytes, mtime_ns=mtime_ns, generation=generation)
            for path, size_bytes, mtime_ns, generation in rows
        )

    async def files_at(self, device: Device, paths: Collection[bytes]) -> tuple[FileRow, ...]:
        """Return what was ever begun of a recorder's files at some paths."""
        found: list[FileRow] = []
        wanted = sorted(paths)
        for first in range(0, len(wanted), ROWS_AT_ONCE):
            some = wanted[first : first + ROWS_AT_ONCE]
            marks = ", ".join("?" * len(some))
            found += await self._files(device, f"AND path IN ({marks})", *some)
        return tuple(found)

    async def files_of(self, device: Device, sha256s: Collection[str]) -> tuple[FileRow, ...]:
        """Return the files of a recorder that have one of some contents."""
        if not sha256s:
            return ()
        contents = json.dumps(sorted(sha256s))
        return await self._files(device, "AND sha256 IN (SELECT value FROM json_each(?))", contents)

    async def _files(self, device: Device, which: str, *values: object) -> tuple[FileRow, ...]:
        async with self.transaction() as connection:
            return await find_files(connection, device, which, *values)

    async def find_content(self, device: Device, sha256: str) -> FileRow | None:
        """Return the file of a recorder that stands for a content, if we have or had it."""
        rows = await self._files(
            device, "AND sha256 = ? AND same_as IS NULL AND state <> 'copying'", sha256
        )
        return next(iter(rows), None)

    async def known_contents(self, device: Device, sha256s: Collection[str]) -> frozenset[str]:
        """Return which contents of a recorder a file stands for already."""
        async with self.transaction() as connection:
            rows = await connection.execute_fetchall(
                "SELECT sha256 FROM file WHERE model = ? AND serial = ? AND same_as IS NULL"
                " AND state <> 'copying' AND sha256 IN (SELECT value FROM json_each(?))",
                (device.model, device.serial, json.dumps(sorted(sha256s))),
            )
        return frozenset(sha256 for (sha256,) in rows)

    async def begin_copies(
        self, docking_id: DockingId, device: Device, copies: Sequence[NewCopy]
    ) -> None:
        """Note all files that a docking is going to read, before the first one is."""
        async with self.transaction() as connection:
            await connection.executemany(
                "INSERT INTO file (file_id, model, serial, docking_id, path, size_bytes, mtime_ns,"
                " generation, state, marked) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'copying', ?)",
                [
                    (
                        copy.file_id,
                        device.model,
                        device.serial,
                        docking_id,
                        copy.key.path,
                        copy.key.size_bytes,
                        copy.key.mtime_ns,
                        copy.key.generation,
                        copy.marked,
                    )
                    for copy in copies
                ],
            )

    async def checkpoint(
        self, file_id: FileId, *, verified_bytes: int, prefix_sha256: str | None
    ) -> None:
        """Note how much of a copy is durable; 0 and None when it starts anew."""
        await self._change(
            "UPDATE file SET verified_bytes = ?, prefix_sha256 = ?"
            " WHERE file_id = ? AND state = 'copying'",
            (verified_bytes, prefix_sha256, file_id),
        )

    async def salvaged(self, file_id: FileId, ranges: Sequence[ByteRange]) -> None:
        """Note all that is durable of an unfinished file beyond what could not be read."""
        async with self.transaction() as connection:
            await connection.execute("DELETE FROM salvaged_range WHERE file_id = ?", (file_id,))
            await connection.executemany(
                "INSERT INTO salvaged_range (file_id, offset_bytes, size_bytes, sha256)"
                " SELECT file_id, ?, ?, ? FROM file WHERE file_id = ? AND state = 'copying'",
                [(one.offset_bytes, one.size_bytes, one.sha256, file_id) for one in ranges],
            )

    async def salvaged_files(self) -> frozenset[FileId]:
        """Return the unfinished files of which parts are held beyond what could not be read."""
        async with self.transaction() as connection:
            rows = await connection.execute_fetchall("SELECT file_id FROM salvaged_range")
        return frozenset(FileId(file_id) for (file_id,) in rows)

    async def staged(
        self, file_id: FileId, *, digests: Digests, evidence: EvidenceLevel, fingerprint: str
    ) -> None:
        """Note that a copy is sealed in staging."""
        await self.staged_together(
            [
                StagedCopy(
                    file_id=file_id, digests=digests, evidence=evidence, fingerprint=fingerprint
                )
            ]
        )

    async def staged_together(self, copies: Sequence[StagedCopy]) -> None:
        """Note that copies are sealed in staging, all or none.

        Raises:
            JournalContradictionError: One of them is not being copied.
        """
        async with self.transaction() as connection:
            changed = await connection.executemany(
                "UPDATE file SET state = 'staged', verified_bytes = size_bytes,"
                " prefix_sha256 = NULL, sha256 = ?, sm3 = ?, evidence = ?, fingerprint = ?,"
                " lost = 0 WHERE file_id = ? AND state = 'copying'",
                [
                    (
                        copy.digests.sha256,
                        copy.digests.sm3,
                        copy.evidence.value,
                        copy.fingerprint,
                        copy.file_id,
                    )
                    for copy in copies
                ],
            )
            if changed.rowcount != len(copies):
                raise JournalContradictionError(f"not being copied: {copies!r:.1000}")

    async def duplicate(self, file_id: FileId, *, same_as: FileId) -> None:
        """Note that a file's content is another file's, claimed by the same manifest if it is."""
        await self._change(
            "UPDATE file SET verified_bytes = size_bytes, prefix_sha256 = NULL, same_as = ?,"
            " lost = 0, (state, sha256, sm3, evidence, fingerprint, manifest_id) = (SELECT state,"
            "  sha256, sm3, evidence, fingerprint, manifest_id FROM file WHERE file_id = ?)"
            " WHERE file_id = ? AND state = 'copying' AND EXISTS (SELECT 1 FROM file"
            "  AS content WHERE content.file_id = ? AND content.same_as IS NULL"
            "  AND content.state <> 'copying' AND content.model = file.model"
            "  AND content.serial = file.serial)",
            (same_as, same_as, file_id, same_as),
        )

    async def drop_copies(self, file_ids: Iterable[FileId]) -> None:
        """Forget copies that were begun and will not be finished."""
        async with self.transaction() as connection:
            await connection.executemany(
                "DELETE FROM file WHERE file_id = ? AND state = 'copying'",
                [(file_id,) for file_id in file_ids],
            )

    async def staging_files(self) -> frozenset[FileId]:
        """Return the ids of all files that may have bytes in staging."""
        async with self.transaction() as connection:
            rows = await connection.execute_fetchall(
                "SELECT file_id FROM file WHERE state <> 'freed' AND same_as IS NULL"
            )
        return frozenset(FileId(file_id) for (file_id,) in rows)

    async def held_count(self) -> int:
        """Return how many files have bytes here that no manifest claims, their docking ended.

        They are staged, or as much as there is of files that their recorder has lost.
        """
        async with self.transaction() as connection:
            rows = await connection.execute_fetchall(
                "SELECT count(*) FROM file JOIN docking USING (docking_id)"
                " WHERE docking.state <> 'open' AND (file.state = 'staged'"
                "  OR file.lost AND (file.verified_bytes"
                "   OR file_id IN (SELECT file_id FROM salvaged_range)))"
            )
        return next(int(count) for (count,) in rows)

    async def seal(
        self,
        docking_id: DockingId,
        build: Callable[[ChainHead, int], Iterable[SealedManifest]],
        *,
        ended_at_ms: int | None,
        lost: Sequence[FileId] = (),
    ) -> tuple[ManifestId, ...]:
        """Put manifests of a docking into the outbox and claim their files, all or nothing.

        Args:
            docking_id: An open one.
            build: Pure; called with the head of the chain and the number of the docking's next
                part, and asked in a thread for one manifest after the other.
            ended_at_ms: When the recorder was done with, Unix time; None if it is not, and the
                docking stays open.
            lost: Unfinished files that the manifests say are gone from the recorder.

        Raises:
            JournalContradictionError: The docking is not open, or a file is not staged.
        """
        async with self.transaction() as connection:
            sealed: list[ManifestId] = []
            manifests = iter(
                build(await _head(connection), await _next_part(connection, docking_id))
            )
            while (one := await asyncio.to_thread(next, manifests, None)) is not None:
                await _insert_manifest(connection, one)
                sealed.append(one.manifest.manifest_id)
            await connection.executemany(
                "UPDATE file SET lost = 1 WHERE file_id = ? AND state = 'copying'",
                [(file_id,) for file_id in lost],
            )
            ended = await connection.execute(
                "UPDATE docking SET state = CASE WHEN ?1 IS NULL THEN state ELSE 'sealed' END,"
                " ended_at_ms = ?1 WHERE docking_id = ?2 AND state = 'open'",
                (ended_at_ms, docking_id),
            )
            if ended.rowcount != 1:
                raise JournalContradictionError(f"docking {docking_id} is not open")
        return tuple(sealed)

    async def _change(self, statement: str, values: Sequence[object]) -> None:
        async with self.transaction() as connection:
            changed = await connection.execute(statement, values)
            if changed.rowcount != 1:
                raise JournalContradictionError(f"no such row: {values!r}")


async def _insert_manifest(connection: aiosqlite.Connection, sealed: SealedManifest) -> None:
    manifest = sealed.manifest
    await connection.execute(
        "INSERT INTO manifest (sequence, manifest_id, docking_id, payload_sha256, envelope, state,"
        " sealed_at_ms) VALUES (?, ?, ?, ?, ?, 'pending', ?)",
        (
            manifest.sequence,
            manifest.manifest_id,
            manifest.docking_id,
            sealed.payload_sha256,
            sealed.envelope,
            int(manifest.sealed_at.timestamp() * 1000),
        ),
    )
    claimed = await connection.executemany(
        "UPDATE file SET state = 'claimed', manifest_id = ? WHERE file_id = ? AND state = 'staged'",
        [(manifest.manifest_id, file_id) for file_id in sealed.claims],
    )
    if sealed.claims and claimed.rowcount != len(sealed.claims):
        raise JournalContradictionError(f"{manifest.manifest_id} claims a file that is not staged")


async def _head(connection: aiosqlite.Connection) -> ChainHead:
    rows = await connection.execute_fetchall(
        "SELECT sequence, payload_sha256 FROM manifest ORDER BY sequence DESC LIMIT 1"
    )
    for sequence, payload_sha256 in rows:
        return ChainHead(sequence=sequence, payload_sha256=payload_sha256)
    return GENESIS


async def _next_part(connection: aiosqlite.Connection, docking_id: DockingId) -> int:
    rows = await connection.execute_fetchall(
        "SELECT count(*) FROM manifest WHERE docking_id = ?", (docking_id,)
    )
    return next(int(count) for (count,) in rows) + 1


async def _empty_log(connection: aiosqlite.Connection) -> None:
    """Bring what the write-ahead log holds into the database itself, durably.

    After a failed sync the log's pages count as clean and may never reach the disk; a program that
    starts then still reads them, and what it commits behind them would be lost with them.
    """
    try:
        [(busy, _, _)] = await connection.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.OperationalError as error:
        # What makes room needs the journal; the next start tries again.
        if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
            raise
    else:
        if busy:
            raise sqlite3.OperationalError("somebody else holds the journal's write-ahead log")


async def _migrate(connection: aiosqlite.Connection, path: Path) -> None:
    rows = await connection.execute_fetchall("PRAGMA user_version")
    version = next(int(found) for (found,) in rows)
    if version > VERSION:
        raise JournalVersionError(f"{path}: version {version}; this release reads up to {VERSION}")
    if version == 0:
        await _run_step(connection, _SCHEMA, VERSION)
        return
    for following in range(version + 1, VERSION + 1):
        step = _SCHEMA.with_name(f"journal_version_{following}.sql")
        await _run_step(connection, step, following)


async def _run_step(connection: aiosqlite.Connection, script: Path, version: int) -> None:
    """Run a script and note the version that it leads to, all or nothing."""
    text = await asyncio.to_thread(script.read_text, encoding="utf-8")
    await connection.executescript(
        f"BEGIN IMMEDIATE; {text}; PRAGMA user_version = {version}; COMMIT;"
    )
