"""registry.toml: the docks, officers and recorders of a site, as people write them.

```toml
[[docks]]
dock = "dock-01"
name = "..."
certificate = "pki/dock-01/signing.pem"     # relative to this file

[[officers]]
officer = "012345"
name = "..."
section = "..."

[[recorders]]
recorder = "R-0001"
make = "..."
model = "..."                               # model and serial as the recorder names itself
serial = "..."
officer = "012345"                          # may be left out

[erasing]                                   # left out: nothing leaves a recorder
policy = "after_days"                       # or "keep", or "after_receipt": docs/erasing.md
days = 14

[[erasing.models]]
model = "..."
policy = "keep"
```
"""

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID
from msgspec import Struct

from protocol.errors import IdentifierError, KeyFormatError
from protocol.identifiers import DockField, DockId, parse_dock
from protocol.keys import KeyId, VerifyingKey
from protocol.manifest import Label
from protocol.registry import DockEntry, Erasing, OfficerEntry, RecorderEntry, Registry
from runtime.settings import load_toml
from server_agent.errors import RegistryFileError

T = TypeVar("T", bound=Hashable)

_NOT_ISSUED: Final = datetime(1970, 1, 1, tzinfo=UTC)


class _DockRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    dock: DockField
    name: Label
    certificate: Path


class _File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    docks: tuple[_DockRow, ...] = ()
    officers: tuple[OfficerEntry, ...] = ()
    recorders: tuple[RecorderEntry, ...] = ()
    erasing: Erasing = Erasing()


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningCertificate:
    """The certificate of a dock's signing key, as its file has it."""

    dock: DockId
    key_id: KeyId
    pem: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteRegistry:
    """What the file says; ``registry`` has no version yet."""

    registry: Registry
    certificates: tuple[SigningCertificate, ...]


def read_registry(path: Path, *, ca: Path) -> SiteRegistry:
    """Read registry.toml and the certificates that it names; blocking.

    Args:
        path: The file.
        ca: PEM of the site's authority, which has to have issued every certificate.

    Raises:
        SettingsError: A key is unknown, missing or wrong; it is named.
        RegistryFileError: The file contradicts itself, or a certificate is not that dock's.
        OSError: A file cannot be read.
    """
    file = load_toml(path, _File)
    for problem in _contradictions(file):
        raise RegistryFileError(path, problem=problem)
    authority = _certificate(path, ca, ca.read_bytes())
    certificates = tuple(_signing(path, row, authority) for row in file.docks)
    shared = _twice(one.key_id for one in certificates)
    if shared:
        raise RegistryFileError(path, problem=f"two docks have the key {shared[0]}")
    keys = {one.dock: VerifyingKey.from_certificate_pem(one.pem) for one in certificates}
    docks = tuple(
        DockEntry(dock=row.dock, name=row.name, signing_key=keys[row.dock].spki_der)
        for row in file.docks
    )
    registry = Registry(
        version=1,
        issued_at=_NOT_ISSUED,
        docks=docks,
        officers=file.officers,
        recorders=file.recorders,
        erasing=file.erasing,
    )
    return SiteRegistry(registry=registry, certificates=certificates)


def _contradictions(file: _File) -> list[str]:
    found = [f"dock {one} stands twice" for one in _twice(row.dock for row in file.docks)]
    found += [f"officer {one} stands twice" for one in _twice(row.officer for row in file.officers)]
    found += [
        f"recorder {one} stands twice" for one in _twice(row.recorder for row in file.recorders)
    ]
    found += [
        f"model {model!r}, serial {serial!r} is two recorders"
        for model, serial in _twice((row.model, row.serial) for row in file.recorders)
    ]
    found += [
        f"the model {model!r} has two rules for erasing"
        for model in _twice(rule.model for rule in file.erasing.models)
    ]
    officers = {row.officer for row in file.officers}
    found += [
        f"recorder {row.recorder} belongs to officer {row.officer}, who is not listed"
        for row in file.recorders
        if row.officer is not None and row.officer not in officers
    ]
    for row in file.docks:
        try:
            parse_dock(row.dock)
        except IdentifierError as error:
            found.append(str(error))
    return found


def _signing(path: Path, row: _DockRow, authority: x509.Certificate) -> SigningCertificate:
    pem = row.certificate.read_bytes()
    certificate = _certificate(path, row.certificate, pem)
    try:
        certificate.verify_directly_issued_by(authority)
        key = VerifyingKey.from_certificate_pem(pem)
    except (ValueError, TypeError, InvalidSignature):
        raise RegistryFileError(
            path, problem=f"{row.certificate} was not issued by the site's authority"
        ) from None
    except KeyFormatError as error:
        raise RegistryFileError(path, problem=f"{row.certificate}: {error}") from None
    names = [
        str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    ]
    if names != [row.dock]:
        whose = ", ".join(names) or "nobody"
        raise RegistryFileError(
            path, problem=f"{row.certificate} is {whose}'s, not dock {row.dock}'s"
        )
    return SigningCertificate(dock=row.dock, key_id=key.key_id, pem=pem)


def _certificate(path: Path, file: Path, pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise RegistryFileError(path, problem=f"{file} is no certificate") from None


def _twice(values: Iterable[T]) -> list[T]:
    return [value for value, count in Counter(values).items() if count > 1]
