import asyncio
import sqlite3
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiosqlite
import pytest

from server_agent.access.errors import AccessSchemaError, UnknownUserError, UserExistsError
from server_agent.access.roles import Role
from server_agent.access.sessions import Session, digest_of
from server_agent.access.store import AccessStore, Viewing, open_access
from server_agent.access.users import User, parse_user_name

NOW = datetime(2026, 11, 23, 10, 0, 0, 123_000, tzinfo=UTC)
USER = User(name=parse_user_name("zhangwei"), role=Role.SECTION_HEAD)
TOKEN = "a-token-that-only-the-browser-knows"
SESSION = Session(token_sha256=digest_of(TOKEN), user=USER, opened_at_utc=NOW, seen_at_utc=NOW)
VIEWING = Viewing(
    viewing_id="v1",
    token_sha256=digest_of(TOKEN),
    user=USER.name,
    role=USER.role,
    address="192.0.2.7",
    started_at_utc=NOW,
    recording_id="r",
    recorder="R-0001",
    officer=None,
    file_id=3,
    original_name="DCIM/1.MP4",
    sha256="00",
)


async def add(store: AccessStore) -> None:
    await store.add_user(USER, password_hash="$argon2id$x", now_utc=NOW)


async def test_an_account_is_found_as_it_was_made(store: AccessStore) -> None:
    """Name, office and what is kept of the password come back."""
    await add(store)

    assert await store.find_user(USER.name) == (USER, "$argon2id$x")
    assert await store.find_user(parse_user_name("nobody")) is None


async def test_a_name_is_given_once(store: AccessStore) -> None:
    """A second account of one name is refused, and the first stays."""
    await add(store)

    with pytest.raises(UserExistsError):
        await store.add_user(USER, password_hash="other", now_utc=NOW)

    assert await store.find_user(USER.name) == (USER, "$argon2id$x")


async def test_a_session_comes_back(store: AccessStore) -> None:
    """A session is found by its token's digest until it is closed."""
    await add(store)
    await store.open_session(SESSION)

    assert await store.find_session(SESSION.token_sha256) == SESSION
    await store.close_session(SESSION.token_sha256)
    assert await store.find_session(SESSION.token_sha256) is None


async def test_signs_of_life_only_go_forward(store: AccessStore) -> None:
    """A late write of an earlier sign of life does not shorten a session."""
    await add(store)
    await store.open_session(SESSION)
    later = NOW + timedelta(minutes=5)

    await store.touch_session(SESSION.token_sha256, now_utc=later)
    await store.touch_session(SESSION.token_sha256, now_utc=NOW)

    found = await store.find_session(SESSION.token_sha256)
    assert found is not None
    assert found.seen_at_utc == later


async def test_old_sessions_are_forgotten(store: AccessStore) -> None:
    """What is older than any session may be is removed; the rest stays."""
    await add(store)
    await store.open_session(SESSION)

    await store.forget_sessions(opened_before_utc=NOW)
    assert await store.find_session(SESSION.token_sha256) == SESSION
    await store.forget_sessions(opened_before_utc=NOW + timedelta(seconds=1))
    assert await store.find_session(SESSION.token_sha256) is None


async def test_another_password_ends_all_sessions(store: AccessStore) -> None:
    """Whoever knew the old password is out, and a lock is lifted."""
    await add(store)
    await store.open_session(SESSION)
    while await store.count_attempt(USER.name, now_utc=NOW):
        pass

    await store.set_password(USER.name, password_hash="new")

    assert await store.find_user(USER.name) == (USER, "new")
    assert await store.find_session(SESSION.token_sha256) is None
    assert await store.count_attempt(USER.name, now_utc=NOW)


async def test_only_accounts_have_passwords(store: AccessStore) -> None:
    """A password for nobody is refused."""
    with pytest.raises(UnknownUserError):
        await store.set_password(USER.name, password_hash="new")


async def test_tries_at_once_are_counted_one_by_one(store: AccessStore) -> None:
    """Twenty tries in one moment: five may be looked at."""
    allowed = await asyncio.gather(
        *(store.count_attempt("zhangwei", now_utc=NOW) for _ in range(20))
    )

    assert allowed.count(True) == 5


async def test_viewings_come_back_newest_first(store: AccessStore) -> None:
    """The log has every viewing, in pages, and its length."""
    for number in range(3):
        await store.record_viewing(_numbered(number))

    assert await store.find_viewing("v1") == _numbered(1)
    assert await store.list_viewings(limit=2, offset=0) == ((_numbered(2), _numbered(1)), 3)
    assert await store.list_viewings(limit=2, offset=2) == ((_numbered(0),), 3)


def _numbered(number: int) -> Viewing:
    return Viewing(
        **{name: getattr(VIEWING, name) for name in VIEWING.__slots__}
        | {"viewing_id": f"v{number}"}
    )


@pytest.mark.parametrize("sql", ["DELETE FROM viewings", "UPDATE viewings SET name = 'x'"])
async def test_viewings_cannot_be_touched(tmp_path: Path, sql: str) -> None:
    """Not even with the database in hand is a viewing removed or rewritten by accident."""
    path = tmp_path / "access.sqlite"
    async with open_access(path) as store:
        await store.record_viewing(VIEWING)
    async with aiosqlite.connect(path) as connection:
        with pytest.raises(sqlite3.IntegrityError):
            await connection.execute(sql)


async def test_no_secret_is_in_the_file(tmp_path: Path) -> None:
    """Neither a session's token nor a name that somebody tried is written down."""
    path = tmp_path / "access.sqlite"
    async with open_access(path) as store:
        await add(store)
        await store.open_session(SESSION)
        await store.count_attempt("my password, typed into the wrong field", now_utc=NOW)

    content = path.read_bytes()
    assert digest_of(TOKEN).encode() in content
    assert TOKEN.encode() not in content
    assert b"my password" not in content


async def test_the_file_is_its_owners(tmp_path: Path) -> None:
    """Nobody else may read it."""
    async with open_access(tmp_path / "access.sqlite"):
        pass

    assert stat.S_IMODE((tmp_path / "access.sqlite").stat().st_mode) == 0o600


async def test_two_programs_may_open_it_at_once(tmp_path: Path) -> None:
    """An account made beside a running console is there at once."""
    path = tmp_path / "access.sqlite"
    async with open_access(path) as console, open_access(path) as program:
        await program.add_user(USER, password_hash="x", now_utc=NOW)

        assert await console.find_user(USER.name) == (USER, "x")


async def test_a_newer_file_is_left_alone(tmp_path: Path) -> None:
    """A database of a later release is refused, not misread."""
    path = tmp_path / "access.sqlite"
    async with aiosqlite.connect(path) as connection:
        await connection.execute("PRAGMA user_version = 2")

    with pytest.raises(AccessSchemaError):
        async with open_access(path):
            pass


async def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """Where a link stands instead of the database, nothing is made behind it."""
    (tmp_path / "access.sqlite").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(OSError, match="symbolic"):
        async with open_access(tmp_path / "access.sqlite"):
            pass

    assert not (tmp_path / "elsewhere").exists()
