"""A catalogue that has been in use for years: rows written straight into SQLite."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final

from protocol.identifiers import mint_uuid7

# One recording has one clip, one bag; so many recordings were docked at a time.
_IN_MANIFEST: Final = 4
_MANIFESTS_AT_ONCE: Final = 5_000
_RECORDERS: Final = 2_000
_DOCKS: Final = 40
_FIRST_MS: Final = 1_600_000_000_000
_APART_MS: Final = 600_000
_CLIP_BYTES: Final = 300 << 20
_ENVELOPE: Final = bytes(1536)  # as long as one is; nobody reads those of long ago
_RECEIPT: Final = bytes(1024)
_TABLES: Final = ("manifests", "bags", "groups", "files")

Row = dict[str, object]


def fill_catalogue(path: Path, recordings: int, *, recorders: Sequence[str]) -> None:
    """Let a catalogue, which is empty and which nobody has open, hold so many archived recordings.

    Args:
        path: Of the SQLite file; its tables are there.
        recordings: How many, each of one clip.
        recorders: Those that are docked again later are among the ones that recorded them.
    """
    known = [*recorders, *(f"R-OLD-{number}" for number in range(_RECORDERS))]
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -262144")
        for first in range(0, recordings // _IN_MANIFEST, _MANIFESTS_AT_ONCE):
            rows: dict[str, list[Row]] = {table: [] for table in _TABLES}
            last = min(first + _MANIFESTS_AT_ONCE, recordings // _IN_MANIFEST)
            for number in range(first, last):
                for table, row in _docking(number, known[number % len(known)]):
                    rows[table].append(row)
            for table in _TABLES:
                connection.executemany(_insert(table, rows[table][0]), rows[table])
            connection.commit()
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _insert(table: str, row: Row) -> str:
    values = ", ".join(f":{column}" for column in row)
    return f"INSERT INTO {table} ({', '.join(row)}) VALUES ({values})"  # noqa: S608 -- names of ours


def _docking(number: int, recorder: str) -> Iterator[tuple[str, Row]]:
    """Yield the rows of one docking, each with its table."""
    at_ms = _FIRST_MS + number * _APART_MS
    time = datetime.fromtimestamp(at_ms // 1000, UTC).replace(tzinfo=None)
    shared: Row = {
        "manifest_id": _id(at_ms, number, "manifest"),
        "dock": f"dock-{number % _DOCKS + 100}",
        "recorder": recorder,
        "officer": f"{number % 3000:06d}",
    }
    yield (
        "manifests",
        shared
        | {
            "sequence": number // _DOCKS + 1,
            "payload_sha256": _digest(number, "manifest"),
            "envelope": _ENVELOPE,
            "state": "archived",
            "docking_id": _id(at_ms, number, "docking"),
            "part": 1,
            "bay": number % 8 + 1,
            "received_at": _text(time),
            "archived_at": _text(time),
            "receipt": _RECEIPT,
        },
    )
    for clip in range(_IN_MANIFEST):
        yield from _recording(number * _IN_MANIFEST + clip + 1, time, shared)


def _recording(number: int, archived_at: datetime, shared: Row) -> Iterator[tuple[str, Row]]:
    day = archived_at.date().isoformat()
    recording = _id(int(archived_at.timestamp() * 1000), number, "recording")
    started = archived_at - timedelta(hours=number % _IN_MANIFEST + 1)
    yield (
        "bags",
        {
            "bag_id": number,
            "path": f"{day.replace('-', '/')}/_no-case/{recording}",
            "tagmanifest_sha256": _digest(number, "bag"),
            "files": 1,
            "size_bytes": _CLIP_BYTES,
            "archived_at": _text(archived_at),
        },
    )
    group: Row = {
        "group_id": number,
        "recording_id": recording,
        "recorded_on": day,
        "started": _text(started),
        "marked": False,
        "complete": True,
        "existing": False,
        "bag_id": number,
    }
    yield "groups", shared | group
    name = f"{shared['officer']}_{number:07d}_{started:%Y%m%d%H%M%S}_0001.MP4"
    yield (
        "files",
        {
            "group_id": number,
            "manifest_id": shared["manifest_id"],
            "recorder": shared["recorder"],
            "position": 0,
            "path": f"DCIM/100MEDIA/{name}",
            "safe_name": name,
            "size_bytes": _CLIP_BYTES,
            "mtime_ns": int(started.timestamp()) * 1_000_000_000,
            "sha256": _digest(number, "clip"),
            "kind": "video",
            "sequence": 1,
            "marked": False,
            "state": "archived",
        },
    )


def _text(time: datetime) -> str:
    return time.isoformat(sep=" ", timespec="microseconds")


def _digest(number: int, what: str) -> str:
    return sha256(b"%d %s" % (number, what.encode())).hexdigest()


def _id(unix_ms: int, number: int, what: str) -> str:
    return mint_uuid7(unix_ms=unix_ms, entropy=bytes.fromhex(_digest(number, what))[:10])
