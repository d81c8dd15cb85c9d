"""Names that every file system keeps as they are: ext4, FAT, NTFS, ISO 9660 with Joliet.

The name below data/ is ours; what the recorder called the file stands, byte for byte, in
bayward/recording.json and in the dock's signed manifest.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

from protocol.manifest import FileName

MAX_NAME_BYTES: Final = 180
SUBSTITUTE: Final = "_"

# ASCII beside letters and digits that no file system and no BagIt manifest reads as something
# else; RFC 8493 section 2.1.3 encodes "%", so it is not among them.
_ASCII_KEPT: Final = frozenset(" -_.,+=@()[]~")
_CATEGORIES_KEPT: Final = frozenset({"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Nd", "Nl", "No"})
# Letters and marks that draw nothing, so that two names would look the same
# (Default_Ignorable_Code_Point in Unicode's DerivedCoreProperties).
_INVISIBLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
# Windows has these devices in every folder, whatever follows the first dot.
_DEVICE: Final = re.compile(
    r"(?:con|prn|aux|nul|(?:com|lpt)[0-9\u00b9\u00b2\u00b3]) *(?:\.|\Z)", re.IGNORECASE
)
# A dot hides, a dash is an option, a tilde is somebody's home.
_FIRST_REFUSED: Final = frozenset(" .-~")
_LAST_REFUSED: Final = " ."
_MAX_EXTENSION_BYTES: Final = 24


def safe_names(names: Sequence[FileName]) -> tuple[str, ...]:
    """Return one safe file name for each of *names*, in their order.

    No two are equal, not even where case is ignored and accents are composed; of equal ones each
    after the first is numbered: ``x.MP4``, ``x~2.MP4``. The same names give the same result, and
    safe names come back unchanged.
    """
    taken: set[str] = set()
    last_numbers: dict[str, int] = {}
    return tuple(_unique(safe_name(name.path), taken, last_numbers) for name in names)


def safe_name(untrusted_path: str) -> str:
    """Return the last component of a path as a safe file name, which others may have as well.

    It is 1 to MAX_NAME_BYTES bytes of UTF-8, in NFC, and keeps the extension; letters and digits
    of any script stay, anything else that could be misread becomes ``_``.
    """
    name = unicodedata.normalize("NFC", untrusted_path.rpartition("/")[2])
    kept = "".join(character if _is_kept(character) else SUBSTITUTE for character in name)
    return _fitted(_mended(kept))


def is_safe_name(name: str) -> bool:
    """Return whether *name* is one that `safe_name` gives."""
    return safe_name(name) == name


def _is_kept(character: str) -> bool:
    if character.isascii():
        return character.isalnum() or character in _ASCII_KEPT
    return unicodedata.category(character) in _CATEGORIES_KEPT and not _INVISIBLE.match(character)


def _mended(name: str) -> str:
    """Mend what is wrong at the two ends; a name is never left empty."""
    name = name.rstrip(_LAST_REFUSED)
    if not name or _DEVICE.match(name):
        return SUBSTITUTE + name
    if name[0] in _FIRST_REFUSED or unicodedata.category(name[0]).startswith("M"):
        return SUBSTITUTE + name[1:]
    return name


def _fitted(name: str, *, number: int = 1) -> str:
    """Shorten the stem until the name, with its number if it has one, is short enough."""
    stem, extension = _split(name)
    suffix = extension if number == 1 else f"~{number}{extension}"
    room = MAX_NAME_BYTES - len(suffix.encode())
    if len(stem.encode()) > room:
        stem = stem.encode()[:room].decode(errors="ignore")
    return stem + suffix if suffix else stem.rstrip(_LAST_REFUSED)


def _split(name: str) -> tuple[str, str]:
    """Return stem and extension with its dot; a very long one is no extension."""
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension.encode()) >= _MAX_EXTENSION_BYTES:
        return name, ""
    return stem, dot + extension


def _unique(name: str, taken: set[str], last_numbers: dict[str, int]) -> str:
    number = last_numbers.get(name, 1)
    numbered = _fitted(name, number=number)
    while not taken.isdisjoint(_lookalikes(numbered)):
        number += 1
        numbered = _fitted(name, number=number)
    last_numbers[name] = number
    taken.update(_lookalikes(numbered))
    return numbered


def _lookalikes(name: str) -> set[str]:
    """Return what file systems that ignore case compare: folded, and in capitals."""
    return {
        unicodedata.normalize("NFC", form)
        for form in (unicodedata.normalize("NFD", name).casefold(), name.upper())
    }
