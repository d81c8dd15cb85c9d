"""The access database: one SQLite file of the console's own, no other process's."""

import asyncio
import contextlib
import hashlib
import os
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Final

import aiosqlite

from protocol.identifiers import OfficerId
from server_agent.access import throttle
from server_agent.access.errors import AccessSchemaError, UnknownUserError, UserExistsError
from server_agent.access.roles import Role
from server_agent.access.sessions import Session
from server_agent.access.throttle import Attempts
from server_agent.access.users import User, UserName

_SCHEMA_VERSION: Final = 1
_BUSY_S: Final = 10.0
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewing:
    """Somebody started to play a file: who, from where, when, and what."""

    viewing_id: str
    token_sha256: str
    user: str
    role: Role
    address: str
    started_at_utc: datetime
    recording_id: str
    recorder: str
    officer: str | None
    file_id: int
    original_name: str
    sha256: str


@contextlib.asynccontextmanager
async def open_access(path: Path) -> AsyncIterator["AccessStore"]:
    """Open the database for the length of the block; make it, for its owner alone, if missing.

    Raises:
        AccessSchemaError: A newer release made it.
        OSError, sqlite3.Error: Our own disk failed.
    """
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    async with aiosqlite.connect(path, timeout=_BUSY_S, isolation_level=None) as connection:
        # A rollback journal: `add-user` writes while the console runs, and SQLite before 3.51.3
        # can lose a WAL that two connections reset at once.
        connection.row_factory = sqlite3.Row
        await connection.execute("PRAGMA journal_mode = DELETE")
        await connection.execute("PRAGMA synchronous = EXTRA")
        await connection.execute("PRAGMA foreign_keys = ON")
        await _make_tables(connection)
        yield AccessStore(connection)


async def _make_tables(connection: aiosqlite.Connection) -> None:
    row = await _one(connection, "PRAGMA user_version")
    version = 0 if row is None else row[0]
    if version > _SCHEMA_VERSION:
        raise AccessSchemaError(f"version {version}; this release reads {_SCHEMA_VERSION}")
    if version == 0:
        schema = resources.files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")
        await connection.executescript(
            f"BEGIN IMMEDIATE; {schema} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;"
        )


