"""Logging in: one answer for a wrong password and for a name that nobody has, in one time."""

import asyncio
import secrets
from datetime import datetime
from enum import Enum, unique
from typing import Final

from server_agent.access.errors import UserNameError
from server_agent.access.passwords import hash_password, is_right
from server_agent.access.sessions import TOKEN_BYTES, Session, digest_of
from server_agent.access.store import AccessStore
from server_agent.access.users import parse_user_name

_VERIFIED_AT_ONCE: Final = 2  # each takes 64 MiB and a core
_MAX_COUNTED_CHARACTERS: Final = 1_000


@unique
class Denied(Enum):
    """Why somebody is not let in; neither tells whether the name exists."""

    WRONG = "wrong"
    LOCKED = "locked"


class Gate:
    """Where people log in; one for a process."""

    def __init__(self, store: AccessStore) -> None:
        self._store = store
        self._room = asyncio.Semaphore(_VERIFIED_AT_ONCE)
        self._nobodys_hash = hash_password(secrets.token_urlsafe(TOKEN_BYTES))

    async def log_in(
        self, *, untrusted_name: str, untrusted_password: str, token: str, now_utc: datetime
    ) -> Session | Denied:
        """Return a new session under *token*, or why there is none.

        Args:
            untrusted_name: As it was typed.
            untrusted_password: As it was typed.
            token: Freshly drawn, 256 bits; only its digest is kept.
            now_utc: The time.
        """
        try:
            name = parse_user_name(untrusted_name)
        except UserNameError:
            name = None
        counted = untrusted_name[:_MAX_COUNTED_CHARACTERS] if name is None else name
        if not await self._store.count_attempt(counted, now_utc=now_utc):
            return Denied.LOCKED
        found = None if name is None else await self._store.find_user(name)
        kept = self._nobodys_hash if found is None else found[1]
        async with self._room:
            right = await asyncio.to_thread(is_right, untrusted_password, kept=kept)
        if found is None or not right:
            return Denied.WRONG
        await self._store.forget_attempts(counted)
        session = Session(
            token_sha256=digest_of(token),
            user=found[0],
            opened_at_utc=now_utc,
            seen_at_utc=now_utc,
        )
        await self._store.open_session(session)
        return session
