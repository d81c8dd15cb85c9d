"""The registry that is in force: read from its file, versioned, signed."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from protocol.envelope import keyring, take_apart
from protocol.errors import ProtocolError
from server_agent.adapters.catalogue_store import CatalogueStore
from server_agent.adapters.chain_records import (
    IssuedRegistry,
    keep_certificates,
    load_registry,
    record_registry,
)
from server_agent.adapters.registry_file import SiteRegistry, read_registry
from server_agent.intake.checks import KnownSite
from server_agent.ledger import statements
from server_agent.signing import Signer

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """A registry, as docks are sent it and as the admission checks look at it."""

    version: int
    envelope: bytes
    site: KnownSite


async def issue_registry(file: Path, *, ca: Path, store: CatalogueStore, signer: Signer) -> InForce:
    """Return what *file* says now, under a new version if it says something new.

    A registry that was signed with another key than today's is issued again, too: docks would not
    believe the old one.

    Raises:
        SettingsError, RegistryFileError: The file cannot be used; nothing was issued.
        OSError: A file cannot be read.
    """
    read = await asyncio.to_thread(read_registry, file, ca=ca)
    content_sha256 = statements.registry_content_sha256(read.registry)
    async with store.writing() as connection:
        latest = await load_registry(connection)
        now_utc = signer.clock()
        certificates = {one.key_id: (one.dock, one.pem) for one in read.certificates}
        await keep_certificates(connection, certificates, now_utc)
        if (
            latest is not None
            and latest.content_sha256 == content_sha256
            and _is_signed_by(latest.envelope, signer)
        ):
            issued = latest
        else:
            issued = _issue(read, content_sha256, 1 + (latest.version if latest else 0), signer)
            await record_registry(connection, issued, now_utc=now_utc)
            _log.info("registry issued", version=issued.version)
    return InForce(
        version=issued.version, envelope=issued.envelope, site=KnownSite.of(read.registry)
    )


def _issue(read: SiteRegistry, content_sha256: str, version: int, signer: Signer) -> IssuedRegistry:
    registry = msgspec.structs.replace(read.registry, version=version, issued_at=signer.clock())
    return IssuedRegistry(
        version=version,
        content_sha256=content_sha256,
        envelope=statements.sign(registry, signer.key),
    )


def _is_signed_by(envelope: bytes, signer: Signer) -> bool:
    try:
        take_apart(envelope).verify(keyring(signer.key.public))
    except ProtocolError:
        return False
    return True
