"""A volume's listing, as much of it as is accepted, in little memory.

A card may hold 100,000 files, and every bay has its own listing for as long as it reads.
"""

from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise, zip_longest
from typing import Final, Self, overload

from edge_agent.ingest.files import FileKey
from edge_agent.ingest.volume import EntryKind, RawEntry, clamp_mtime

_KINDS: Final = tuple(EntryKind)
_UNKNOWN: Final = -1  # no hash is that
_NUMBERS: Final = {kind: number for number, kind in enumerate(_KINDS)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of one recorder is listed; a full 256 GB card has some thousand files."""

    max_entries: int = 200_000
    max_counted: int = 1_000_000


class PackedEntries(Sequence[RawEntry]):
    """Entries without an object for each: a path and 17 bytes."""

    __slots__ = ("_kinds", "_mtimes_ns", "_paths", "_sizes_bytes")

    def __init__(self, entries: Iterable[RawEntry] = ()) -> None:
        """Pack *entries*, in their order."""
        self._paths: list[bytes] = []
        self._kinds = bytearray()
        self._sizes_bytes = array("q")
        self._mtimes_ns = array("q")
        for entry in entries:
            self._paths.append(entry.path)
            self._kinds.append(_NUMBERS[entry.kind])
            self._sizes_bytes.append(entry.size_bytes)
            self._mtimes_ns.append(clamp_mtime(entry.mtime_ns))

    @overload
    def __getitem__(self, index: int) -> RawEntry: ...
    @overload
    def __getitem__(self, index: slice) -> "PackedEntries": ...
    def __getitem__(self, index: int | slice) -> "RawEntry | PackedEntries":
        """Return one entry, or some of them, packed."""
        if isinstance(index, slice):
            return self.select(range(*index.indices(len(self))))
        return RawEntry(
            path=self._paths[index],
            kind=_KINDS[self._kinds[index]],
            size_bytes=self._sizes_bytes[index],
            mtime_ns=self._mtimes_ns[index],
        )

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._paths)

    def select(self, indices: Iterable[int]) -> "PackedEntries":
        """Return the entries at *indices*, in that order; the paths are shared."""
        return PackedEntries(self[index] for index in indices)

    def by_path(self) -> "PackedEntries":
        """Return all in order of path; of equal paths the first stays before the others."""
        return self.select(sorted(range(len(self)), key=self._paths.__getitem__))


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """As much of a volume's listing as is accepted.

    Attributes:
        entries: In order of path, each path once, as it came first.
        beyond: How many more entries there were, counted up to Limits.max_counted.
        repeated: Entries whose path stood there already.
        same: Paths that lead to the same file or folder, those of each together.
    """

    entries: Sequence[RawEntry]
    beyond: int = 0
    repeated: tuple[RawEntry, ...] = ()
    same: tuple[tuple[bytes, ...], ...] = ()

    def shows_the_same(self, earlier: "Listing") -> bool:
        """Return whether nothing but folders' own times is different from an *earlier* one."""
        pairs = zip_longest(_but_folders(self.entries), _but_folders(earlier.entries))
        return self.beyond == earlier.beyond and all(mine == its for mine, its in pairs)

    def since(self, earlier: "Listing", *, also: Collection[bytes]) -> Self:
        """Return what an *earlier* listing does not show just so, and the paths in *also*."""
        before = iter(earlier.entries)
        its = next(before, None)
        new: list[int] = []
        for index, mine in enumerate(self.entries):
            while its is not None and its.path < mine.path:
                its = next(before, None)
            if mine != its or mine.path in also:
                new.append(index)
        return replace(self, entries=PackedEntries(self.entries[index] for index in new))

    @property
    def file_paths(self) -> tuple[bytes, ...]:
        """The paths of all regular files."""
        return tuple(entry.path for entry in self.entries if entry.kind is EntryKind.FILE)


def take_listing(entries: Iterable[RawEntry], limits: Limits) -> Listing:
    """Return the first entries of a volume's listing, and how many there are beyond the limit."""
    listed = iter(entries)
    nodes = array("q")
    unsorted = PackedEntries(_noting(nodes, islice(listed, limits.max_entries)))
    found = unsorted.by_path()
    first: list[int] = []
    repeated: list[RawEntry] = []
    for index, entry in enumerate(found):
        if first and found[first[-1]].path == entry.path:
            repeated.append(entry)
        else:
            first.append(index)
    return Listing(
        entries=found.select(first) if repeated else found,
        beyond=sum(1 for _ in islice(listed, limits.max_counted)),
        repeated=tuple(repeated),
        same=_same(nodes, unsorted),
    )


def _noting(nodes: "array[int]", entries: Iterable[RawEntry]) -> Iterator[RawEntry]:
    """Yield entries, and put what each leads to at the end of *nodes*."""
    for entry in entries:
        nodes.append(_UNKNOWN if entry.node is None else hash(entry.node))
        yield entry


def _same(nodes: "array[int]", entries: Sequence[RawEntry]) -> tuple[tuple[bytes, ...], ...]:
    suspects = {one for one, after in pairwise(sorted(nodes)) if one == after != _UNKNOWN}
    if not suspects:
        return ()
    paths: dict[int, set[bytes]] = {}
    for node, entry in zip(nodes, entries, strict=True):
        if node in suspects:
            paths.setdefault(node, set()).add(entry.path)
    return tuple(sorted(tuple(sorted(same)) for same in paths.values() if len(same) > 1))


def key_of(entry: RawEntry) -> FileKey:
    """Return the key of a regular file, as its listing gives it."""
    return FileKey(
        path=entry.path, size_bytes=entry.size_bytes, mtime_ns=clamp_mtime(entry.mtime_ns)
    )


def listed_keys(entries: Iterable[RawEntry]) -> frozenset[FileKey]:
    """Return the keys of all regular files."""
    return frozenset(key_of(entry) for entry in entries if entry.kind is EntryKind.FILE)


def _but_folders(entries: Iterable[RawEntry]) -> Iterator[RawEntry]:
    return (entry for entry in entries if entry.kind is not EntryKind.DIRECTORY)
