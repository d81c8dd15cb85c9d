"""Text as a recorder gives it: GBK by name, in fields of fixed size."""

from dataclasses import dataclass
from typing import Final, Self

# A choice: the longest field of any layout that we know has 33 bytes, a length prefix one byte.
MAX_TEXT_BYTES: Final = 255
_PADDING: Final = b"\0 "


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceText:
    r"""What a field says, beside its exact bytes.

    Attributes:
        raw: The field, whole: padding and what stands behind a NUL too.
        text: Up to the first NUL, without the padding behind it. A byte that is no GBK, such as
            half a character, is shown as ``\xNN``.
        is_printable: Whether all of *text* is GBK and can be shown as it is.
    """

    raw: bytes
    text: str
    is_printable: bool

    @classmethod
    def decode(cls, untrusted: bytes) -> Self:
        """Return what *untrusted* says; never fails.

        Raises:
            ValueError: More than MAX_TEXT_BYTES: the caller's own bound is wrong.
        """
        if len(untrusted) > MAX_TEXT_BYTES:
            raise ValueError(f"{len(untrusted)} bytes in one field")
        said = untrusted.partition(b"\0")[0].rstrip(_PADDING)
        text = said.decode("gbk", errors="backslashreplace")
        try:
            said.decode("gbk")
        except UnicodeDecodeError:
            return cls(raw=untrusted, text=text, is_printable=False)
        return cls(raw=untrusted, text=text, is_printable=text.isprintable())

    @property
    def is_blank(self) -> bool:
        """Whether the field says nothing; bytes behind a NUL are something."""
        return not self.raw.strip(_PADDING)
