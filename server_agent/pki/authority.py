"""The site's certificate authority: who is who on an isolated network.

Profiles follow RFC 5280 as OpenSSL's strict mode reads it. TLS keys are EC P-256, signing keys
Ed25519, which TLS stacks and ``openssl pkeyutl`` of today both know.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Flag, auto
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from server_agent.pki.errors import AuthorityUnusableError, HostNameError

# A choice: the footage outlives every machine; the authority lasts as long as a site's hardware.
CA_DAYS: Final = 3_652
LEAF_DAYS: Final = 1_826

# Machines without a network clock disagree; a certificate is good on the slow one as well.
_BACKDATED: Final = timedelta(days=1)
_DNS_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?", re.IGNORECASE)
_MAX_DNS_CHARACTERS: Final = 253

TlsKey = ec.EllipticCurvePrivateKey
SigningKey = ed25519.Ed25519PrivateKey
LeafKey = TlsKey | SigningKey


class TlsRole(Flag):
    """Which ends of a TLS connection a certificate may stand at."""

    CLIENT = auto()
    SERVER = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """When a certificate begins to hold, and when it ends; aware, whole seconds."""

    begins: datetime
    ends: datetime

    @classmethod
    def starting(cls, now_utc: datetime, *, days: int) -> Self:
        """Return the validity of *days* days from now, and of a day before."""
        now_utc = now_utc.astimezone(UTC).replace(microsecond=0)
        return cls(begins=now_utc - _BACKDATED, ends=now_utc + timedelta(days=days))


def new_tls_key() -> TlsKey:
    """Return a new EC P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def new_signing_key() -> SigningKey:
    """Return a new Ed25519 key."""
    return SigningKey.generate()


def private_pem(key: LeafKey) -> bytes:
    """Return a key as unencrypted PKCS#8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def self_signed(key: TlsKey, validity: Validity) -> x509.Certificate:
    """Return the certificate of a new authority, whose name holds a part of its key's digest."""
    public = key.public_key()
    digest = x509.SubjectKeyIdentifier.from_public_key(public).digest.hex()
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Bayward"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Site authority {digest[:8]}"),
        ]
    )
    return (
        _builder(name, name, public, public, validity)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


class Authority:
    """A site's authority: its certificate and the private key that belongs to it."""

    def __init__(self, certificate: x509.Certificate, key: TlsKey) -> None:
        if certificate.public_key() != key.public_key():
            raise AuthorityUnusableError("ca.key is not the private key of ca.pem")
        self.certificate = certificate
        self._key = key

    def issue_tls(
        self,
        common_name: str,
        public: ec.EllipticCurvePublicKey,
        validity: Validity,
        *,
        role: TlsRole,
        hosts: Sequence[str],
    ) -> x509.Certificate:
        """Return a TLS certificate.

        Args:
            common_name: Who it is for; the broker takes it for the user's name.
            public: Its key.
            validity: Cut to the authority's own.
            role: Which ends of a connection it may stand at.
            hosts: DNS names and addresses that it vouches for; for a client, its own name.

        Raises:
            HostNameError: One of *hosts* is neither a DNS name nor an address.
        """
        usages = [
            usage
            for wanted, usage in (
                (TlsRole.SERVER, ExtendedKeyUsageOID.SERVER_AUTH),
                (TlsRole.CLIENT, ExtendedKeyUsageOID.CLIENT_AUTH),
            )
            if wanted in role
        ]
        names = [general_name(host) for host in hosts]
        return (
            self._leaf(common_name, public, validity)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def issue_signing(
        self, common_name: str, public: ed25519.Ed25519PublicKey, validity: Validity
    ) -> x509.Certificate:
        """Return the certificate of a key that signs statements, and does nothing else."""
        return self._leaf(common_name, public, validity).sign(self._key, hashes.SHA256())

    def _leaf(
        self,
        common_name: str,
        public: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey,
        validity: Validity,
    ) -> x509.CertificateBuilder:
        own = self.certificate
        cut = Validity(
            begins=max(validity.begins, own.not_valid_before_utc),
            ends=min(validity.ends, own.not_valid_after_utc),
        )
        if cut.begins >= cut.ends:
            raise AuthorityUnusableError(f"ca.pem ended on {own.not_valid_after_utc:%Y-%m-%d}")
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        return (
            _builder(subject, own.subject, public, self._key.public_key(), cut)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
        )


def general_name(host: str) -> x509.GeneralName:
    """Return a DNS name or an address as a certificate names it.

    Raises:
        HostNameError: It is neither.
    """
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        labels = host.split(".")
        if len(host) > _MAX_DNS_CHARACTERS or not all(map(_DNS_LABEL.fullmatch, labels)):
            raise HostNameError(f"{host!r} is neither a DNS name nor an address") from None
        return x509.DNSName(host)


def host_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the DNS names and addresses that a certificate vouches for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = names.get_values_for_type(x509.IPAddress)
    return (*names.get_values_for_type(x509.DNSName), *map(str, addresses))


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey,
    issuer_public: ec.EllipticCurvePublicKey,
    validity: Validity,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity.begins)
        .not_valid_after(validity.ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_public), critical=False
        )
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
