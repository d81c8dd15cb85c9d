import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from protocol.envelope import (
    keyring,
    open_statement,
    pre_authentication_encoding,
    seal,
    take_apart,
)
from protocol.errors import ProtocolError, SignatureError, UnknownKeyError
from protocol.keys import SigningKey
from protocol.manifest import Manifest
from protocol.versions import Statement, payload_type

KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(32)))
OTHER = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\x01"))


def test_pre_authentication_encoding_is_dsse() -> None:
    """The signed bytes are the ones of the DSSE specification's own example."""
    encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")

    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


@given(payload=st.binary(max_size=500), statement=st.sampled_from(Statement))
def test_sealed_bytes_come_back_exactly(payload: bytes, statement: Statement) -> None:
    """Whatever was sealed is verified and comes back byte for byte."""
    sealed = take_apart(seal(payload, statement, KEY))
    sealed.verify(keyring(KEY.public))

    assert (sealed.payload, sealed.payload_type) == (payload, payload_type(statement))


@given(payload=st.binary(max_size=200), data=st.data())
def test_any_changed_bit_is_refused(payload: bytes, data: st.DataObject) -> None:
    """An envelope with one bit changed never verifies as something else."""
    good = seal(payload, Statement.MANIFEST, KEY)
    at = data.draw(st.integers(0, len(good) - 1))
    changed = bytearray(good)
    changed[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        sealed = take_apart(bytes(changed))
        sealed.verify(keyring(KEY.public))
    except ProtocolError:
        return

    assert (sealed.payload, sealed.payload_type) == (payload, payload_type(Statement.MANIFEST))


@given(untrusted=st.binary(max_size=300))
def test_any_bytes_parse_or_are_refused(untrusted: bytes) -> None:
    """Arbitrary bytes raise a ProtocolError and never anything else."""
    with pytest.raises(ProtocolError):
        open_statement(untrusted, Statement.MANIFEST, Manifest, keyring(KEY.public))


@given(untrusted=st.binary(max_size=300))
def test_any_signed_bytes_parse_or_are_refused(untrusted: bytes) -> None:
    """Even a trusted key's signature over garbage raises a ProtocolError and nothing else."""
    sealed = seal(untrusted, Statement.MANIFEST, KEY)

    with pytest.raises(ProtocolError):
        open_statement(sealed, Statement.MANIFEST, Manifest, keyring(KEY.public))


def test_key_that_is_not_in_the_ring_is_unknown() -> None:
    """A signature by a key that may not sign here is refused before it is checked."""
    with pytest.raises(UnknownKeyError):
        take_apart(seal(b"x", Statement.MANIFEST, OTHER)).verify(keyring(KEY.public))


def test_signature_does_not_move_to_another_type() -> None:
    """A manifest's signature is none over the same bytes as a receipt."""
    good = seal(b"{}", Statement.MANIFEST, KEY)
    moved = good.replace(b"bayward.manifest", b"bayward.receipt!")

    with pytest.raises(SignatureError):
        take_apart(moved).verify(keyring(KEY.public))


def test_openssl_agrees(tmp_path: Path) -> None:
    """OpenSSL verifies our signature over the pre-authentication encoding, and no other bytes."""
    sealed = take_apart(seal(b"evidence", Statement.MANIFEST, KEY))
    (tmp_path / "key.der").write_bytes(KEY.public.spki_der)
    (tmp_path / "sig").write_bytes(sealed.signature)
    for name, payload, status in (("good", b"evidence", 0), ("bad", b"Evidence", 1)):
        signed = pre_authentication_encoding(sealed.payload_type, payload)
        (tmp_path / name).write_bytes(signed)
        command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "key.der", "-rawin"]
        command += ["-keyform", "DER", "-in", name, "-sigfile", "sig"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == status, done.stderr
