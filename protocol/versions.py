"""Payload types of signed statements, and which versions we read."""

import re
from enum import Enum, unique
from typing import Final

from protocol.errors import UnknownTypeError, UnknownVersionError

_FORM: Final = re.compile(r"application/vnd\.bayward\.([a-z]+)\.v([1-9][0-9]{0,3})\+json")


@unique
class Statement(Enum):
    """The kinds of signed statements; the value is the word in the payload type."""

    MANIFEST = "manifest"
    ADMISSION = "admission"
    REFUSAL = "refusal"
    RECEIPT = "receipt"
    REGISTRY = "registry"
    COMMAND = "command"
    ATTESTATION = "attestation"
    ATTESTED = "attested"


READ_VERSIONS: Final[dict[Statement, frozenset[int]]] = dict.fromkeys(Statement, frozenset({1}))
WRITTEN_VERSION: Final = 1


def payload_type(statement: Statement) -> str:
    """Return the payload type that we write for *statement*."""
    return f"application/vnd.bayward.{statement.value}.v{WRITTEN_VERSION}+json"


def parse_payload_type(untrusted: str) -> tuple[Statement, int]:
    """Return the kind and the version that a payload type names.

    Raises:
        UnknownTypeError: It is none of ours.
        UnknownVersionError: It is ours, in a version we do not read.
    """
    match = _FORM.fullmatch(untrusted)
    kinds = {statement.value: statement for statement in Statement}
    if match is None or match[1] not in kinds:
        raise UnknownTypeError(f"payload type {untrusted[:80]!r}")
    statement, version = kinds[match[1]], int(match[2])
    if version not in READ_VERSIONS[statement]:
        readable = ", ".join(str(known) for known in sorted(READ_VERSIONS[statement]))
        raise UnknownVersionError(
            f"{statement.value} version {version}; this release reads {readable}"
        )
    return statement, version
