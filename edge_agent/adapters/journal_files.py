"""Rows of the journal's table of files, read."""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

import aiosqlite

from edge_agent.ingest.files import Device, FileId, FileKey, FileRow, FileState
from protocol.digest import Digests
from protocol.identifiers import DockingId, ManifestId
from protocol.manifest import ByteRange, EvidenceLevel

# So few that nobody waits for the event loop while a recorder of 100,000 files is looked up.
ROWS_AT_ONCE: Final = 500
_ROW: Final = (
    "SELECT file_id, path, size_bytes, mtime_ns, generation, docking_id, state, verified_bytes,"
    " prefix_sha256, sha256, sm3, evidence, fingerprint, lost, marked, same_as, manifest_id"
    " FROM file"
)


async def find_files(
    connection: aiosqlite.Connection, device: Device, which: str, *values: object
) -> tuple[FileRow, ...]:
    """Return the files of a recorder, all or some.

    Args:
        connection: Within a transaction.
        device: The recorder.
        which: SQL that follows the conditions for the recorder; a constant of ours.
        values: For the question marks in it.
    """
    found: list[FileRow] = []
    query = f"{_ROW} WHERE model = ? AND serial = ? {which}"
    async with connection.execute(query, (device.model, device.serial, *values)) as cursor:
        while rows := list(await cursor.fetchmany(ROWS_AT_ONCE)):
            unfinished = [row["file_id"] for row in rows if row["state"] == "copying"]
            salvaged = await _salvaged(connection, unfinished)
            found += [_file_row(row, salvaged.get(row["file_id"], ())) for row in rows]
    return tuple(found)


async def _salvaged(
    connection: aiosqlite.Connection, file_ids: Sequence[str]
) -> dict[str, list[ByteRange]]:
    """Return what is held of unfinished files beyond what could not be read, by offset."""
    salvaged: dict[str, list[ByteRange]] = defaultdict(list)
    if not file_ids:
        return salvaged
    parts = await connection.execute_fetchall(
        "SELECT file_id, offset_bytes, size_bytes, sha256 FROM salvaged_range"
        " WHERE file_id IN (SELECT value FROM json_each(?)) ORDER BY offset_bytes",
        (json.dumps(file_ids),),
    )
    for file_id, offset_bytes, size_bytes, sha256 in parts:
        salvaged[file_id].append(
            ByteRange(offset_bytes=offset_bytes, size_bytes=size_bytes, sha256=sha256)
        )
    return salvaged


def _file_row(row: sqlite3.Row, salvaged: Iterable[ByteRange] = ()) -> FileRow:
    sha256, same_as, manifest_id, evidence = (
        row[column] for column in ("sha256", "same_as", "manifest_id", "evidence")
    )
    return FileRow(
        file_id=FileId(row["file_id"]),
        key=FileKey(
            path=row["path"],
            size_bytes=row["size_bytes"],
            mtime_ns=row["mtime_ns"],
            generation=row["generation"],
        ),
        docking_id=DockingId(_shared(row["docking_id"])),
        state=FileState(row["state"]),
        verified_bytes=row["verified_bytes"],
        prefix_sha256=row["prefix_sha256"],
        digests=None if sha256 is None else Digests(sha256=sha256, sm3=row["sm3"]),
        evidence=None if evidence is None else EvidenceLevel(evidence),
        marked=bool(row["marked"]),
        same_as=None if same_as is None else FileId(same_as),
        manifest_id=None if manifest_id is None else ManifestId(_shared(manifest_id)),
        fingerprint=row["fingerprint"],
        lost=bool(row["lost"]),
        salvaged=tuple(salvaged),
    )


@lru_cache(maxsize=1024)
def _shared(text: str) -> str:
    """Return the first of equal texts: what stands in 100,000 rows is kept once."""
    return text
