"""The folder of keys and certificates: docs/architecture.md, 'Files and keys'.

Nothing in it is ever overwritten. A key is made durable before its certificate, so whatever was
interrupted is completed by doing it again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from protocol.identifiers import DockId
from runtime.durable import make_directories, write_file
from server_agent.pki.authority import (
    CA_DAYS,
    LEAF_DAYS,
    Authority,
    LeafKey,
    SigningKey,
    TlsKey,
    TlsRole,
    Validity,
    certificate_pem,
    general_name,
    host_names,
    new_signing_key,
    new_tls_key,
    private_pem,
    self_signed,
)
from server_agent.pki.errors import (
    AuthorityUnusableError,
    CertificateKeptError,
    HostNameError,
    KeyFileError,
)

BROKER: Final = "broker"
ARCHIVE: Final = "archive"
CONSOLE: Final = "console"

_KEY_MODE: Final = 0o600
_CERTIFICATE_MODE: Final = 0o644
_FOLDER_MODE: Final = 0o755

K = TypeVar("K", bound=LeafKey)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A certificate in the folder, and whether this run made it."""

    path: Path
    certificate: x509.Certificate
    is_new: bool


class PkiFolder:
    """The site's authority and what it issued, in one folder."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = directory / "ca.pem"

    def create_authority(self, now_utc: datetime, *, days: int = CA_DAYS) -> Kept:
        """Return the site's authority, made if there is none.

        Raises:
            KeyFileError: ca.pem or ca.key is not what it should be.
            OSError: Our disk failed.
        """
        key = self._key("ca.key", new_tls_key, _read_tls_key)
        return self._kept(self.ca, lambda: self_signed(key, Validity.starting(now_utc, days=days)))

    def issue_site(
        self, hosts: Sequence[str], now_utc: datetime, *, days: int = LEAF_DAYS
    ) -> list[Kept]:
        """Return the certificates of broker, archive and console, each made if it is missing.

        Args:
            hosts: DNS names and addresses by which docks reach the broker and the archive.
            now_utc: When they begin to hold.
            days: How long they hold; not longer than the authority.

        Raises:
            PkiError: See server_agent.pki.errors.
            OSError: Our disk failed.
        """
        if not hosts:
            raise HostNameError("docks need at least one name or address to reach the broker by")
        validity = Validity.starting(now_utc, days=days)
        both = TlsRole.SERVER | TlsRole.CLIENT
        return [
            self._tls(BROKER, validity, role=TlsRole.SERVER, hosts=hosts),
            self._tls(ARCHIVE, validity, role=both, hosts=hosts),
            self._signing(ARCHIVE, validity),
            self._tls(CONSOLE, validity, role=TlsRole.CLIENT, hosts=[CONSOLE]),
            self._tls(CONSOLE, validity, role=TlsRole.SERVER, hosts=hosts, stem="web"),
        ]

    def issue_dock(self, dock: DockId, now_utc: datetime, *, days: int = LEAF_DAYS) -> list[Kept]:
        """Return a dock's two certificates, each made if it is missing.

        Args and Raises: as for `issue_site`.
        """
        validity = Validity.starting(now_utc, days=days)
        return [
            self._tls(dock, validity, role=TlsRole.CLIENT, hosts=[dock]),
            self._signing(dock, validity),
        ]

    def certificates(self) -> list[Kept]:
        """Return every certificate in the folder, the authority's first.

        Raises:
            KeyFileError: One of them is no certificate.
            OSError: Our disk failed.
        """
        paths = [self.ca, *sorted(self.directory.glob("*/*.pem"))]
        return [
            Kept(path=path, certificate=_read_certificate(path), is_new=False)
            for path in paths
            if path.is_file()
        ]

    def authority(self) -> Authority:
        """Return the site's authority, to issue with.

        Raises:
            AuthorityUnusableError: There is none, or its files do not belong together.
            KeyFileError: One of its files is not what it should be.
            OSError: Our disk failed.
        """
        path = self.directory / "ca.key"
        if not (self.ca.is_file() and path.is_file()):
            raise AuthorityUnusableError(
                f"{self.directory} has no ca.pem and ca.key; `server-agent pki init` makes them"
            )
        return Authority(_read_certificate(self.ca), _read_tls_key(path))

    def _tls(
        self,
        name: str,
        validity: Validity,
        *,
        role: TlsRole,
        hosts: Sequence[str],
        stem: str = "tls",
    ) -> Kept:
        authority = self.authority()
        wanted = [general_name(host) for host in hosts]
        key = self._key(f"{name}/{stem}.key", new_tls_key, _read_tls_key)
        path = self.directory / name / f"{stem}.pem"
        kept = self._kept(
            path,
            lambda: authority.issue_tls(name, key.public_key(), validity, role=role, hosts=hosts),
        )
        vouched = [general_name(host) for host in host_names(kept.certificate)]
        if any(host not in vouched for host in wanted):
            raise CertificateKeptError(
                f"{path} is for {', '.join(host_names(kept.certificate))}, and is never "
                f"overwritten; move it away to have one for {', '.join(hosts)}"
            )
        return self._matching(kept, key, authority)

    def _signing(self, name: str, validity: Validity) -> Kept:
        authority = self.authority()
        key = self._key(f"{name}/signing.key", new_signing_key, _read_signing_key)
        kept = self._kept(
            self.directory / name / "signing.pem",
            lambda: authority.issue_signing(name, key.public_key(), validity),
        )
        return self._matching(kept, key, authority)

    def _kept(self, path: Path, issue: Callable[[], x509.Certificate]) -> Kept:
        if path.is_file():
            return Kept(path=path, certificate=_read_certificate(path), is_new=False)
        certificate = issue()
        write_file(path, certificate_pem(certificate), mode=_CERTIFICATE_MODE)
        return Kept(path=path, certificate=certificate, is_new=True)

    def _key(self, name: str, new: Callable[[], K], read: Callable[[Path], K]) -> K:
        path = self.directory / name
        if not path.exists():
            make_directories(path.parent, mode=_FOLDER_MODE)
            write_file(path, private_pem(new()), mode=_KEY_MODE)
        return read(path)

    @staticmethod
    def _matching(kept: Kept, key: LeafKey, authority: Authority) -> Kept:
        if kept.certificate.public_key() != key.public_key():
            raise KeyFileError(f"{kept.path} is not the certificate of the key beside it")
        if kept.certificate.issuer != authority.certificate.subject:
            raise CertificateKeptError(f"{kept.path} is by another authority than ca.pem")
        return kept


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        raise KeyFileError(f"{path} is no certificate: {error}") from None


def _read_tls_key(path: Path) -> TlsKey:
    key = _read_key(path)
    if not isinstance(key, TlsKey):
        raise KeyFileError(f"{path} is a key of another kind than EC")
    return key


def _read_signing_key(path: Path) -> SigningKey:
    key = _read_key(path)
    if not isinstance(key, SigningKey):
        raise KeyFileError(f"{path} is a key of another kind than Ed25519")
    return key


def _read_key(path: Path) -> object:
    try:
        return serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"{path} is no private key that we can read: {error}") from None