class AccessStore:
    """Accounts, sessions, tries and viewings; from `open_access`. Times are arguments."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._counting = asyncio.Lock()

    async def add_user(self, user: User, *, password_hash: str, now_utc: datetime) -> None:
        """Keep a new account.

        Raises:
            UserExistsError: The name is taken; nothing was changed.
        """
        values = (user.name, user.role.value, user.officer, password_hash, _ms(now_utc))
        try:
            await self._connection.execute("INSERT INTO users VALUES (?, ?, ?, ?, ?)", values)
        except sqlite3.IntegrityError:
            raise UserExistsError(f"the name {user.name!r} is taken") from None

    async def set_password(self, name: UserName, *, password_hash: str) -> None:
        """Give an account another password, end its sessions and let it be tried again.

        Raises:
            UnknownUserError: Nobody has this name.
        """
        cursor = await self._connection.execute(
            "UPDATE users SET password = ? WHERE name = ?", (password_hash, name)
        )
        if cursor.rowcount == 0:
            raise UnknownUserError(f"nobody is called {name!r}")
        await self._connection.execute("DELETE FROM sessions WHERE name = ?", (name,))
        await self.forget_attempts(name)

    async def find_user(self, name: UserName) -> tuple[User, str] | None:
        """Return an account and what is kept of its password."""
        row = await _one(
            self._connection, "SELECT name, role, officer, password FROM users WHERE name = ?", name
        )
        return None if row is None else (_user(row), row["password"])

    async def open_session(self, session: Session) -> None:
        """Keep a new session."""
        opened_ms, seen_ms = _ms(session.opened_at_utc), _ms(session.seen_at_utc)
        await self._connection.execute(
            "INSERT INTO sessions VALUES (?, ?, ?, ?)",
            (session.token_sha256, session.user.name, opened_ms, seen_ms),
        )

    async def find_session(self, token_sha256: str) -> Session | None:
        """Return a session as it was last seen; whether it is still alive is not asked here."""
        row = await _one(
            self._connection,
            "SELECT sessions.*, role, officer FROM sessions JOIN users USING (name)"
            " WHERE token_sha256 = ?",
            token_sha256,
        )
        if row is None:
            return None
        return Session(
            token_sha256=row["token_sha256"],
            user=_user(row),
            opened_at_utc=_utc(row["opened_ms"]),
            seen_at_utc=_utc(row["seen_ms"]),
        )

    async def touch_session(self, token_sha256: str, *, now_utc: datetime) -> None:
        """Note a sign of life."""
        await self._connection.execute(
            "UPDATE sessions SET seen_ms = max(seen_ms, ?) WHERE token_sha256 = ?",
            (_ms(now_utc), token_sha256),
        )

    async def close_session(self, token_sha256: str) -> None:
        """Forget a session."""
        await self._connection.execute(
            "DELETE FROM sessions WHERE token_sha256 = ?", [token_sha256]
        )

    async def forget_sessions(self, *, opened_before_utc: datetime) -> None:
        """Forget the sessions that are too old to be alive."""
        await self._connection.execute(
            "DELETE FROM sessions WHERE opened_ms < ?", (_ms(opened_before_utc),)
        )

    async def count_attempt(self, name: str, *, now_utc: datetime) -> bool:
        """Count a try of *name* as wrong, before it is looked at: two at once count as two.

        Returns:
            Whether the name may be tried now.
        """
        key = _name_key(name)
        async with self._counting:
            row = await _one(self._connection, "SELECT * FROM attempts WHERE name_sha256 = ?", key)
            attempts = None if row is None else _attempts(row)
            if throttle.is_locked(attempts, now_utc=now_utc):
                return False
            counted = throttle.counted(attempts, now_utc=now_utc)
            await self._connection.execute(
                "INSERT OR REPLACE INTO attempts VALUES (?, ?, ?)",
                (key, counted.failures, _ms(counted.last_at_utc)),
            )
            await self._connection.execute(
                "DELETE FROM attempts WHERE last_ms < ?", (_ms(now_utc - throttle.LOCKED_FOR),)
            )
        return True

    async def forget_attempts(self, name: str) -> None:
        """Let *name* be tried afresh: it was right."""
        await self._connection.execute(
            "DELETE FROM attempts WHERE name_sha256 = ?", (_name_key(name),)
        )

    async def record_viewing(self, viewing: Viewing) -> None:
        """Keep that somebody starts to play something; returns when it is durable."""
        await self._connection.execute(
            "INSERT INTO viewings VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                viewing.viewing_id,
                viewing.token_sha256,
                viewing.user,
                viewing.role.value,
                viewing.address,
                _ms(viewing.started_at_utc),
                viewing.recording_id,
                viewing.recorder,
                viewing.officer,
                viewing.file_id,
                viewing.original_name,
                viewing.sha256,
            ),
        )

    async def find_viewing(self, viewing_id: str) -> Viewing | None:
        """Return one viewing."""
        row = await _one(
            self._connection, "SELECT * FROM viewings WHERE viewing_id = ?", viewing_id
        )
        return None if row is None else _viewing(row)

    async def list_viewings(self, *, limit: int, offset: int) -> tuple[tuple[Viewing, ...], int]:
        """Return viewings, newest first, and how many there are in all."""
        rows = await self._connection.execute_fetchall(
            "SELECT * FROM viewings ORDER BY number DESC LIMIT ? OFFSET ?", (limit, offset)
        )
        counted = await _one(self._connection, "SELECT count(*) FROM viewings")
        return tuple(map(_viewing, rows)), counted[0] if counted is not None else 0


async def _one(connection: aiosqlite.Connection, sql: str, *values: str) -> sqlite3.Row | None:
    async with connection.execute(sql, values) as cursor:
        return await cursor.fetchone()


def _user(row: sqlite3.Row) -> User:
    officer = None if row["officer"] is None else OfficerId(row["officer"])
    return User(name=UserName(row["name"]), role=Role(row["role"]), officer=officer)


def _attempts(row: sqlite3.Row) -> Attempts:
    return Attempts(failures=row["failures"], last_at_utc=_utc(row["last_ms"]))


def _viewing(row: sqlite3.Row) -> Viewing:
    return Viewing(
        viewing_id=row["viewing_id"],
        token_sha256=row["token_sha256"],
        user=row["name"],
        role=Role(row["role"]),
        address=row["address"],
        started_at_utc=_utc(row["started_ms"]),
        recording_id=row["recording_id"],
        recorder=row["recorder"],
        officer=row["officer"],
        file_id=row["file_id"],
        original_name=row["original_name"],
        sha256=row["sha256"],
    )


def _name_key(name: str) -> str:
    return hashlib.sha256(f"bayward console name\0{name}".encode()).hexdigest()


def _ms(at_utc: datetime) -> int:
    return (at_utc - _EPOCH) // _MS


def _utc(unix_ms: int) -> datetime:
    return _EPOCH + unix_ms * _MS
