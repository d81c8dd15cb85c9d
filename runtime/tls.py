"""Mutual TLS between a site's machines: its own authority vouches, and no other.

A certificate that was renewed on the disk is shown by the next connection, without a restart.
"""

import logging
import ssl
import threading
from pathlib import Path
from typing import Any, Final, cast

from runtime.errors import KeyUnusableError, RuntimeFault
from runtime.keys import refuse_exposed

_COMMON_NAME: Final = "commonName"

_log = logging.getLogger(__name__)
_Stamp = tuple[int, int, int, int]


def client_context(*, ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """Return a context for connections that we open: TLS 1.3, or 1.2 where the other end is old.

    The other end must show a certificate of *ca* for the very name or address that we connect to.

    Args:
        ca: PEM of the authority; the system's authorities are not asked. Another authority needs
            a restart.
        certificate: PEM of our own certificate. Each new connection shows what the two files hold
            by then; while they do not belong together, what they held before.
        key: PEM of its private key, 0600, not encrypted.

    Raises:
        KeyExposedError: Others than its owner have any right to *key*.
        KeyUnusableError: A file is not what it should be, or key and certificate do not match.
        OSError: A file cannot be read.
    """
    context = _RenewedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslsocket_class = _TidySocket
    context.begin(ca=ca, certificate=certificate, key=key)
    return context


def server_context(*, ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """Return a context for connections that others open; they must show a certificate of *ca*.

    With TLS 1.3 a client without one believes it is connected until it first reads. Sessions are
    not resumed, so that each connection is checked anew.

    Args and Raises: as for `client_context`.
    """
    context = _RenewedContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.begin(ca=ca, certificate=certificate, key=key)
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


class _RenewedContext(ssl.SSLContext):
    """Looks at its files whenever a connection begins; asyncio, uvloop and paho all come by here.

    Connections that are open keep the certificate they began with.
    """

    _files: tuple[Path, Path]
    _loaded: tuple[_Stamp, ...]
    _turn: threading.Lock  # paho connects in a thread of its own

    def begin(self, *, ca: Path, certificate: Path, key: Path) -> None:
        """Load everything for the first time; raises as `client_context`."""
        self.minimum_version = ssl.TLSVersion.TLSv1_2
        self.options |= ssl.OP_NO_RENEGOTIATION
        self._files, self._turn = (certificate, key), threading.Lock()
        self._loaded = _stamps(certificate, key)
        refuse_exposed(key, mode=key.stat().st_mode)
        try:
            self.load_verify_locations(cafile=ca)
        except ssl.SSLError as error:
            raise KeyUnusableError(ca, problem=f"not a certificate: {error.reason}") from None
        _show(self, certificate, key)

    def wrap_bio(self, *args: Any, **named: Any) -> ssl.SSLObject:
        """As `ssl.SSLContext.wrap_bio`."""
        with self._turn:
            self._renew()
            return super().wrap_bio(*args, **named)

    def wrap_socket(self, *args: Any, **named: Any) -> ssl.SSLSocket:
        """As `ssl.SSLContext.wrap_socket`."""
        with self._turn:
            self._renew()
            return super().wrap_socket(*args, **named)

    def _renew(self) -> None:
        certificate, key = self._files
        try:
            found = _stamps(certificate, key)
            if found == self._loaded:
                return
            refuse_exposed(key, mode=key.stat().st_mode)
            # Whoever renews writes one file after the other: a trial first, so that this context
            # is never left with the certificate of one key and the key of another.
            _show(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificate, key)
            _show(self, certificate, key)
        except (OSError, RuntimeFault) as error:
            _log.warning("the new certificate %s cannot be used: %s", certificate, error)
            return
        self._loaded = found
        _log.info("the certificate %s was renewed", certificate)


def _stamps(*files: Path) -> tuple[_Stamp, ...]:
    found = [file.stat() for file in files]
    return tuple((one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for one in found)


def _show(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    try:
        # An empty password, so that an encrypted key fails instead of asking on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        problem = f"not the private key of {certificate}: {error.reason}"
        raise KeyUnusableError(key, problem=problem) from None
