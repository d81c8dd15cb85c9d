"""Load Ed25519 keys from files; what a key does is in protocol.keys."""

import os
import stat
from pathlib import Path
from typing import Final

from protocol.errors import KeyFormatError
from protocol.keys import SigningKey, VerifyingKey
from runtime.errors import KeyExposedError, KeyUnusableError

_MAX_PEM_BYTES: Final = 1 << 16  # a PEM of one key or certificate is below 4 KiB
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def load_signing_key(path: Path) -> SigningKey:
    """Load a private key from an unencrypted PKCS#8 PEM file.

    Raises:
        KeyExposedError: Others than the file's owner have any right to it.
        KeyUnusableError: It does not hold an Ed25519 private key.
        OSError: The file cannot be read.
    """
    pem = _read(path, private=True)
    try:
        return SigningKey.from_private_pem(pem)
    except KeyFormatError as error:
        raise KeyUnusableError(path, problem=str(error)) from None


def load_certificate_key(path: Path) -> VerifyingKey:
    """Load the public key of a PEM certificate, whose own signature is *not* checked here.

    Raises:
        KeyUnusableError: It does not hold a certificate of an Ed25519 key.
        OSError: The file cannot be read.
    """
    pem = _read(path, private=False)
    try:
        return VerifyingKey.from_certificate_pem(pem)
    except KeyFormatError as error:
        raise KeyUnusableError(path, problem=str(error)) from None


def refuse_exposed(path: Path, *, mode: int) -> None:
    """Check the mode of a private key file.

    Args:
        path: For the error's text.
        mode: As in `os.stat_result.st_mode`.

    Raises:
        KeyExposedError: Others than the file's owner have any right to it.
    """
    if mode & _OTHERS:
        raise KeyExposedError(path, mode=stat.S_IMODE(mode))


def _read(path: Path, *, private: bool) -> bytes:
    with path.open("rb") as file:
        if private:
            refuse_exposed(path, mode=os.fstat(file.fileno()).st_mode)
        pem = file.read(_MAX_PEM_BYTES + 1)
    if len(pem) > _MAX_PEM_BYTES:
        raise KeyUnusableError(path, problem=f"longer than {_MAX_PEM_BYTES} bytes")
    return pem
