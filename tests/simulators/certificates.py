"""A site's certificate authority in miniature, with the files where docs/architecture.md puts them.

Signs for real; only what `server-agent pki` decides (lifetimes, renewal) is not here.
"""

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

_LIFETIME: Final = dt.timedelta(days=2)
EXPIRED: Final = dt.timedelta(minutes=-1)
_LOCAL: Final = ("127.0.0.1", "localhost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The PEM files of a certificate and its private key."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates into ``<directory>/<name>/``; its own are ca.pem and ca.key."""

    def __init__(self, directory: Path, *, common_name: str = "Test site") -> None:
        self.directory = directory
        self.ca = directory / "ca.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(common_name)
        certificate = (
            _builder(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        directory.mkdir(parents=True, exist_ok=True)
        _write(Pair(certificate=self.ca, key=directory / "ca.key"), certificate, self._key)

    def issue_tls(
        self,
        common_name: str,
        *,
        hosts: Sequence[str] = _LOCAL,
        lifetime: dt.timedelta = _LIFETIME,
    ) -> Pair:
        """Sign an EC P-256 certificate that can be a client's, and a server's at *hosts*.

        Issuing again renews: both files are written anew.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            self._leaf(common_name, key.public_key(), lifetime)
            .add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), False)  # noqa: FBT003 -- cryptography's own signature
            .sign(self._key, hashes.SHA256())
        )
        return _write(self._pair(common_name, "tls"), certificate, key)

    def issue_signing(self, common_name: str) -> Pair:
        """Sign an Ed25519 certificate for signing manifests or receipts."""
        key = ed25519.Ed25519PrivateKey.generate()
        certificate = self._leaf(common_name, key.public_key()).sign(self._key, hashes.SHA256())
        return _write(self._pair(common_name, "signing"), certificate, key)

    def _pair(self, common_name: str, purpose: str) -> Pair:
        folder = self.directory / common_name
        folder.mkdir(exist_ok=True)
        return Pair(certificate=folder / f"{purpose}.pem", key=folder / f"{purpose}.key")

    def _leaf(
        self,
        common_name: str,
        public: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey,
        lifetime: dt.timedelta = _LIFETIME,
    ) -> x509.CertificateBuilder:
        return (
            _builder(_name(common_name), self._name, public, lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey,
    lifetime: dt.timedelta = _LIFETIME,
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _LIFETIME)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _write(
    pair: Pair,
    certificate: x509.Certificate,
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey,
) -> Pair:
    pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pair.key.touch(mode=0o600)
    pair.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return pair
