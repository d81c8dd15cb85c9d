"""A tiny good bag, and for each finding about a bag a bad one: the good one with one change.

A change to a tag file is hidden, as somebody would who knows how: the tag manifest is made right
again, unless the finding is that it is not.

The two certificates below tests/vectors/pki are signed with a key that was thrown away, and an
ECDSA signature is another one each time: they are made once, and are inputs from then on.
"""

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509.oid import NameOID

from protocol.digest import sha256_hex
from protocol.envelope import pre_authentication_encoding, sign_statement, take_apart
from protocol.findings import FindingCode
from protocol.keys import SigningKey
from protocol.manifest import exact_path
from protocol.versions import Statement
from scripts.samples import DOCK, chain, content, public_key, signing_key
from server_agent.archive.bag import (
    CONTENTS,
    DATA,
    DECLARATION,
    DOCK_CERTIFICATE,
    ENVELOPE,
    INFORMATION,
    MANIFEST_SHA256,
    SIGNATURE,
    TAG_MANIFEST,
    Bagging,
    digest_lines,
    tag_files,
    tag_manifest,
)
from server_agent.archive.layout import bag_path
from server_agent.archive.names import safe_names
from server_agent.archive.request import BagFile, BagRequest
from server_agent.pki.authority import (
    Authority,
    Validity,
    certificate_pem,
    new_tls_key,
    self_signed,
)

# Every file of a bag, by its path in it.
Bag: TypeAlias = Mapping[str, bytes]

_PKI: Final = Path(__file__).resolve().parent.parent / "tests" / "vectors" / "pki"
_CA: Final = _PKI / "ca.pem"
_DOCK_SIGNING: Final = _PKI / "dock-signing.pem"
# Whatever the clock of the machine says on which somebody runs openssl verify.
_VALIDITY: Final = Validity(
    begins=datetime(2020, 1, 1, tzinfo=UTC), ends=datetime(2120, 1, 1, tzinfo=UTC)
)
_BAGGING: Final = Bagging(
    organisation="Bayward vectors",
    software="Bayward vectors",
    closed_at=datetime(2026, 11, 23, 18, 30, tzinfo=timezone(timedelta(hours=8))),
)


def make_certificates_once() -> tuple[Path, ...]:
    """Make the authority's and the dock's certificate if one is not there; return what was made."""
    if _CA.exists() and _DOCK_SIGNING.exists():
        return ()
    key = new_tls_key()
    authority = self_signed(key, _VALIDITY)
    dock = Authority(authority, key).issue_signing(DOCK, _dock_key(), _VALIDITY)
    _PKI.mkdir(parents=True, exist_ok=True)
    _CA.write_bytes(certificate_pem(authority))
    _DOCK_SIGNING.write_bytes(certificate_pem(dock))
    return _CA, _DOCK_SIGNING


def bag_vectors() -> Iterator[tuple[str, bytes]]:
    """Yield every file of the good bag and of the bad ones.

    Raises:
        FileNotFoundError: A certificate is missing: `make_certificates_once` comes first.
    """
    good = _good_bag()
    for path, data in good.items():
        yield f"good/bag/{path}", data
    for code, (text, bag) in _bad_bags(good).items():
        case = {"bag": "bag", "authority": "../pki/ca.pem", "text": text, "expect": code.value}
        yield f"{code.value}/case.json", _json(case)
        for path, data in bag.items():
            yield f"{code.value}/bag/{path}", data


def _good_bag() -> Bag:
    """Return the bag of the one recording of good/manifest-1."""
    manifest = chain()[0]
    [recording] = manifest.recordings
    staged = tuple(clip.file for clip in recording.clips)
    names = safe_names([file.name for file in staged])
    envelope = sign_statement(manifest, Statement.MANIFEST, signing_key(DOCK))
    sealed = take_apart(envelope)
    request = BagRequest(
        manifest_id=manifest.manifest_id,
        group=recording.recording_id,
        target=bag_path(recording.recorded_on, None, recording.recording_id),
        files=tuple(
            BagFile(safe_name=name, file=file) for name, file in zip(names, staged, strict=True)
        ),
        envelope=envelope,
        payload=sealed.payload,
        signature=sealed.signature,
        dock_certificate_pem=_DOCK_SIGNING.read_bytes(),
        ca_pem=_CA.read_bytes(),
        recording=recording,
        manifest=manifest,
    )
    payload = {
        f"{DATA}/{bag_file.safe_name}": content(exact_path(bag_file.file.name).decode())
        for bag_file in request.files
    }
    return payload | tag_files(request, _BAGGING)


