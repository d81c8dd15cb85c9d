"""Journals of earlier releases, with rows, opened by this one."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.adapters.journal import VERSION, Journal
from edge_agent.ingest.files import Device, FileId, FileState
from protocol.digest import sha256_hex
from protocol.manifest import ByteRange
from protocol.strict_json import encode
from tests.simulators.sealed_manifests import RECORDER, docking_id

VERSION_1 = Path(__file__).with_name("journal_version_1.sql")
OWNER = Device(model=RECORDER.model, serial=RECORDER.serial)
PART = ByteRange(offset_bytes=600, size_bytes=100, sha256=sha256_hex(b"part"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a journal of version 1 with a docking, files of every kind, and a manifest."""
    path = tmp_path / "journal.sqlite"
    with sqlite3.connect(path) as old:
        old.executescript(VERSION_1.read_text("utf-8"))
        old.execute("PRAGMA user_version = 1")
        old.execute(
            "INSERT INTO docking VALUES (?, 1, ?, ?, NULL, ?, 1, NULL, 'open')",
            (docking_id(1), OWNER.model, OWNER.serial, encode(RECORDER)),
        )
        for number, state in enumerate(FileState):
            old.execute(
                "INSERT INTO file (file_id, model, serial, docking_id, path, size_bytes, mtime_ns,"
                " state, verified_bytes, prefix_sha256) VALUES (?, ?, ?, ?, ?, 1000, 0, ?, 500, ?)",
                (
                    state.value,
                    OWNER.model,
                    OWNER.serial,
                    docking_id(1),
                    f"{number}".encode(),
                    state.value,
                    sha256_hex(b"prefix"),
                ),
            )
        old.execute(
            "INSERT INTO manifest (sequence, manifest_id, docking_id, payload_sha256, envelope,"
            " state, sealed_at_ms) VALUES (1, 'm', ?, 'd', x'00', 'pending', 1)",
            (docking_id(1),),
        )
    old.close()
    return path


def contents(path: Path) -> dict[str, list[Any]]:
    """Return the rows of all tables that version 1 had."""
    connection = sqlite3.connect(path)
    try:
        return {table: list(connection.execute(f"SELECT * FROM {table}")) for table in tables()}  # noqa: S608 - our own names
    finally:
        connection.close()


def tables() -> Iterator[str]:
    yield from ("docking", "file", "manifest", "alert", "registry", "unhandled_message")


def shape(path: Path) -> set[tuple[str, str]]:
    """Return what the database is made of, without comments and line breaks."""
    connection = sqlite3.connect(path)
    try:
        rows = list(connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql NOT NULL"))
    finally:
        connection.close()
    return {
        (name, " ".join(line.partition("--")[0].strip() for line in sql.splitlines()))
        for name, sql in rows
    }


async def test_every_row_is_there_afterwards(path: Path) -> None:
    """A journal of version 1 keeps all that is in it, and takes salvaged parts."""
    before = contents(path)

    async with Journal.open(path) as journal:
        await journal.salvaged(FileId("copying"), [PART])
        found = {row.file_id: row for row in await journal.known_files(OWNER)}

    assert contents(path) == before
    assert set(found) == {state.value for state in FileState}
    assert found[FileId("copying")].salvaged == (PART,)


async def test_it_becomes_what_a_new_journal_is(path: Path, tmp_path: Path) -> None:
    """After the step, the tables are those that a new journal has."""
    for one in (path, tmp_path / "new.sqlite"):
        async with Journal.open(one) as journal:
            [(version,)] = await journal.connection.execute_fetchall("PRAGMA user_version")
            assert version == VERSION

    assert shape(path) == shape(tmp_path / "new.sqlite")


async def test_a_step_that_fails_changes_nothing(path: Path) -> None:
    """A table that is there already stops the step; the journal stays what it was."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE salvaged_range (strange INTEGER)")
    connection.close()
    before = shape(path)

    with pytest.raises(sqlite3.OperationalError):
        async with Journal.open(path):
            pytest.fail("opened")

    assert shape(path) == before
