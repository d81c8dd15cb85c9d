"""An account: a name, an office, and for officers their number."""

import unicodedata
from dataclasses import dataclass
from typing import Final, NewType

from protocol.identifiers import OfficerId
from server_agent.access.errors import OfficerNumberError, UserNameError
from server_agent.access.roles import Role

UserName = NewType("UserName", str)

MAX_NAME_CHARACTERS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Somebody who may log in; `officer` is there for Role.OFFICER, and only then."""

    name: UserName
    role: Role
    officer: OfficerId | None = None

    def __post_init__(self) -> None:
        """Refuse an officer without a number, and a number without an officer."""
        if (self.officer is not None) != (self.role is Role.OFFICER):
            raise OfficerNumberError(f"{self.name!r}: an officer's number belongs to an officer")


def parse_user_name(untrusted: str) -> UserName:
    """Return *untrusted* as an account's name: one form for all ways to type it.

    Full-width letters become plain ones and capitals small ones.

    Raises:
        UserNameError: It is empty, longer than 64 characters, or has blanks at its ends or
            characters that do not show.
    """
    name = unicodedata.normalize("NFKC", untrusted).casefold()
    if not 1 <= len(name) <= MAX_NAME_CHARACTERS or name != name.strip() or not name.isprintable():
        raise UserNameError(f"{untrusted[:80]!r} cannot be an account's name")
    return UserName(name)
