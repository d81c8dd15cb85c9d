"""Which recorder this is, from names and small files that it wrote itself."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from edge_agent.errors import UnidentifiedRecorderError
from edge_agent.ingest.profile import FileNameIdentity, KeyValueIdentity, Profile
from protocol.errors import IdentifierError
from protocol.identifiers import OfficerId, parse_officer

# A recorder's own description is a few lines; anything longer is none.
MAX_IDENTITY_FILE_BYTES: Final = 64 * 1024
_MAX_SERIAL_CHARACTERS: Final = 64
# One for each profile, in more than one spelling; not 100,000 spellings of one name.
_MAX_FILES: Final = 16
_SHOWN: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A recorder as it names itself; whether the site knows it is another question.

    Attributes:
        officer: Whose it is by its own word; the newest clip decides where clips differ. None
            where it does not say so, or not in the form of an officer's number.
    """

    serial: str
    make: str
    model: str
    officer: OfficerId | None
    profile: Profile


class _NotThisOne(Exception):  # noqa: N818 - tells one profile from the next, never leaves
    """A profile fits the volume, but what should identify the recorder is missing or unclear."""


def identity_files(profiles: Sequence[Profile], paths: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return which small files `identify` needs to know the content of."""
    wanted = {
        profile.identity.file.casefold()
        for profile in profiles
        if isinstance(profile.identity, KeyValueIdentity) and profile.fits(paths)
    }
    return tuple(sorted(path for path in paths if _folded(path) in wanted)[:_MAX_FILES])


def identify(
    profiles: Sequence[Profile], paths: Sequence[bytes], contents: Mapping[bytes, bytes]
) -> Identity:
    """Return who the recorder says it is, by every profile that fits and can tell.

    Args:
        profiles: All are tried; of several that agree the first is the recorder's.
        paths: Of all files on the volume, untrusted.
        contents: Of those of `identity_files` that could be read, untrusted.

    Raises:
        UnidentifiedRecorderError: No profile fits, none of those that fit can tell, or they name
            more than one recorder.
    """
    problems: list[str] = []
    found: dict[tuple[str, str], Identity] = {}
    for profile in profiles:
        if not profile.fits(paths):
            continue
        try:
            serial, officer = _read(profile, paths, contents)
            one = Identity(
                serial=_checked_serial(serial),
                make=profile.make,
                model=profile.model,
                officer=_officer(officer),
                profile=profile,
            )
            found.setdefault((one.model, one.serial), one)
        except _NotThisOne as problem:
            problems.append(f"{profile.name}: {problem}")
    if len(found) == 1:
        return next(iter(found.values()))
    named = ", ".join(f"{model} {serial!r}" for model, serial in found)
    if named:
        raise UnidentifiedRecorderError(f"{len(found)} recorders are named: {named}")
    raise UnidentifiedRecorderError("; ".join(problems) or "no profile fits this volume")


def _read(
    profile: Profile, paths: Sequence[bytes], contents: Mapping[bytes, bytes]
) -> tuple[str, str | None]:
    if isinstance(profile.identity, FileNameIdentity):
        return _from_names(profile, profile.identity, paths)
    return _from_file(profile.identity, contents)


def _from_names(
    profile: Profile, rule: FileNameIdentity, paths: Iterable[bytes]
) -> tuple[str, str | None]:
    serials: Counter[str] = Counter()
    newest: tuple[datetime, str] | None = None
    for path in paths:
        facts = profile.read_name(path)
        if facts is None or rule.serial not in facts.groups:
            continue
        serials[facts.groups[rule.serial]] += 1
        officer = facts.groups.get(rule.officer or "")
        if officer is not None:
            newest = max(newest or (datetime.min, ""), (facts.started or datetime.min, officer))  # noqa: DTZ901 - a recorder's clock has no zone
    if not serials:
        raise _NotThisOne("no clip whose name says a serial number")
    if len(serials) > 1:
        shown = ", ".join(f"{serial!r}" for serial, _ in serials.most_common(_SHOWN))
        raise _NotThisOne(f"names say {len(serials)} serial numbers: {shown}")
    return next(iter(serials)), newest[1] if newest else None


def _from_file(rule: KeyValueIdentity, contents: Mapping[bytes, bytes]) -> tuple[str, str | None]:
    wanted = rule.file.casefold()
    texts = [content for path, content in sorted(contents.items()) if _folded(path) == wanted]
    if not texts:
        raise _NotThisOne(f"{rule.file!r} cannot be read")
    values = [_values(text, rule.encoding) for text in texts]
    serial = _one_value(values, rule.serial)
    if serial is None:
        raise _NotThisOne(f"{rule.file!r} does not say {rule.serial!r}")
    return serial, None if rule.officer is None else _one_value(values, rule.officer)


def _values(untrusted: bytes, encoding: str) -> list[tuple[str, str]]:
    """Return the lines ``key=value``; what is no such line, or no text, harms only itself."""
    text = untrusted[:MAX_IDENTITY_FILE_BYTES].decode(encoding, errors="replace")
    lines = (line.partition("=") for line in text.removeprefix("\ufeff").splitlines())
    return [(key.strip().casefold(), value.strip()) for key, equals, value in lines if equals]


def _one_value(files: Iterable[list[tuple[str, str]]], key: str) -> str | None:
    """Return the value of *key* where all files and lines that name it agree."""
    found = {value for lines in files for name, value in lines if name == key.casefold() and value}
    if len(found) > 1:
        shown = ", ".join(f"{value[:_MAX_SERIAL_CHARACTERS]!r}" for value in sorted(found)[:_SHOWN])
        raise _NotThisOne(f"{key!r} has {len(found)} values: {shown}")
    return next(iter(found), None)


def _checked_serial(untrusted: str) -> str:
    if (
        len(untrusted) > _MAX_SERIAL_CHARACTERS
        or not untrusted.isprintable()
        or "\N{REPLACEMENT CHARACTER}" in untrusted
    ):
        raise _NotThisOne(f"{untrusted[:_MAX_SERIAL_CHARACTERS]!r} is no serial number")
    return untrusted


def _officer(untrusted: str | None) -> OfficerId | None:
    try:
        return None if untrusted is None else parse_officer(untrusted)
    except IdentifierError:
        return None


def _folded(path: bytes) -> str | None:
    try:
        return path.decode().casefold()
    except UnicodeDecodeError:
        return None
