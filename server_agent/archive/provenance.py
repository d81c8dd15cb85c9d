"""Who vouches for a bag: the dock's signature, its certificate, and what the dock said.

Numbered as docs/verify.md numbers the same steps:

1. the envelope, the payload beside it and the raw signature are one and the same;
2. the certificate is by the site's authority, for the dock that the manifest names, and was valid
   when the archive closed the bag: a dock's own clock may be dead;
3. the key of that certificate signed the payload;
4. what the bag lists and says of itself is what the signed manifest promises.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import NameOID

from protocol.envelope import Sealed, parse_statement, pre_authentication_encoding, take_apart
from protocol.errors import KeyFormatError, ProtocolError
from protocol.findings import Finding, FindingCode
from protocol.keys import VerifyingKey
from protocol.manifest import Manifest
from protocol.versions import Statement
from server_agent.archive.bag import (
    CA_CERTIFICATE,
    CLOSED_AT,
    CONTENTS,
    DATA,
    DOCK_CERTIFICATE,
    ENVELOPE,
    INFORMATION,
    MANIFEST_SHA256,
    MANIFEST_SM3,
    PAYLOAD,
    SIGNATURE,
    derived_labels,
    false_labels,
    read_bag_info,
    read_closed_at,
)
from server_agent.archive.contents import (
    BagContents,
    contradictions_with,
    parse_contents,
    promised_files,
)
from server_agent.archive.layout import docking_bag_name, is_misplaced
from server_agent.archive.verification import Claims, Tags, finding

_NEEDED: Final = (ENVELOPE, PAYLOAD, SIGNATURE, DOCK_CERTIFICATE, CA_CERTIFICATE, CONTENTS)
# What cryptography raises for certificates that nobody honest would make; the warning is of a
# serial number that is not positive, where warnings are errors, and will be an error everywhere.
_HOSTILE_CERTIFICATE: Final = (
    CryptographyDeprecationWarning,
    InvalidSignature,
    UnsupportedAlgorithm,
    TypeError,
    ValueError,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Certificate:
    certificate: x509.Certificate
    names: tuple[str, ...]
    valid_from: datetime
    valid_until: datetime
    key: VerifyingKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What is known of where a bag comes from; None where it could not be read."""

    findings: tuple[Finding, ...]
    manifest: Manifest | None = None
    contents: BagContents | None = None


def judge_provenance(
    tags: Tags, claims: Claims, *, authority_pem: bytes | None, location: tuple[str, ...]
) -> Provenance:
    """Return what the dock said, and what speaks against the bag being that.

    Args:
        tags: The bag's tag files.
        claims: What its manifests list.
        authority_pem: The authority's certificates, from outside the bag; None to take the bag's
            own, which proves only that the bag agrees with itself.
        location: The components of the bag's absolute path.
    """
    if any(name not in tags.content for name in _NEEDED):
        # Reported as missing by judge_files; half a proof is none.
        return Provenance(findings=())
    found: list[Finding] = []
    sealed = _read_envelope(tags, found)
    manifest = _read_manifest(sealed, found) if sealed else None
    contents = _read_contents(tags, found)
    dock = _read_certificate(tags, found)
    if dock is not None:
        found += _judge_certificate(tags, dock, authority_pem, manifest)
    if dock is not None and sealed is not None:
        found += _judge_signature(tags, sealed, dock.key)
    if manifest is not None and contents is not None:
        found += _judge_content(tags, claims, manifest, contents)
        found += _judge_location(location, manifest, contents)
    return Provenance(findings=tuple(found), manifest=manifest, contents=contents)


def _read_envelope(tags: Tags, found: list[Finding]) -> Sealed | None:
    try:
        sealed = take_apart(tags.content[ENVELOPE])
    except ProtocolError as error:
        found.append(finding(FindingCode.BAG_TAG_MALFORMED, ENVELOPE, str(error)))
        return None
    if sealed.payload != tags.content[PAYLOAD]:
        found.append(finding(FindingCode.BAG_SIGNATURE_WRONG, PAYLOAD, "not the envelope's"))
    if sealed.signature != tags.content[SIGNATURE]:
        found.append(finding(FindingCode.BAG_SIGNATURE_WRONG, SIGNATURE, "not the envelope's"))
    return sealed


def _read_manifest(sealed: Sealed, found: list[Finding]) -> Manifest | None:
    try:
        return parse_statement(sealed, Statement.MANIFEST, Manifest)
    except ProtocolError as error:
        found.append(finding(FindingCode.BAG_TAG_MALFORMED, PAYLOAD, str(error)))
        return None


def _read_contents(tags: Tags, found: list[Finding]) -> BagContents | None:
    try:
        return parse_contents(tags.content[CONTENTS])
    except ProtocolError as error:
        found.append(finding(FindingCode.BAG_TAG_MALFORMED, CONTENTS, str(error)))
        return None


