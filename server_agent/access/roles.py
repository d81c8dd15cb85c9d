"""Who may see what, in one table."""

from collections.abc import Mapping
from enum import Enum, unique
from types import MappingProxyType
from typing import Final


@unique
class Role(Enum):
    """The offices that the regulation names; one account has one."""

    OFFICER = "officer"
    DEVICE_ADMINISTRATOR = "device_administrator"
    SECTION_HEAD = "section_head"
    DEPUTY_DIRECTOR = "deputy_director"
    BUREAU_LEADER = "bureau_leader"
    SYSTEM_ADMINISTRATOR = "system_administrator"
    AUDITOR = "auditor"


@unique
class Permission(Enum):
    """What a page asks for."""

    SEE_BAYS = "see_bays"
    SEE_FOOTAGE = "see_footage"
    READ_VIEWINGS = "read_viewings"
    COMMAND_DOCKS = "command_docks"


_LEADS: Final = frozenset(Permission) - {Permission.COMMAND_DOCKS}

# Who runs the machines, and who checks the records, see no footage.
PERMISSIONS: Final[Mapping[Role, frozenset[Permission]]] = MappingProxyType(
    {
        Role.OFFICER: frozenset({Permission.SEE_BAYS, Permission.SEE_FOOTAGE}),
        Role.DEVICE_ADMINISTRATOR: frozenset(Permission),
        Role.SECTION_HEAD: _LEADS,
        Role.DEPUTY_DIRECTOR: _LEADS,
        Role.BUREAU_LEADER: _LEADS,
        Role.SYSTEM_ADMINISTRATOR: frozenset({Permission.SEE_BAYS, Permission.COMMAND_DOCKS}),
        Role.AUDITOR: frozenset({Permission.READ_VIEWINGS}),
    }
)


def may(role: Role, permission: Permission) -> bool:
    """Return whether *role* has *permission*."""
    return permission in PERMISSIONS[role]


def sees_own_footage_only(role: Role) -> bool:
    """Return whether *role* sees no recordings but those of its own officer's number."""
    return role is Role.OFFICER
