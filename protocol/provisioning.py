"""The file on a USB key that makes a bare machine one dock of one site.

The archive writes it, the dock takes it in once. It holds private keys: whoever has it is the dock.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta

from protocol import strict_json
from protocol.identifiers import DockField
from protocol.strict_json import Message

FILE_NAME: Final = "bayward-dock.json"
RESULT_NAME: Final = "bayward-dock.result.txt"
# By which a key is known before anything on it is looked at; FAT knows upper case alone.
VOLUME_LABEL: Final = "BAYWARD"
MAX_BYTES: Final = 1 << 20

# A PEM of one key or certificate is below 4 KiB.
_Pem = Annotated[str, Meta(min_length=1, max_length=1 << 16)]
_Address = Annotated[str, Meta(pattern=r"^[0-9a-fA-F.:]{2,45}(/[0-9]{1,3})?$")]


class Keys(Message, frozen=True, kw_only=True):
    """The PEM files of a dock; each stands at `PEM_FILES` below /etc/bayward/pki."""

    ca: _Pem
    tls_certificate: _Pem
    tls_key: _Pem
    signing_certificate: _Pem
    signing_key: _Pem
    archive_signing_certificate: _Pem


PEM_FILES: Final = {
    "ca": "ca.pem",
    "tls_certificate": "tls.pem",
    "tls_key": "tls.key",
    "signing_certificate": "signing.pem",
    "signing_key": "signing.key",
    "archive_signing_certificate": "archive-signing.pem",
}


class DockKey(Message, frozen=True, kw_only=True):
    """Everything that a dock needs to know.

    Attributes:
        edge_toml: The dock's configuration; without ``[[bays]]``, the dock's own map is used.
        addresses: Those that the dock may connect to and no others, in systemd's notation.
    """

    format: Literal["bayward-dock/1"]
    dock: DockField
    edge_toml: Annotated[str, Meta(min_length=1, max_length=1 << 18)]
    addresses: Annotated[tuple[_Address, ...], Meta(min_length=1, max_length=16)]
    keys: Keys


def parse(untrusted: bytes) -> DockKey:
    """Return what a key says.

    Raises:
        ProtocolError: It is none; see `strict_json.parse`.
    """
    return strict_json.parse(untrusted, DockKey, max_bytes=MAX_BYTES)


def encode(key: DockKey) -> bytes:
    """Return the file's bytes."""
    return strict_json.encode(key)
