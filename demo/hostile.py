"""A recorder's volume that holds, beside one good clip, all that a hostile or broken one could."""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, unique
from functools import partial
from pathlib import Path
from typing import Final

from protocol.findings import FindingCode

GOOD_CLIP: Final = "DCIM/100MEDIA/012345_0000017_20261121083012_0001.MP4"
GOOD_CLIP_BYTES: Final = 64 * 1024
SPARSE_BYTES: Final = 5 * 1024**3
LEVELS: Final = 200

_MEDIA: Final = b"DCIM/100MEDIA/012345_0000017_"
_SMALL_BYTES: Final = 1024
_PER_FOLDER: Final = 1_000
_GOOD_END: Final = datetime(2026, 11, 21, 0, 30, 24, tzinfo=UTC)
_YEAR_1980: Final = datetime(1980, 1, 1, 0, 0, 0, tzinfo=UTC)
_YEAR_2107: Final = datetime(2107, 12, 31, 15, 59, 58, tzinfo=UTC)

# What a file system or an ordinary user is not allowed to hold is left out. A full disk is not.
_CANNOT: Final = frozenset(
    {
        errno.EACCES,
        errno.EEXIST,
        errno.EFBIG,
        errno.EILSEQ,
        errno.EINVAL,
        errno.ENAMETOOLONG,
        errno.ENOTSUP,
        errno.EPERM,
    }
)


@unique
class Treatment(Enum):
    """What a dock must do with an entry.

    COPY: a clip like any other. COPY_OR_REPORT: no clip of this model; whether its bytes are kept
    is policy, but it is never silently missing. NEVER_OPEN: report it; do not follow or open it.
    """

    COPY = "copy"
    COPY_OR_REPORT = "copy or report"
    NEVER_OPEN = "never open"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostileEntry:
    """One entry that was made.

    Attributes:
        path: Relative to the volume, the exact bytes. Nothing else but the good clip, the many
            files and the folders above them is on the volume.
        finding: The verdict that must name this path; None where none is owed, though one may
            be given.
        note: What is expected, for people.
    """

    path: bytes
    treatment: Treatment
    finding: FindingCode | None
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedEntry:
    """One entry that this machine would not let us make, and why."""

    path: bytes
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostileVolume:
    """The volume; recorder and officer are those in the good clip's name, model DSJ-A8."""

    folder: Path
    serial: str
    officer: str
    good_clip: str
    good_clip_sha256: bytes
    made: tuple[HostileEntry, ...]
    skipped: tuple[SkippedEntry, ...]
    many_files: int

    def entries(self, treatment: Treatment) -> frozenset[bytes]:
        """Return the paths of all entries, the many files aside, that ask for *treatment*."""
        return frozenset(entry.path for entry in self.made if entry.treatment is treatment)


_Maker = Callable[[Path], None]
_Recipe = tuple[HostileEntry, _Maker]


def build_hostile_volume(
    target: Path, *, many_files: int = 0, sparse_bytes: int = SPARSE_BYTES
) -> HostileVolume:
    """Build the volume at *target*, which must be new or empty.

    Args:
        target: The volume's folder itself.
        many_files: How many small files, each with its own content, to add under ``MANY/``.
        sparse_bytes: The size of the sparse clip; it takes no room here, but does where it is
            copied to.

    Returns:
        What was made and how it must be treated, and what could not be made here and why.

    Raises:
        OSError: The target is not empty, or the disk failed.
    """
    target.mkdir(parents=True, exist_ok=True)
    if any(target.iterdir()):
        raise FileExistsError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(target))
    good = _content(GOOD_CLIP.encode(), GOOD_CLIP_BYTES)
    _file(target / GOOD_CLIP, good)
    made: list[HostileEntry] = []
    skipped: list[SkippedEntry] = []
    for entry, make in _recipes(sparse_bytes):
        reason = _attempt(make, target / os.fsdecode(entry.path))
        if reason is None:
            made.append(entry)
        else:
            skipped.append(SkippedEntry(path=entry.path, reason=reason))
    _add_many(target, many_files)
    return HostileVolume(
        folder=target,
        serial="0000017",
        officer="012345",
        good_clip=GOOD_CLIP,
        good_clip_sha256=hashlib.sha256(good).digest(),
        made=tuple(made),
        skipped=tuple(skipped),
        many_files=many_files,
    )


def _attempt(make: _Maker, path: Path) -> str | None:
    try:
        make(path)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        return os.strerror(error.errno)
    return None


def _recipes(sparse_bytes: int) -> Iterator[_Recipe]:
    yield from _links()
    yield from _special_files()
    yield from _odd_names()
    yield from _odd_places()
    yield from _odd_clips(sparse_bytes)


