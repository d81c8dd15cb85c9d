"""What is proved of one recorder's files, in little memory.

A card may hold 100,000 of them, and every bay has its own for as long as its recorder is read.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise, zip_longest
from typing import Final

from edge_agent.ingest.volume import EntryKind, RawEntry
from edge_agent.mounting.errors import EvidenceError, NotArchivedError

# A dock lists 200,000 entries of a recorder at most: edge_agent.ingest.listing.
MOST_NAMES: Final = 200_000
# A hundred thousand paths of 160 bytes; recorders write some 50.
MOST_PATHS_BYTES: Final = 16 * 1024 * 1024
_DIGEST_BYTES: Final = 32
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# What a content is; a file without bytes has none.
_OTHER, _FOOTAGE, _EMPTY = range(3)
_NO_CONTENT: Final = -1
_NOT_ARCHIVED: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A file that may be erased, once its bytes were found to be one of these contents."""

    path: bytes
    size_bytes: int
    sha256s: tuple[str, ...]
    node: tuple[int, int] | None = field(default=None, compare=False)


class Claims:
    """What manifests with receipts say so far: names on a recorder, and archived contents."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._paths: list[bytes] = []
        self._paths_bytes = 0
        # By name, and then by content: each digest has the number in which it came.
        self._content_of = array("q")
        self._numbers: dict[bytes, int] = {}
        self._sizes_bytes = array("q")
        self._archived_us = array("q")
        self._kinds = bytearray()

    def add_name(self, path: bytes, sha256: str) -> None:
        """Note that a file may hold a content.

        Raises:
            EvidenceError: There are more than any recorder has.
        """
        self._add_name(path, self._number(sha256))

    def add_empty(self, path: bytes) -> None:
        """Note that a file is there and has no bytes; EvidenceError likewise."""
        self._add_name(path, _NO_CONTENT)

    def add_content(
        self, sha256: str, *, size_bytes: int, archived_at: datetime, is_footage: bool, of_old: bool
    ) -> None:
        """Note what the archive holds.

        Args:
            sha256: Of the content.
            size_bytes: Likewise.
            archived_at: By the receipt, aware.
            is_footage: Whether the manifest has it as a clip of a recording.
            of_old: An earlier docking's: kept if it is named by now, for nobody else asks for it.
        """
        if of_old and bytes.fromhex(sha256) not in self._numbers:
            return
        number = self._number(sha256)
        if self._sizes_bytes[number] == _NOT_ARCHIVED:
            self._kinds[number] = _FOOTAGE
        if not is_footage:
            self._kinds[number] = _OTHER
        self._sizes_bytes[number] = size_bytes
        self._archived_us[number] = max(self._archived_us[number], _unix_us(archived_at))

    def pack(self) -> "ProvedFiles":
        """Return all of it, as it is to be kept.

        Raises:
            EvidenceError: A name's content is not archived.
        """
        contents = self._content_of
        sizes_bytes = self._sizes_bytes
        for number in contents:
            if number != _NO_CONTENT and sizes_bytes[number] == _NOT_ARCHIVED:
                sha256 = next(one for one, its in self._numbers.items() if its == number)
                raise EvidenceError(f"no receipt is about the content {sha256.hex()}")

        def rank(index: int) -> tuple[bytes, int, int]:
            number = contents[index]
            return self._paths[index], 0 if number < 0 else sizes_bytes[number], number

        digests = list(self._numbers)
        packed = ProvedFiles()
        for index in sorted(range(len(contents)), key=rank):
            number = contents[index]
            if number == _NO_CONTENT:
                packed.add(self._paths[index], bytes(_DIGEST_BYTES), 0, 0, _EMPTY)
            else:
                packed.add(
                    self._paths[index],
                    digests[number],
                    sizes_bytes[number],
                    self._archived_us[number],
                    self._kinds[number],
                )
        packed.close()
        return packed

    def _number(self, sha256: str) -> int:
        number = self._numbers.setdefault(bytes.fromhex(sha256), len(self._numbers))
        if number == len(self._kinds):
            self._sizes_bytes.append(_NOT_ARCHIVED)
            self._archived_us.append(_unix_us(_EPOCH))
            self._kinds.append(_OTHER)
        return number

    def _add_name(self, path: bytes, number: int) -> None:
        self._paths.append(path)
        self._content_of.append(number)
        self._paths_bytes += len(path)
        if len(self._paths) > MOST_NAMES or self._paths_bytes > MOST_PATHS_BYTES:
            text = f"more than {MOST_NAMES} names, or {MOST_PATHS_BYTES} bytes of them"
            raise EvidenceError(text)


class ProvedFiles:
    """All names on a recorder in order, each with what it may hold.

    A name costs its path and 12 bytes, a content 49 bytes more.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self._paths: bytes | bytearray = bytearray()
        self._path_ends = array("Q")
        self._firsts = array("I")
        self._digests: bytes | bytearray = bytearray()
        self._sizes_bytes = array("q")
        self._archived_us = array("q")
        self._kinds = bytearray()
        self._twin: bytes | None = None

    def add(self, path: bytes, sha256: bytes, size_bytes: int, archived_us: int, kind: int) -> None:
        """Add a name with a content: in order of path, then of size, and each pair once or more."""
        is_new = not self._path_ends or self.path(len(self) - 1) != path
        if is_new:
            self._paths += path
            self._path_ends.append(len(self._paths))
            self._firsts.append(len(self._kinds))
        elif self._digests.endswith(sha256):
            return
        self._digests += sha256
        self._sizes_bytes.append(size_bytes)
        self._archived_us.append(archived_us)
        self._kinds.append(kind)

    def close(self) -> None:
        """Look through the names, when everything was added; nothing has room to grow any more."""
        self._paths, self._digests = bytes(self._paths), bytes(self._digests)
        # By hash: a clash of two keeps one recorder in a thousand million from being erased.
        hashes = array("q", (hash(_folded(self.path(name))) for name in range(len(self))))
        order = sorted(range(len(self)), key=hashes.__getitem__)
        twins = (name for one, name in pairwise(order) if hashes[one] == hashes[name])
        self._twin = next(map(self.path, twins), None)

    def __len__(self) -> int:
        """Return how many names there are."""
        return len(self._path_ends)

    def path(self, name: int) -> bytes:
        """Return the path of a name, which is a number from 0 on."""
        begin = self._path_ends[name - 1] if name else 0
        return bytes(self._paths[begin : self._path_ends[name]])

    def may_hold(self, name: int, size_bytes: int) -> range:
        """Return which contents of a size a file may hold: numbers."""
        its = [one for one in self._contents(name) if self._sizes_bytes[one] == size_bytes]
        return range(its[0], its[-1] + 1) if its else range(0)

    def size_bytes(self, content: int) -> int:
        """Return the size of a content."""
        return self._sizes_bytes[content]

    def sha256s(self, contents: range) -> tuple[str, ...]:
        """Return the digests of contents."""
        at = (one * _DIGEST_BYTES for one in contents)
        return tuple(self._digests[begin : begin + _DIGEST_BYTES].hex() for begin in at)

    def is_any_due(self, archived_before: datetime) -> bool:
        """Return whether any file may be erased; see `due`."""
        before_us = _unix_us(archived_before)
        return any(self._are_due((one,), before_us) for one in range(len(self._kinds)))

    def due(self, listing: Iterable[RawEntry], archived_before: datetime) -> "DueFiles":
        """Return what may be erased of what is on the recorder now, in order of path.

        That is footage whose receipts were all given until *archived_before*. What is no clip of
        a recording stays: recorders keep their own settings in files.

        Args:
            listing: All that is there.
            archived_before: Aware; by the archive's clock.

        Raises:
            NotArchivedError: There is something else than the docking found, or something less.
        """
        before_us = _unix_us(archived_before)
        found = _Found(len(self))
        for entry in listing:
            if entry.kind is EntryKind.DIRECTORY:
                continue
            name, contents = self._find(entry)
            if found.is_there[name]:
                raise NotArchivedError(f"{entry.path!r} may be another file's name as well")
            is_due = self._are_due(contents, before_us)
            found.note(name, entry.node, first=contents[0] if is_due else None)
        self._refuse_incomplete(found)
        return DueFiles(self, found)

    def _find(self, entry: RawEntry) -> tuple[int, range]:
        """Return the name of an entry, and what it may hold."""
        if entry.kind is not EntryKind.FILE:
            raise NotArchivedError(f"{entry.path!r} is no file: {entry.kind.value}")
        name = bisect_left(range(len(self)), entry.path, key=self.path)
        if name < len(self) and self.path(name) == entry.path:
            contents = self.may_hold(name, entry.size_bytes)
            if contents:
                return name, contents
        raise NotArchivedError(f"no receipt is about {entry.path!r} as it is now")

    def _refuse_incomplete(self, found: "_Found") -> None:
        # Taken away by its name, a name that leads elsewhere would take another file with it.
        twin = self._twin
        if twin is None and (name := found.find_twin()) is not None:
            twin = self.path(name)
        if twin is not None:
            raise NotArchivedError(f"{twin!r} may be another file's name as well")
        missing = sum(1 for name in range(len(self)) if self._is_missing(name, found))
        if missing:
            text = f"{missing} files are gone that were there when it was docked"
            raise NotArchivedError(text)

    def _is_missing(self, name: int, found: "_Found") -> bool:
        # Of a file without bytes its name is all there is, and a manifest has it.
        return not found.is_there[name] and any(
            self._kinds[one] != _EMPTY for one in self._contents(name)
        )

    def _are_due(self, contents: Iterable[int], before_us: int) -> bool:
        return all(
            self._kinds[one] == _FOOTAGE and self._archived_us[one] <= before_us for one in contents
        )

    def _contents(self, name: int) -> range:
        following = name + 1
        end = self._firsts[following] if following < len(self) else len(self._kinds)
        return range(self._firsts[name], end)