def _read_certificate(tags: Tags, found: list[Finding]) -> _Certificate | None:
    try:
        certificate = x509.load_pem_x509_certificate(tags.content[DOCK_CERTIFICATE])
        common_names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return _Certificate(
            certificate=certificate,
            names=tuple(str(name.value) for name in common_names),
            valid_from=certificate.not_valid_before_utc,
            valid_until=certificate.not_valid_after_utc,
            key=VerifyingKey.from_certificate_pem(tags.content[DOCK_CERTIFICATE]),
        )
    except (*_HOSTILE_CERTIFICATE, KeyFormatError) as error:
        found.append(finding(FindingCode.BAG_CERTIFICATE_WRONG, DOCK_CERTIFICATE, str(error)))
        return None


def _judge_certificate(
    tags: Tags, dock: _Certificate, authority_pem: bytes | None, manifest: Manifest | None
) -> Iterator[Finding]:
    wrong = FindingCode.BAG_CERTIFICATE_WRONG
    inside = _authorities(tags.content[CA_CERTIFICATE])
    authorities = inside if authority_pem is None else _authorities(authority_pem)
    if not any(_issued_by(dock.certificate, authority) for authority in authorities):
        yield finding(wrong, DOCK_CERTIFICATE, "not by the site's authority")
    if not any(authority in authorities for authority in inside):
        yield finding(wrong, CA_CERTIFICATE, "not the site's authority")
    if manifest is None:
        return
    if dock.names != (manifest.dock,):
        yield finding(
            wrong, DOCK_CERTIFICATE, f"for {dock.names!r}; the manifest is by {manifest.dock!r}"
        )
    information = read_bag_info(tags.content.get(INFORMATION, b"")) or {}
    closed_at = read_closed_at(information)
    if closed_at is None:
        # Without a moment nothing is proved; a bag-info.txt that cannot be read is a finding too.
        yield finding(wrong, DOCK_CERTIFICATE, f"{INFORMATION} has no {CLOSED_AT} to judge it at")
    elif not dock.valid_from <= closed_at <= dock.valid_until:
        at = closed_at.isoformat()
        yield finding(wrong, DOCK_CERTIFICATE, f"not valid at {at}, when the bag was closed")


def _authorities(pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except _HOSTILE_CERTIFICATE:
        return []


def _issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints)
        certificate.verify_directly_issued_by(authority)
    except _HOSTILE_CERTIFICATE:
        return False
    return constraints.value.ca


def _judge_signature(tags: Tags, sealed: Sealed, key: VerifyingKey) -> Iterator[Finding]:
    signed = pre_authentication_encoding(sealed.payload_type, tags.content[PAYLOAD])
    if not key.verify(tags.content[SIGNATURE], signed):
        yield finding(FindingCode.BAG_SIGNATURE_WRONG, SIGNATURE, f"not by {key.key_id}")
    elif key.key_id != sealed.key_id:
        yield finding(
            FindingCode.BAG_SIGNATURE_WRONG, ENVELOPE, f"names another key than {key.key_id}"
        )


def _judge_content(
    tags: Tags, claims: Claims, manifest: Manifest, contents: BagContents
) -> Iterator[Finding]:
    differs = FindingCode.BAG_MANIFEST_DIFFERS
    for contradiction in contradictions_with(manifest, contents):
        yield finding(differs, CONTENTS, contradiction)
    described = {f"{DATA}/{file.stored_as}": file for file in contents.files}
    if len(described) != len(contents.files):
        yield finding(differs, CONTENTS, "one name below data/ for two files")
    sha256 = {path: file.digests.sha256 for path, file in described.items()}
    if sha256 != claims.sha256:
        yield finding(differs, MANIFEST_SHA256, "lists other content than the dock's manifest")
    sm3 = {path: file.digests.sm3 for path, file in described.items()}
    if claims.sm3 is not None and sm3 != claims.sm3:
        yield finding(differs, MANIFEST_SM3, "lists other content than the dock's manifest")
    promised = promised_files(manifest, contents)
    information = read_bag_info(tags.content.get(INFORMATION, b""))
    if promised is None or information is None:
        return  # each is a finding of its own
    recordings = {one.recording_id: one for one in manifest.recordings}
    recording = recordings[contents.recording.recording_id] if contents.recording else None
    derived = derived_labels(manifest, recording, promised, tags.content[PAYLOAD])
    for label, problem in false_labels(information, derived):
        yield finding(differs, INFORMATION, f"{label} {problem}")


def _judge_location(
    location: tuple[str, ...], manifest: Manifest, contents: BagContents
) -> Iterator[Finding]:
    day: date | None = contents.recording.recorded_on if contents.recording else None
    if is_misplaced(location, bag_name=_bag_name(contents), day=day):
        yield finding(
            FindingCode.BAG_MANIFEST_DIFFERS,
            location[-1],
            f"in the place of another bag: this is {_bag_name(contents)} "
            f"of manifest {manifest.manifest_id}",
        )


def _bag_name(contents: BagContents) -> str:
    if contents.recording is not None:
        return contents.recording.recording_id
    return docking_bag_name(contents.docking_id, contents.part)
