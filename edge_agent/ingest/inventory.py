"""From an untrusted listing to what is taken, what is not, and what is to be said about it."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from edge_agent.ingest.files import FileKey
from edge_agent.ingest.listing import key_of
from edge_agent.ingest.profile import KeyValueIdentity, NameFacts, Profile
from edge_agent.ingest.volume import EntryKind, RawEntry
from protocol.findings import Finding, FindingCode
from protocol.manifest import ClipKind, FileName, NotTaken, name_of

# What Linux opens in one call (PATH_MAX); a shown name of that length still fits a manifest.
MAX_PATH_BYTES: Final = 4_096
# FAT and exFAT hold 255 characters in a name, which are up to 765 bytes of UTF-8 on Linux.
MAX_COMPONENT_CHARACTERS: Final = 255
MAX_COMPONENT_BYTES: Final = 3 * MAX_COMPONENT_CHARACTERS
EARLIEST_PLAUSIBLE: Final = datetime(2010, 1, 1, tzinfo=UTC)
LATEST_AFTER_DOCKING: Final = timedelta(days=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# What does not belong on a recorder, by the end of its name.
_PROGRAMS: Final = (
    "apk app bin cmd com cpl deb dll elf exe jar ko msi msp ocx pif rpm scr so swf sys"
)
_SCRIPTS: Final = (
    "bat chm hta inf js jse lnk pl ps1 psm1 py pyc reg scf sct sh url vb vbe vbs wsf wsh"
)
_ARCHIVES: Final = (
    "7z ace arj bz2 cab dmg gz img iso lha lzh rar tar tbz tgz txz vhd vhdx wim xz z zip zst"
)
_MACROS: Final = "docm dotm mdb msc potm ppam ppsm pptm sldm xlam xll xlsb xlsm xltm"
FOREIGN_SUFFIXES: Final = frozenset(f"{_PROGRAMS} {_SCRIPTS} {_ARCHIVES} {_MACROS}".split())
_FOREIGN_NAMES: Final = frozenset({"autorun.inf", "desktop.ini", "autorun.sh"})

# Names that Windows gives to devices, whatever follows the first dot.
_RESERVED: Final = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?", re.DOTALL)
_UNSAFE: Final = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"\\|?*\u200e\u200f\u202a-\u202e\u2066-\u2069]')


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A file to be taken that is no clip."""

    key: FileKey


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundClip:
    """A clip, with what its name says.

    Attributes:
        started: By the recorder's clock, without a zone.
    """

    key: FileKey
    kind: ClipKind
    officer: str | None = None
    serial: str | None = None
    started: datetime | None = None
    sequence: int | None = None
    marked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What is on a recorder; all in order of path."""

    clips: tuple[FoundClip, ...]
    others: tuple[FoundFile, ...]
    not_taken: tuple[NotTaken, ...]
    findings: tuple[Finding, ...]

    @property
    def keys(self) -> frozenset[FileKey]:
        """Of all files that are to be taken."""
        return frozenset(clip.key for clip in self.clips) | {file.key for file in self.others}


def take_inventory(
    entries: Iterable[RawEntry],
    profile: Profile,
    *,
    docked_at: datetime,
    generations: Mapping[FileKey, int] | None = None,
) -> Inventory:
    """Sort entries into clips, other files and what is not taken, with findings about each.

    Nothing is opened; a name decides. Every entry but a folder is in one of the three.

    Args:
        entries: Of a listing, untrusted.
        profile: Of the recorder's model.
        docked_at: When the recorder was docked, aware.
        generations: Of files that are not what they were, by key of the listing.
    """
    clips: list[FoundClip] = []
    others: list[FoundFile] = []
    not_taken: list[NotTaken] = []
    findings: list[Finding] = []
    for entry in sorted(entries, key=lambda one: one.path):
        if entry.kind is EntryKind.DIRECTORY:
            continue
        key = key_of(entry)
        if generations and (generation := generations.get(key)):
            key = replace(key, generation=generation)
        facts = profile.read_name(key.path)
        refusal = find_refusal(entry, known_name=facts is not None)
        if refusal is not None:
            findings.append(refusal)
            not_taken.append(_not_taken(entry, refusal.code))
            continue
        findings += _about_name(key.path)
        file = found_file(key, profile)
        findings += _about_times(file, profile.zone, docked_at)
        if isinstance(file, FoundClip):
            clips.append(file)
        else:
            others.append(file)
            if facts is None and not _is_identity(key.path, profile):
                findings.append(
                    _finding(FindingCode.UNKNOWN_FILE, key.path, "no rule of the model")
                )
    return Inventory(
        clips=tuple(clips),
        others=tuple(others),
        not_taken=tuple(not_taken),
        findings=tuple(findings),
    )


def found_file(key: FileKey, profile: Profile) -> FoundClip | FoundFile:
    """Return what a file is, by its name alone."""
    facts = profile.read_name(key.path)
    if facts is None or facts.clip is None:
        return FoundFile(key=key)
    return FoundClip(
        key=key,
        kind=facts.clip,
        officer=_identity_group(facts, profile, "officer"),
        serial=_identity_group(facts, profile, "serial"),
        started=facts.started,
        sequence=facts.sequence,
        marked=facts.marked,
    )


def local_time(mtime_ns: int, zone: ZoneInfo) -> datetime | None:
    """Return a file's time as a clock in *zone* shows it; None beyond all calendars."""
    try:
        moment = _EPOCH + timedelta(microseconds=mtime_ns // 1_000)
        return moment.astimezone(zone).replace(tzinfo=None)
    except OverflowError:
        return None


def _identity_group(facts: NameFacts, profile: Profile, what: str) -> str | None:
    """Return the group that the profile calls serial or officer; by its plain name without one."""
    name = what
    if not isinstance(profile.identity, KeyValueIdentity):
        name = (profile.identity.serial if what == "serial" else profile.identity.officer) or what
    told = facts.groups.get(name)
    return None if told is None else _shared(told)


@lru_cache(maxsize=64)
def _shared(text: str) -> str:
    """Return the first of equal texts: what stands in 100,000 names is kept once."""
    return text


def find_refusal(entry: RawEntry, *, known_name: bool) -> Finding | None:
    """Return why an entry is not taken, if it is not.

    Args:
        entry: Of a listing, no folder.
        known_name: Whether a rule of the model fits its name.
    """
    by_kind = {
        EntryKind.LINK: (FindingCode.LINK, "a link; not followed"),
        EntryKind.SPECIAL: (FindingCode.SPECIAL_FILE, "a device, pipe or socket; not opened"),
        EntryKind.UNREADABLE_DIRECTORY: (
            FindingCode.UNREADABLE_DIRECTORY,
            "this folder could not be listed",
        ),
        EntryKind.UNREADABLE: (FindingCode.UNREADABLE_FILE, "what this is cannot be told"),
        EntryKind.TOO_DEEP: (FindingCode.PATH_TOO_LONG, "this folder is too deep; not entered"),
    }
    if entry.kind in by_kind:
        code, detail = by_kind[entry.kind]
        return _finding(code, entry.path, detail)
    if len(entry.path) > MAX_PATH_BYTES or any(map(_is_too_long, entry.path.split(b"/"))):
        detail = f"a path of {len(entry.path)} bytes, shown as far as {MAX_PATH_BYTES}"
        return _finding(FindingCode.PATH_TOO_LONG, entry.path, detail)
    if not known_name and _is_foreign(entry.path):
        return _finding(FindingCode.FOREIGN_FILE, entry.path, f"{entry.size_bytes} bytes")
    if entry.size_bytes == 0:
        return _finding(FindingCode.EMPTY_FILE, entry.path, "no bytes to keep beside its name")
    return None


def _is_too_long(component: bytes) -> bool:
    return (
        len(component) > MAX_COMPONENT_BYTES
        or len(component.decode(errors="replace")) > MAX_COMPONENT_CHARACTERS
    )


def _is_foreign(path: bytes) -> bool:
    # Windows drops trailing dots and spaces: "setup.exe. " is started there as well.
    name = path.rpartition(b"/")[2].decode(errors="replace").casefold().rstrip(". ")
    return name in _FOREIGN_NAMES or name.rpartition(".")[2] in FOREIGN_SUFFIXES


def _is_identity(path: bytes, profile: Profile) -> bool:
    rule = profile.identity
    return isinstance(rule, KeyValueIdentity) and (
        path.decode(errors="replace").casefold() == rule.file.casefold()
    )


def _about_name(path: bytes) -> Iterator[Finding]:
    try:
        text = path.decode()
    except UnicodeDecodeError:
        yield _finding(FindingCode.NAME_NOT_UTF8, path, "exact bytes in raw_path")
        text = path.decode(errors="replace")
    for component in text.split("/"):
        problem = _unsafe(component)
        if problem is not None:
            yield _finding(FindingCode.UNSAFE_NAME, path, f"{problem}: {component[:80]!r}")
            return


def _unsafe(component: str) -> str | None:
    if _UNSAFE.search(component):
        return "a character that is not safe in a name"
    if _RESERVED.fullmatch(component.casefold()):
        return "the name of a device on Windows"
    if component != component.rstrip(". "):
        return "a last dot or space, which Windows drops"
    return None


def implausible_times(
    file: FoundClip | FoundFile, zone: ZoneInfo, docked_at: datetime
) -> tuple[str, ...]:
    """Return which of a file's times cannot be right, in English."""
    latest = (docked_at + LATEST_AFTER_DOCKING).astimezone(zone).replace(tzinfo=None)
    earliest = EARLIEST_PLAUSIBLE.replace(tzinfo=None)
    times = {"written": local_time(file.key.mtime_ns, zone)}
    if isinstance(file, FoundClip) and file.started is not None:
        times["started"] = file.started
    return tuple(
        f"{what} {moment or file.key.mtime_ns}"
        for what, moment in times.items()
        if moment is None or not earliest <= moment <= latest
    )


def _about_times(
    file: FoundClip | FoundFile, zone: ZoneInfo, docked_at: datetime
) -> Iterator[Finding]:
    if wrong := implausible_times(file, zone, docked_at):
        docked = docked_at.astimezone(zone).replace(tzinfo=None, microsecond=0)
        detail = f"{', '.join(wrong)}; the dock's clock said {docked}"
        yield _finding(FindingCode.IMPLAUSIBLE_TIME, file.key.path, detail)


def _not_taken(entry: RawEntry, code: FindingCode) -> NotTaken:
    size_bytes = entry.size_bytes if entry.kind is EntryKind.FILE else None
    return NotTaken(name=_shown(entry.path), code=code, size_bytes=size_bytes)


def _finding(code: FindingCode, path: bytes, detail: str) -> Finding:
    return Finding(code=code, path=_shown(path).path, detail=detail)


def _shown(path: bytes) -> FileName:
    return name_of(path[:MAX_PATH_BYTES])
