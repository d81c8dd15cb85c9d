"""What can keep an account from being made or changed."""

from runtime.errors import Retry
from server_agent.errors import ServerError


class AccessError(ServerError):
    """Base of every error about accounts and the file that they are kept in."""


class UserExistsError(AccessError):
    """The name is taken."""

    code = "E-ACC-101"
    retry = Retry.NEVER


class UnknownUserError(AccessError):
    """Nobody has this name."""

    code = "E-ACC-102"
    retry = Retry.NEVER


class UserNameError(AccessError):
    """A name that cannot be typed or read safely."""

    code = "E-ACC-103"
    retry = Retry.NEVER


class PasswordRuleError(AccessError):
    """A password that is too short to protect anything, or too long to be meant."""

    code = "E-ACC-104"
    retry = Retry.NEVER


class OfficerNumberError(AccessError):
    """An officer's account without an officer's number: it could see nothing, or everything."""

    code = "E-ACC-105"
    retry = Retry.NEVER


class AccessSchemaError(AccessError):
    """The access database was made by a newer release."""

    code = "E-ACC-106"
    retry = Retry.NEVER