def _bad_bags(good: Bag) -> Mapping[FindingCode, tuple[str, Bag]]:
    """Return each bad bag with what was done to it."""
    [clip] = [path for path in good if path.startswith(f"{DATA}/")]
    changed_clip = good[clip].replace(b"bytes", b"bites")
    outside = good[MANIFEST_SHA256] + digest_lines([("../../secret", sha256_hex(b"secret"))])
    other_officer = _swapped(good, CONTENTS, b'"officer": "012345"', b'"officer": "543210"')
    other_time = _swapped(good, INFORMATION, b"T18:30:00", b"T18:31:00")
    return {
        FindingCode.BAG_FILE_MISSING: (
            "the clip was taken away",
            {path: data for path, data in good.items() if path != clip},
        ),
        FindingCode.BAG_DIGEST_DIFFERS: (
            "one byte of the clip was changed",
            {**good, clip: changed_clip},
        ),
        FindingCode.BAG_FILE_EXTRA: (
            "a second clip was put in, which nobody lists",
            {**good, clip.replace("_0001.", "_0002."): b"another story\n"},
        ),
        FindingCode.BAG_TAG_MALFORMED: (
            "bagit.txt is of another version",
            _hidden(_swapped(good, DECLARATION, b"1.0", b"0.97")),
        ),
        FindingCode.BAG_TAG_DIFFERS: ("the time in bag-info.txt was changed", other_time),
        FindingCode.BAG_SIGNATURE_WRONG: (
            "another key signed the dock's manifest, under the dock's key id and certificate",
            _hidden(_signed_by(good, signing_key("somebody else"))),
        ),
        FindingCode.BAG_MANIFEST_DIFFERS: (
            "recording.json names another officer than the dock's manifest",
            _hidden(other_officer),
        ),
        FindingCode.BAG_CERTIFICATE_WRONG: (
            "another authority issued the dock's certificate",
            _hidden({**good, DOCK_CERTIFICATE: _certificate_of_another_authority()}),
        ),
        FindingCode.BAG_UNSAFE_PATH: (
            "the manifest names a file outside the bag",
            _hidden({**good, MANIFEST_SHA256: outside}),
        ),
    }


def _swapped(bag: Bag, path: str, old: bytes, new: bytes) -> Bag:
    if bag[path].count(old) != 1:
        raise ValueError(f"{old!r} does not stand once in {path}")
    return {**bag, path: bag[path].replace(old, new)}


def _hidden(bag: Bag) -> Bag:
    """Make the tag manifest right again."""
    tags = {
        path: data
        for path, data in bag.items()
        if path != TAG_MANIFEST and not path.startswith(f"{DATA}/")
    }
    return {**bag, TAG_MANIFEST: tag_manifest(tags)}


def _signed_by(bag: Bag, key: SigningKey) -> Bag:
    """Put another key's signature over the same bytes, and leave the dock's key id beside it."""
    sealed = take_apart(bag[ENVELOPE])
    signature = key.sign(pre_authentication_encoding(sealed.payload_type, sealed.payload))
    envelope = _swapped(bag, ENVELOPE, b64encode(sealed.signature), b64encode(signature))[ENVELOPE]
    return {**bag, ENVELOPE: envelope, SIGNATURE: signature}


def _certificate_of_another_authority() -> bytes:
    """Return a certificate of the dock's key, by an Ed25519 key, which signs alike each time."""
    issuer = Ed25519PrivateKey.from_private_bytes(bytes(32))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name(DOCK))
        .issuer_name(_name("Another site's authority"))
        .public_key(_dock_key())
        .serial_number(1)
        .not_valid_before(_VALIDITY.begins)
        .not_valid_after(_VALIDITY.ends)
        .sign(issuer, None)
    )
    return certificate_pem(certificate)


def _dock_key() -> Ed25519PublicKey:
    key = load_der_public_key(public_key(DOCK))
    assert isinstance(key, Ed25519PublicKey)  # noqa: S101 - tells mypy what samples makes
    return key


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True).encode() + b"\n"