def _links() -> Iterator[_Recipe]:
    targets = {
        b"ODD/passwd": (b"/etc/passwd", "a file of the dock"),
        b"DCIM/100MEDIA/012345_0000017_20261121083100_0002.MP4": (
            b"/etc/passwd",
            "a file of the dock, under a clip's name",
        ),
        b"ODD/self": (b"self", "itself"),
        b"ODD/loop-a": (b"loop-b", "a link that leads back"),
        b"ODD/loop-b": (b"loop-a", "a link that leads back"),
        b"ODD/up": (b"..", "the folder above, without end"),
        b"ODD/nowhere": (b"missing", "nothing"),
    }
    for path, (leads_to, what) in targets.items():
        note = f"a link to {what}: reported, never followed"
        yield _never_open(path, FindingCode.LINK, note), partial(_link, leads_to)


def _special_files() -> Iterator[_Recipe]:
    makers: dict[bytes, tuple[_Maker, str]] = {
        b"ODD/pipe": (_pipe, "a pipe: opening it would wait for ever"),
        b"ODD/pipe.MP4": (_pipe, "a pipe: opening it would wait for ever"),
        b"ODD/socket": (_socket, "a socket"),
        b"ODD/null": (_null_device, "a device node"),
    }
    for path, (make, what) in makers.items():
        yield _never_open(path, FindingCode.SPECIAL_FILE, f"{what}; reported"), make


def _odd_names() -> Iterator[_Recipe]:
    control = FindingCode.UNSAFE_NAME
    names: tuple[tuple[bytes, FindingCode | None, str], ...] = (
        (b"A" * 251 + b".MP4", None, "255 bytes, the longest name there is"),
        ("路".encode() * 83 + b"ab.MP4", None, "255 bytes in 89 characters"),
        (b"\xff\xfe\xc4\xe3.MP4", FindingCode.NAME_NOT_UTF8, "GBK and worse"),
        (b"two\nlines.MP4", control, "a newline"),
        (b"\x01\x07\x1b[31mred\x1b[0m\x7f.MP4", control, "control characters"),
        ("turned\u202e4PM.exe".encode(), None, "text that turns round: seems to end in .MP4"),
        (b"; rm -rf $HOME; `id`.MP4", None, "a shell's words"),
        (b"-rf", None, "an option"),
        (b"%s%n{0}.MP4", None, "a format"),
        (b"<script>alert(1)<script>.MP4", None, "a browser's words"),
        (b'"><img src=x onerror=alert(1)>.MP4', None, "a browser's words"),
        (b"+", None, "a topic's wildcard"),
        (b"#", None, "a topic's wildcard"),
        (b"trailing dot.", None, "Windows drops the dot"),
        (b"trailing space ", None, "Windows drops the space"),
        (b"CON.MP4", None, "Windows opens a device"),
        (b"CON", None, "Windows opens a device"),
        (b"lpt1 .MP4", None, "Windows opens a device"),
        (b"C:\\Windows\\x.MP4", None, "Windows' folders"),
        (b'*?"|<>:.MP4', None, "what Windows allows in no name"),
        (b"dots and spaces. . .", None, "Windows drops them all"),
        (b"...", None, "Windows drops it whole"),
        (b"tab\there.MP4", control, "a tab"),
        (b"\x7f", control, "one control character"),
        ("line\u2028end.MP4".encode(), None, "an end of a line that is no control character"),
        ("\u200b\ufeff.MP4".encode(), None, "letters that draw nothing"),
        ("caf\u00e9.MP4".encode(), None, "an accent in one character; its twin is next"),
        ("cafe\u0301.MP4".encode(), None, "the same accent in two characters"),
        (
            b"\xc0\xaf\xed\xa0\x80.MP4",
            FindingCode.NAME_NOT_UTF8,
            "a slash and half a pair, disguised",
        ),
        (b"'; DROP TABLE file;--.MP4", None, "a database's words"),
        (b"$(reboot).MP4", None, "a shell's words"),
        (b"~root", None, "somebody's home"),
        (b"--checkpoint-action=exec=sh", None, "an option"),
        (b"=cmd|' C calc'!A0.MP4", None, "a spreadsheet's words"),
        (b"{{7*7}}${7*7}.MP4", None, "a template's words"),
        (b"<img src=x onerror=alert(1)>.MP4", None, "a browser's words"),
        (b"%2e%2e%2fetc%2fshadow", None, "a path above, in a web address"),
        (b"%0a.MP4", None, "what a bag's manifest writes for a newline"),
        (b"manifest-sha256.txt", None, "a file that a bag has itself"),
    )
    for number, (name, finding, what) in enumerate(names, start=10):
        note = f"{what}: its name is kept byte for byte, its archived name is safe"
        yield _no_clip(b"ODD/" + name, note, finding=finding)
        clip = b"/012345_0000017_202611211200%02d_%04d.MP4" % (number, number)
        yield _clip(b"DCIM/" + name + clip, note, finding=finding)


