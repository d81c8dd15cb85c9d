"""What can keep the site's authority from issuing a certificate."""

from runtime.errors import Retry
from server_agent.errors import ServerError


class PkiError(ServerError):
    """Base of errors of the site's certificate authority."""

    retry = Retry.NEVER


class CertificateKeptError(PkiError):
    """A certificate that is there already says something else; it is never overwritten."""

    code = "E-PKI-101"


class AuthorityUnusableError(PkiError):
    """There is no authority, it has ended, or its key and certificate do not belong together."""

    code = "E-PKI-102"


class HostNameError(PkiError):
    """A name that a certificate should vouch for is neither a DNS name nor an address."""

    code = "E-PKI-103"


class KeyFileError(PkiError):
    """A file in the authority's folder does not hold the key or certificate that it should."""

    code = "E-PKI-104"
