import asyncio
from datetime import UTC, datetime

import pytest

from server_agent.access.login import Denied, Gate
from server_agent.access.passwords import hash_password
from server_agent.access.roles import Role
from server_agent.access.sessions import Session, digest_of
from server_agent.access.store import AccessStore
from server_agent.access.throttle import LOCKED_FOR, MAX_FAILURES
from server_agent.access.users import User, parse_user_name

NOW = datetime(2026, 11, 23, tzinfo=UTC)
SECRET = "a long enough secret"
USER = User(name=parse_user_name("zhangwei"), role=Role.AUDITOR)


@pytest.fixture
async def gate(store: AccessStore) -> Gate:
    await store.add_user(USER, password_hash=hash_password(SECRET), now_utc=NOW)
    return Gate(store)


async def knock(
    gate: Gate, name: str = "zhangwei", password: str = SECRET, *, now: datetime = NOW
) -> Session | Denied:
    return await gate.log_in(
        untrusted_name=name, untrusted_password=password, token="token", now_utc=now
    )


async def test_right_password_opens_a_session(gate: Gate, store: AccessStore) -> None:
    """Who knows the password gets a session under the token that was drawn."""
    session = await knock(gate, "ZhangWei")

    assert isinstance(session, Session)
    assert await store.find_session(digest_of("token")) == session


@pytest.mark.parametrize("name", ["zhangwei", "nobody", "", "a\nb", "x" * 5000])
async def test_wrong_is_wrong_whoever_it_is(gate: Gate, name: str) -> None:
    """A wrong password, a name that nobody has and one that nobody could have: one answer."""
    assert await knock(gate, name, "wrong") is Denied.WRONG


@pytest.mark.parametrize("name", ["zhangwei", "nobody", ""])
async def test_the_sixth_try_must_wait_whoever_it_is(gate: Gate, name: str) -> None:
    """Five wrong tries lock a name, whether somebody has it or not; so does the right password."""
    answers = [await knock(gate, name, "wrong") for _ in range(MAX_FAILURES)]

    assert set(answers) == {Denied.WRONG}
    assert await knock(gate, name) is Denied.LOCKED


async def test_a_lock_is_one_names_alone(gate: Gate) -> None:
    """Locking one name does not keep others out."""
    for _ in range(MAX_FAILURES):
        await knock(gate, "nobody", "wrong")

    assert isinstance(await knock(gate), Session)


async def test_waiting_helps(gate: Gate) -> None:
    """After the lock the right password is right again."""
    for _ in range(MAX_FAILURES):
        await knock(gate, password="wrong")

    assert isinstance(await knock(gate, now=NOW + LOCKED_FOR), Session)


async def test_success_forgets_failures(gate: Gate) -> None:
    """Four mistakes and then the right password: the next day has five tries again."""
    for _ in range(MAX_FAILURES - 1):
        await knock(gate, password="wrong")
    assert isinstance(await knock(gate), Session)

    answers = [await knock(gate, password="wrong") for _ in range(MAX_FAILURES)]

    assert set(answers) == {Denied.WRONG}


async def test_guessing_in_parallel_gains_nothing(gate: Gate) -> None:
    """Twelve guesses at once: five are looked at."""
    answers = await asyncio.gather(*(knock(gate, password="wrong") for _ in range(12)))

    assert answers.count(Denied.WRONG) == MAX_FAILURES
    assert answers.count(Denied.LOCKED) == 12 - MAX_FAILURES


async def test_unknown_names_are_verified_as_well(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slow step is taken for a name that nobody has, with parameters like everybody's."""
    verified: list[str] = []

    def spy(untrusted: str, *, kept: str) -> bool:
        del untrusted
        verified.append(kept.rsplit("$", 2)[0])
        return False

    monkeypatch.setattr("server_agent.access.login.is_right", spy)
    await knock(gate, "nobody")
    await knock(gate, "zhangwei")

    assert len(verified) == 2
    assert verified[0] == verified[1]