class DueFiles:
    """What may be erased of one listing, in order of path: 27 bytes for each name that is there."""

    def __init__(self, proved: ProvedFiles, found: "_Found") -> None:
        """Take what is due of what was *found*."""
        self._proved = proved
        self._found = found
        self._names = array("I", found.due())

    def __len__(self) -> int:
        """Return how many files there are."""
        return len(self._names)

    def __iter__(self) -> Iterator[Due]:
        """Yield each file."""
        for name, content in self.contents():
            size_bytes = self._proved.size_bytes(content)
            yield Due(
                path=self._proved.path(name),
                size_bytes=size_bytes,
                sha256s=self._proved.sha256s(self._proved.may_hold(name, size_bytes)),
                node=self._found.node(name),
            )

    def has(self, path: bytes) -> bool:
        """Return whether a file of that path is one of them."""
        at = bisect_left(self._names, path, key=self._proved.path)
        return at < len(self) and self._proved.path(self._names[at]) == path

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return sum(self._proved.size_bytes(content) for _, content in self.contents())

    def contents(self) -> Iterator[tuple[int, int]]:
        """Yield each file's name, and the first of the contents of its size: numbers."""
        return ((name, self._found.firsts[name]) for name in self._names)

    def are_the_same(self, earlier: "DueFiles") -> bool:
        """Return whether these are the files of an *earlier* listing, and no others."""
        pairs = zip_longest(self.contents(), earlier.contents())
        return all(mine == its for mine, its in pairs)


