"""What is known about a recorder model: how it names itself and its files.

A profile is the administrator's word, a name on a volume is not: names are bounded before a
pattern sees them.
"""

import fnmatch
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, unique
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta, Struct

from edge_agent.errors import ProfileError
from protocol.manifest import ClipKind, Label, name_of

# No model's names come near; an administrator's pattern may take the square of a name's length.
MAX_MATCHED_CHARACTERS: Final = 1_024
_PLACE: Final = re.compile(r"(?P<problem>.*) - at `(?P<key>\$[^`]*)`", re.DOTALL)
_START: Final = re.compile(r"(\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})", re.ASCII)
_SEQUENCE: Final = re.compile(r"\d{1,9}", re.ASCII)
_GLOB_LIMIT: Final = 256


@unique
class RuleKind(Enum):
    """What a file is, by its name; a log is kept beside the recordings."""

    VIDEO = "video"
    AUDIO = "audio"
    PHOTO = "photo"
    LOG = "log"


class FileNameIdentity(
    Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="from",
    tag="file_name",
):
    """Serial and officer stand in the clips' names, as groups of their patterns."""

    serial: Label
    officer: Label | None = None


class KeyValueIdentity(
    Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="from",
    tag="key_value_file",
):
    """Serial and officer stand in a text file, as the values of these keys."""

    file: Annotated[str, Meta(min_length=1, max_length=_GLOB_LIMIT)]
    encoding: Literal["ascii", "gb18030", "gbk", "utf-8"]
    serial: Label
    officer: Label | None = None


class Join(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far a clip's start may be from the end of the one before, in the same recording."""

    gap_s: Annotated[int, Meta(ge=0, le=3_600)]


class _ClipRuleText(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pattern: Annotated[str, Meta(min_length=1, max_length=2_000)]
    kind: RuleKind


class _ProfileText(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
    make: Label
    model: Label
    detect: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=_GLOB_LIMIT)], ...], Meta(min_length=1)
    ]
    timezone: Label
    identity: FileNameIdentity | KeyValueIdentity
    clips: Annotated[tuple[_ClipRuleText, ...], Meta(min_length=1)]
    join: Join


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipRule:
    """Names that fit *pattern*, whole and from the volume's root, are of *kind*."""

    pattern: re.Pattern[str]
    kind: RuleKind


@dataclass(frozen=True, slots=True, kw_only=True)
class NameFacts:
    """What a file's name says, as far as it says it.

    Attributes:
        started: By the recorder's clock, without a zone; None also if there is no such time.
    """

    rule: RuleKind
    groups: dict[str, str]
    started: datetime | None
    sequence: int | None
    marked: bool

    @property
    def clip(self) -> ClipKind | None:
        """Which kind of clip it is; None for a log."""
        return None if self.rule is RuleKind.LOG else ClipKind(self.rule.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One recorder model."""

    name: str
    make: str
    model: str
    detect: tuple[tuple[re.Pattern[str], ...], ...]
    zone: ZoneInfo
    identity: FileNameIdentity | KeyValueIdentity
    clips: tuple[ClipRule, ...]
    join: Join

    def fits(self, paths: Iterable[bytes]) -> bool:
        """Return whether any of *paths* fits any of the profile's globs."""
        return any(self._detects(_shown(path)) for path in paths)

    def _detects(self, path: str | None) -> bool:
        if path is None:
            return False
        components = path.split("/")
        return any(
            len(glob) == len(components)
            and all(part.match(name) for part, name in zip(glob, components, strict=True))
            for glob in self.detect
        )

    def read_name(self, path: bytes) -> NameFacts | None:
        """Return what a file's name says by the first rule that it fits; None if it fits none."""
        shown = _shown(path)
        if shown is None:
            return None
        for rule in self.clips:
            if found := rule.pattern.fullmatch(shown):
                groups = {name: text for name, text in found.groupdict().items() if text}
                return NameFacts(
                    rule=rule.kind,
                    groups=groups,
                    started=_read_start(groups.get("start", "")),
                    sequence=_read_sequence(groups.get("sequence", "")),
                    marked="marked" in groups,
                )
        return None


def parse_profile(text: str, *, source: str) -> Profile:
    """Return the profile in a TOML text.

    Args:
        text: As in the files under ``profiles/``.
        source: Where it came from, for the error.

    Raises:
        ProfileError: It is no TOML, or a key is unknown, missing or wrong; the key is named.
    """
    try:
        parsed = msgspec.convert(tomllib.loads(text), _ProfileText, strict=True)
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(f"{source}: $: not TOML: {error}") from None
    except msgspec.ValidationError as error:
        place = _PLACE.fullmatch(str(error))
        key, problem = (place["key"], place["problem"]) if place else ("$", str(error))
        raise ProfileError(f"{source}: {key}: {problem}") from None
    rules = tuple(
        _compile_rule(rule, f"{source}: $.clips[{index}].pattern")
        for index, rule in enumerate(parsed.clips)
    )
    _check_identity(parsed.identity, rules, source)
    return Profile(
        name=parsed.name,
        make=parsed.make,
        model=parsed.model,
        detect=tuple(_compile_glob(glob) for glob in parsed.detect),
        zone=_zone(parsed.timezone, source),
        identity=parsed.identity,
        clips=rules,
        join=parsed.join,
    )


def _compile_rule(rule: _ClipRuleText, where: str) -> ClipRule:
    try:
        return ClipRule(pattern=re.compile(rule.pattern), kind=rule.kind)
    except (re.error, OverflowError, RecursionError) as error:
        raise ProfileError(f"{where}: not a regular expression: {error}") from None


def _compile_glob(glob: str) -> tuple[re.Pattern[str], ...]:
    # FAT does not tell upper from lower case, so globs do not either.
    return tuple(
        re.compile(fnmatch.translate(part), re.IGNORECASE) for part in glob.strip("/").split("/")
    )


def _check_identity(
    identity: FileNameIdentity | KeyValueIdentity, rules: tuple[ClipRule, ...], source: str
) -> None:
    if isinstance(identity, KeyValueIdentity):
        return
    groups = {name for rule in rules for name in rule.pattern.groupindex}
    wanted = {"serial": identity.serial, "officer": identity.officer}
    for key, group in wanted.items():
        if group is not None and group not in groups:
            raise ProfileError(f"{source}: $.identity.{key}: no pattern has a group {group!r}")


def _zone(name: str, source: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ProfileError(f"{source}: $.timezone: {name!r} is not a time zone") from None


def _shown(path: bytes) -> str | None:
    """Return a path as text to be matched; None if it is longer than any recorder's name."""
    if len(path) > MAX_MATCHED_CHARACTERS:
        return None
    return name_of(path).path


def _read_start(text: str) -> datetime | None:
    found = _START.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = map(int, found.groups())
    try:
        return datetime(year, month, day, hour, minute, second)  # noqa: DTZ001 - a recorder's clock has no zone
    except ValueError:
        return None


def _read_sequence(text: str) -> int | None:
    return int(text) if _SEQUENCE.fullmatch(text) else None
