"""DSSE envelopes: exact bytes, signed; verified first, parsed after.

Source:
    DSSE 1.0.2, https://github.com/secure-systems-lab/dsse: protocol.md, envelope.md.
"""

import binascii
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, TypeVar

from msgspec import Meta, Struct, field

from protocol import strict_json
from protocol.errors import (
    EnvelopeError,
    MalformedError,
    SchemaError,
    SignatureError,
    UnknownKeyError,
    UnknownTypeError,
)
from protocol.keys import KeyId, SigningKey, VerifyingKey
from protocol.strict_json import Message
from protocol.versions import Statement, parse_payload_type, payload_type

S = TypeVar("S", bound=Struct)

# 2,000 files of one manifest are about 1 MiB; hostile names of 4 KiB each would make 12 MiB.
MAX_ENVELOPE_BYTES: Final = 32 * 1024 * 1024
# With its topic and MQTT's properties. One figure for broker and clients: a broker drops what its
# receiver does not admit, and tells nobody.
MAX_PACKET_BYTES: Final = MAX_ENVELOPE_BYTES + 64 * 1024
_SIGNATURE_BYTES: Final = 64


class _Signature(Message, frozen=True, kw_only=True):
    keyid: Annotated[str, Meta(max_length=128)]
    sig: Annotated[str, Meta(max_length=256)]


class _Envelope(Message, frozen=True, kw_only=True):
    payload: str
    payload_type: Annotated[str, Meta(max_length=128)] = field(name="payloadType")
    signatures: Annotated[tuple[_Signature, ...], Meta(min_length=1, max_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """An envelope taken apart; ``payload`` is untrusted until ``verify`` has returned."""

    payload: bytes
    payload_type: str
    key_id: KeyId
    signature: bytes

    def verify(self, keys: Mapping[KeyId, VerifyingKey]) -> None:
        """Return when one of *keys* signed exactly this payload as this payload type.

        Raises:
            UnknownKeyError: The envelope names none of *keys*.
            SignatureError: The named key did not sign these bytes.
        """
        key = keys.get(self.key_id)
        if key is None:
            raise UnknownKeyError(f"key {self.key_id[:80]!r} may not sign here")
        if not key.verify(
            self.signature, pre_authentication_encoding(self.payload_type, self.payload)
        ):
            raise SignatureError(f"not signed by {self.key_id}")


def pre_authentication_encoding(type_: str, payload: bytes) -> bytes:
    """Return the bytes that are signed: DSSEv1, both lengths, type and payload."""
    name = type_.encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(payload), payload)


def seal(payload: bytes, statement: Statement, key: SigningKey) -> bytes:
    """Return an envelope over exactly *payload*, signed by *key*."""
    type_ = payload_type(statement)
    signature = key.sign(pre_authentication_encoding(type_, payload))
    return strict_json.encode(
        _Envelope(
            payload=b64encode(payload).decode(),
            payload_type=type_,
            signatures=(_Signature(keyid=key.key_id, sig=b64encode(signature).decode()),),
        )
    )


def _decoded(text: str, what: str) -> bytes:
    try:
        # Strict: the lenient decoder skips characters outside the alphabet,
        # and two texts would then be one message.
        return binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise EnvelopeError(f"{what} is not base64: {error}") from None


def take_apart(untrusted: bytes, *, max_bytes: int = MAX_ENVELOPE_BYTES) -> Sealed:
    """Return the parts of an envelope, *not yet verified*.

    Raises:
        TooLargeError: More than *max_bytes*.
        EnvelopeError: Not a DSSE envelope with exactly one signature of 64 bytes.
    """
    try:
        envelope = strict_json.parse(untrusted, _Envelope, max_bytes=max_bytes)
    except (MalformedError, SchemaError) as error:
        raise EnvelopeError(str(error)) from None
    signature = _decoded(envelope.signatures[0].sig, "the signature")
    if len(signature) != _SIGNATURE_BYTES:
        raise EnvelopeError(f"a signature of {len(signature)} bytes")
    return Sealed(
        payload=_decoded(envelope.payload, "the payload"),
        payload_type=envelope.payload_type,
        key_id=KeyId(envelope.signatures[0].keyid),
        signature=signature,
    )


def parse_statement(sealed: Sealed, statement: Statement, type_: type[S]) -> S:
    """Return the payload of a *verified* envelope as a *type_*.

    Raises:
        UnknownTypeError, UnknownVersionError: The payload is no *statement* that we read.
        ProtocolError: From strict_json.parse.
    """
    found, _ = parse_payload_type(sealed.payload_type)
    if found is not statement:
        raise UnknownTypeError(f"a {found.value}, where a {statement.value} was expected")
    return strict_json.parse(sealed.payload, type_, max_bytes=MAX_ENVELOPE_BYTES)


def sign_statement(value: Struct, statement: Statement, key: SigningKey) -> bytes:
    """Return *value* as JSON in an envelope signed by *key*."""
    return seal(strict_json.encode(value), statement, key)


def open_statement(
    untrusted: bytes, statement: Statement, type_: type[S], keys: Mapping[KeyId, VerifyingKey]
) -> S:
    """Take apart, verify, then parse.

    Raises:
        ProtocolError: Whichever of the three steps failed first.
    """
    sealed = take_apart(untrusted)
    sealed.verify(keys)
    return parse_statement(sealed, statement, type_)


def keyring(*keys: VerifyingKey) -> Mapping[KeyId, VerifyingKey]:
    """Return *keys* by their ids."""
    return {key.key_id: key for key in keys}


__all__ = [
    "MAX_ENVELOPE_BYTES",
    "MAX_PACKET_BYTES",
    "Sealed",
    "keyring",
    "open_statement",
    "parse_statement",
    "pre_authentication_encoding",
    "seal",
    "sign_statement",
    "take_apart",
]