class _Found:
    """Which names a listing shows."""

    def __init__(self, names: int) -> None:
        self.is_there = bytearray(names)
        self.firsts = array("I", [0]) * names
        self._devices = array("Q", [0]) * names
        self._inodes = array("Q", [0]) * names
        self._has_node = bytearray(names)
        self._is_due = bytearray(names)

    def note(self, name: int, node: tuple[int, int] | None, *, first: int | None) -> None:
        """Note a name that is listed, and the first of its contents if it may go."""
        self.is_there[name] = True
        if node is not None:
            self._has_node[name] = True
            self._devices[name], self._inodes[name] = node
        if first is not None:
            self._is_due[name] = True
            self.firsts[name] = first

    def find_twin(self) -> int | None:
        """Return a name that leads where another one does."""
        names = [name for name, has_node in enumerate(self._has_node) if has_node]
        names.sort(key=self._devices.__getitem__)
        names.sort(key=self._inodes.__getitem__)
        twins = (name for one, name in pairwise(names) if self.node(one) == self.node(name))
        return next(twins, None)

    def due(self) -> Iterator[int]:
        """Yield the names that may go, in order."""
        return (name for name, is_due in enumerate(self._is_due) if is_due)

    def node(self, name: int) -> tuple[int, int] | None:
        """Return what a name leads to, if that is known."""
        return (self._devices[name], self._inodes[name]) if self._has_node[name] else None


def _folded(path: bytes) -> str:
    return path.decode(errors="surrogateescape").casefold()


def _unix_us(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
