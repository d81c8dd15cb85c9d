"""Ed25519 keys by what they do: sign exact bytes, verify exact bytes."""

import hashlib
from typing import Final, NewType

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from protocol.errors import KeyFormatError

KeyId = NewType("KeyId", str)

_ALGORITHM: Final = "ed25519"
_KEY_ID_DIGITS: Final = 32


class VerifyingKey:
    """A public key; equal keys have equal ids. ``raw`` is its 32 bytes of RFC 8032."""

    def __init__(self, public: Ed25519PublicKey) -> None:
        self._public = public
        self.spki_der = public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        digest = hashlib.sha256(self.spki_der).hexdigest()
        self.key_id = KeyId(f"{_ALGORITHM}:{digest[:_KEY_ID_DIGITS]}")

    @classmethod
    def from_spki_der(cls, untrusted: bytes) -> "VerifyingKey":
        """Return the key in a DER SubjectPublicKeyInfo.

        Raises:
            KeyFormatError: It is none, or of another algorithm.
        """
        try:
            public = serialization.load_der_public_key(untrusted)
        except (ValueError, TypeError) as error:
            raise KeyFormatError(f"not a public key: {error}") from None
        if not isinstance(public, Ed25519PublicKey):
            raise KeyFormatError("the public key is not Ed25519")
        return cls(public)

    @classmethod
    def from_certificate_pem(cls, untrusted: bytes) -> "VerifyingKey":
        """Return the key of a PEM certificate, whose own signature is *not* checked here.

        Raises:
            KeyFormatError: It is no certificate, or its key is of another algorithm.
        """
        try:
            public = x509.load_pem_x509_certificate(untrusted).public_key()
        except ValueError as error:
            raise KeyFormatError(f"not a certificate: {error}") from None
        if not isinstance(public, Ed25519PublicKey):
            raise KeyFormatError("the certificate's key is not Ed25519")
        return cls(public)

    def verify(self, signature: bytes, data: bytes) -> bool:
        """Return whether *signature* (64 bytes) is this key's over exactly *data*."""
        try:
            self._public.verify(signature, data)
        except InvalidSignature:
            return False
        return True


class SigningKey:
    """A private key; it never leaves this object."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = VerifyingKey(private.public_key())
        self.key_id = self.public.key_id

    @classmethod
    def from_private_pem(cls, pem: bytes) -> "SigningKey":
        """Return the key in an unencrypted PKCS#8 PEM.

        Raises:
            KeyFormatError: It is none, is encrypted, or of another algorithm.
        """
        try:
            private = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError) as error:
            raise KeyFormatError(f"not a private key: {error}") from None
        if not isinstance(private, Ed25519PrivateKey):
            raise KeyFormatError("the private key is not Ed25519")
        return cls(private)

    def sign(self, data: bytes) -> bytes:
        """Return the 64-byte signature over exactly *data*; the same each time."""
        return self._private.sign(data)

    def __repr__(self) -> str:
        return f"SigningKey({self.key_id})"
