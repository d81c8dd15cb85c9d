"""Whether a registry that arrived replaces the one the dock obeys."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, unique

from edge_agent.outbox.answers import Contradiction, Unhandled
from protocol.envelope import parse_statement, take_apart
from protocol.errors import ProtocolError
from protocol.keys import KeyId, VerifyingKey
from protocol.registry import Registry
from protocol.versions import Statement


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRegistry:
    """A verified registry of a higher version than the one the dock has."""

    registry: Registry


@unique
class Unchanged(Enum):
    """The registry that arrived is, byte for byte, the one the dock has."""

    UNCHANGED = "unchanged"


def judge_registry(
    untrusted: bytes, *, archive_keys: Mapping[KeyId, VerifyingKey], known_envelope: bytes | None
) -> NewRegistry | Unchanged | Unhandled:
    """Return what follows from a message on the site's registry topic.

    Somebody who can replay an old registry could bring a recorder back that was struck off, or
    strike one off: an older version, or the same version with other content, is never obeyed.

    Args:
        untrusted: The envelope as it arrived.
        archive_keys: The keys that may sign a registry.
        known_envelope: The envelope that the dock obeys now; it was verified when it came.
    """
    try:
        sealed = take_apart(untrusted)
        sealed.verify(archive_keys)
        registry = parse_statement(sealed, Statement.REGISTRY, Registry)
    except ProtocolError as error:
        return Unhandled(code=error.code, detail=str(error))
    if known_envelope is None:
        return NewRegistry(registry=registry)
    known_payload = take_apart(known_envelope).payload
    if known_payload == sealed.payload:
        return Unchanged.UNCHANGED
    known = read_registry(known_envelope)
    if registry.version > known.version:
        return NewRegistry(registry=registry)
    which = (
        Contradiction.REGISTRY_CHANGED
        if registry.version == known.version
        else Contradiction.REGISTRY_OLDER
    )
    return Unhandled(
        code=which.value,
        detail=f"registry version {registry.version} arrived, version {known.version} is known",
    )


def read_registry(envelope: bytes) -> Registry:
    """Return the registry in an envelope that was verified before it was kept."""
    return parse_statement(take_apart(envelope), Statement.REGISTRY, Registry)
