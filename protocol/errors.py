"""What can be wrong with bytes that somebody sent us.

Parsing raises one of these and never anything else. A verdict about evidence
is not an exception: see protocol.findings.
"""

from typing import ClassVar


class ProtocolError(Exception):
    """Base of every error in received bytes; ``code`` is stable, see docs/errors.md."""

    code: ClassVar[str]


class TooLargeError(ProtocolError):
    """A message is longer than its kind may be; nothing of it was parsed."""

    code = "E-PRO-101"


class MalformedError(ProtocolError):
    """The bytes are not one JSON value in UTF-8, or are nested too deeply."""

    code = "E-PRO-102"


class DuplicateKeyError(ProtocolError):
    """An object names one key twice: two readers could see two truths."""

    code = "E-PRO-103"


class SchemaError(ProtocolError):
    """A field is missing, unknown, of another type or out of its bounds."""

    code = "E-PRO-104"


class UnknownTypeError(ProtocolError):
    """The payload type is none of ours."""

    code = "E-PRO-105"


class UnknownVersionError(ProtocolError):
    """The payload type is ours, in a version this release cannot read."""

    code = "E-PRO-106"


class EnvelopeError(ProtocolError):
    """The envelope is not a DSSE envelope with exactly one signature of a kind we know."""

    code = "E-PRO-107"


class UnknownKeyError(ProtocolError):
    """The envelope names a key that may not sign here."""

    code = "E-PRO-108"


class SignatureError(ProtocolError):
    """The signature does not belong to these bytes and this key."""

    code = "E-PRO-109"


class IdentifierError(ProtocolError):
    """An identifier does not have the form its kind asks for."""

    code = "E-PRO-110"


class TopicError(ProtocolError):
    """A topic is none of ours."""

    code = "E-PRO-111"


class KeyFormatError(ProtocolError):
    """A key or certificate is not Ed25519 in a form we read."""

    code = "E-PRO-112"


class ProofError(ProtocolError):
    """A proof about the custody log does not show what it should."""

    code = "E-PRO-113"


class NoteError(ProtocolError):
    """The bytes are no signed note, or no checkpoint of the log that is meant."""

    code = "E-PRO-114"
