"""Mutual TLS between a site's machines: its own authority vouches, and no other."""

import ssl
from pathlib import Path
from typing import Final, cast

from runtime.errors import KeyUnusableError
from runtime.keys import refuse_exposed

_COMMON_NAME: Final = "commonName"


def client_context(*, ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """Return a context for connections that we open: TLS 1.3, or 1.2 where the other end is old.

    The other end must show a certificate of *ca* for the very name or address that we connect to.

    Args:
        ca: PEM of the authority; the system's authorities are not asked.
        certificate: PEM of our own certificate.
        key: PEM of its private key, 0600, not encrypted.

    Raises:
        KeyExposedError: Others than its owner have any right to *key*.
        KeyUnusableError: A file is not what it should be, or key and certificate do not match.
        OSError: A file cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslsocket_class = _TidySocket
    _load(context, ca=ca, certificate=certificate, key=key)
    return context


def server_context(*, ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """Return a context for connections that others open; they must show a certificate of *ca*.

    With TLS 1.3 a client without one believes it is connected until it first reads. Sessions are
    not resumed, so that each connection is checked anew.

    Args and Raises: as for `client_context`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET | ssl.OP_CIPHER_SERVER_PREFERENCE
    _load(context, ca=ca, certificate=certificate, key=key)
    return context


def peer_common_name(connection: ssl.SSLObject | ssl.SSLSocket | None) -> str | None:
    """Return who the other end is, by its verified certificate.

    Returns:
        The certificate's one common name; None without TLS, without a verified certificate, or
        if it has no or several names.
    """
    certificate = connection.getpeercert() if connection is not None else None
    if not certificate:
        return None
    subject = cast("tuple[tuple[tuple[str, str], ...], ...]", certificate.get("subject", ()))
    names = [value for relative in subject for key, value in relative if key == _COMMON_NAME]
    return names[0] if len(names) == 1 else None


class _TidySocket(ssl.SSLSocket):
    """Closes itself when its handshake fails; paho would leave that to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 -- ssl's signature
        try:
            super().do_handshake(block)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except BaseException:
            self.close()
            raise


def _load(context: ssl.SSLContext, *, ca: Path, certificate: Path, key: Path) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    refuse_exposed(key, mode=key.stat().st_mode)
    try:
        context.load_verify_locations(cafile=ca)
    except ssl.SSLError as error:
        raise KeyUnusableError(ca, problem=f"not a certificate: {error.reason}") from None
    try:
        # An empty password, so that an encrypted key fails instead of asking on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        problem = f"not the private key of {certificate}: {error.reason}"
        raise KeyUnusableError(key, problem=problem) from None