def _odd_places() -> Iterator[_Recipe]:
    long = b"LONG/" + b"a" * 150 + b"/" + b"b" * 150 + b"/long.MP4"
    yield _no_clip(long, "a path of more than 300 characters")
    deep = b"/".join([b"d"] * LEVELS) + b"/deep.MP4"
    yield _no_clip(deep, f"{LEVELS} folders deep")
    yield _no_clip(b"a/+/#", "a path that is a topic filter")
    yield _no_clip(b"bayward/v1/docks/dock-01/receipts", "a path that is a topic of the dock's")
    yield _no_clip(b"$SYS/broker/version", "a path that is a topic of the broker's")
    yield _no_clip(b"data/bagit.txt", "a path that is a bag's")


def _odd_clips(sparse_bytes: int) -> Iterator[_Recipe]:
    for name in (b"20261121083200_0003.MP4", b"20261121083200_0003.mp4"):
        note = "names that differ only by case: both kept, one finding for the two will do"
        yield _clip(_MEDIA + name, note, finding=FindingCode.NAMES_DIFFER_BY_CASE)
    with_newline = _MEDIA + b"20261121083300_0004.MP4\n"
    note = "a clip's name and a newline: no clip"
    yield _no_clip(with_newline, note, finding=FindingCode.UNSAFE_NAME)
    full_width = "２０２６１１２１０８３３３０".encode()
    yield _no_clip(_MEDIA + full_width + b"_0005.MP4", "full-width digits: no clip")
    yield _clip(_MEDIA + b"20261399256199_0006.MP4", "a time that is none: kept")
    empty = _MEDIA + b"20261121083400_0007.MP4"
    yield _clip(empty, "no bytes", finding=FindingCode.EMPTY_FILE, content=b"")
    for when, start in ((_YEAR_1980, b"19800101080000"), (_YEAR_2107, b"21071231235958")):
        path = _MEDIA + start + b"_0008.MP4"
        yield _clip(path, "kept", finding=FindingCode.IMPLAUSIBLE_TIME, when=when)
    path = _MEDIA + b"20261121083500_0009.MP4"
    note = "more than FAT32 can hold, all zeros: copied if there is room, never read into memory"
    yield (
        HostileEntry(path=path, treatment=Treatment.COPY, finding=None, note=note),
        partial(_sparse, size_bytes=sparse_bytes),
    )


def _never_open(path: bytes, finding: FindingCode, note: str) -> HostileEntry:
    return HostileEntry(path=path, treatment=Treatment.NEVER_OPEN, finding=finding, note=note)


def _clip(
    path: bytes,
    note: str,
    *,
    finding: FindingCode | None = None,
    content: bytes | None = None,
    when: datetime = _GOOD_END,
) -> _Recipe:
    entry = HostileEntry(path=path, treatment=Treatment.COPY, finding=finding, note=note)
    own = _content(path, _SMALL_BYTES) if content is None else content
    return entry, partial(_file, content=own, when=when)


def _no_clip(path: bytes, note: str, *, finding: FindingCode | None = None) -> _Recipe:
    entry = HostileEntry(path=path, treatment=Treatment.COPY_OR_REPORT, finding=finding, note=note)
    return entry, partial(_file, content=_content(path, _SMALL_BYTES))


def _add_many(target: Path, many_files: int) -> None:
    for number in range(many_files):
        folder = target / f"MANY/{number // _PER_FOLDER:04d}"
        if number % _PER_FOLDER == 0:
            folder.mkdir(parents=True)
        (folder / f"{number:06d}.DAT").write_bytes(b"%06d\r\n" % number)


def _content(path: bytes, size_bytes: int) -> bytes:
    # Bytes of each file's own: equal ones would be taken for aliases.
    return hashlib.shake_256(path).digest(size_bytes)


def _file(path: Path, content: bytes, when: datetime = _GOOD_END) -> None:
    _parents(path)
    with path.open("xb") as file:
        file.write(content)
    _date(path, when)


def _date(path: Path, when: datetime) -> None:
    seconds = int(when.timestamp())
    os.utime(path, (seconds, seconds))
    if path.stat().st_mtime_ns != seconds * 10**9:
        # Some file systems end in 2038 and quietly keep another time.
        path.unlink()
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)


def _sparse(path: Path, size_bytes: int) -> None:
    _parents(path)
    with path.open("xb") as file:
        file.truncate(size_bytes)
    _date(path, _GOOD_END)


def _link(leads_to: bytes, path: Path) -> None:
    _parents(path)
    path.symlink_to(os.fsdecode(leads_to))


def _pipe(path: Path) -> None:
    _parents(path)
    os.mkfifo(path)


def _socket(path: Path) -> None:
    _parents(path)
    # Binding one would be limited to paths of 107 bytes.
    os.mknod(path, stat.S_IFSOCK | 0o600)


def _null_device(path: Path) -> None:
    _parents(path)
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))


def _parents(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
