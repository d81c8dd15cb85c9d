"""Passwords: kept as argon2id only. Every function but the rule is slow: call it in a thread."""

import secrets
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from server_agent.access.errors import PasswordRuleError

MIN_CHARACTERS: Final = 12
MAX_CHARACTERS: Final = 128  # whoever sends a megabyte wants to keep us busy

# No 0/O, 1/l/I: a generated password is read off a screen and typed elsewhere.
_ALPHABET: Final = "abcdefghijkmnpqrstuvwxyz23456789"
_GROUPS: Final = 5
_GROUP_CHARACTERS: Final = 4  # 20 characters of 5 bits

_HASHER: Final = PasswordHasher()  # argon2id as in RFC 9106, second recommended option


def generate_password() -> str:
    """Return a random password of 100 bits, in groups that can be typed."""
    return "-".join(
        "".join(secrets.choice(_ALPHABET) for _ in range(_GROUP_CHARACTERS)) for _ in range(_GROUPS)
    )


def check_rule(password: str) -> None:
    """Return when *password* may be somebody's.

    Raises:
        PasswordRuleError: It is shorter than 12 or longer than 128 characters.
    """
    if not MIN_CHARACTERS <= len(password) <= MAX_CHARACTERS:
        raise PasswordRuleError(
            f"a password has {MIN_CHARACTERS} to {MAX_CHARACTERS} characters, not {len(password)}"
        )


def hash_password(password: str) -> str:
    """Return what is kept of *password*: parameters, salt and hash in one text."""
    return _HASHER.hash(password)


def is_right(untrusted: str, *, kept: str) -> bool:
    """Return whether *untrusted* is the password that *kept* was made from."""
    tried = untrusted if len(untrusted) <= MAX_CHARACTERS else ""
    try:
        return _HASHER.verify(kept, tried)
    except VerifyMismatchError:
        return False
