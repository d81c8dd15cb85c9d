"""A recorder's files in pieces, each small enough to be surveyed, read and sealed by itself.

What a docking keeps in mind of a file is a kilobyte or two: of one piece at a time that is little,
whatever is on the card. No recording is in two pieces, and what is to be taken first comes first.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from edge_agent.ingest.files import FileKey
from edge_agent.ingest.grouping import age_of, join_clips, joining_order
from edge_agent.ingest.inventory import FoundClip, found_file
from edge_agent.ingest.listing import PackedEntries, key_of
from edge_agent.ingest.profile import Profile
from edge_agent.ingest.volume import EntryKind, RawEntry
from protocol.manifest import MAX_FILES

# As many as a manifest claims; a shift in clips of one minute is less.
PIECE_FILES: Final = MAX_FILES


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of a recorder's files.

    Attributes:
        entries: Of the listing, folders not counted.
        gone: Files that were begun at an earlier docking and are not in the listing.
    """

    entries: Sequence[RawEntry]
    gone: tuple[FileKey, ...] = ()

    @property
    def paths(self) -> frozenset[bytes]:
        """Of everything in it."""
        return frozenset(entry.path for entry in self.entries) | {key.path for key in self.gone}

    @property
    def files(self) -> int:
        """How many files there are to be read at most."""
        return sum(entry.kind is EntryKind.FILE for entry in self.entries)

    @property
    def size_bytes(self) -> int:
        """How many bytes they have."""
        return sum(entry.size_bytes for entry in self.entries)


def divide(
    entries: Sequence[RawEntry],
    gone: Sequence[FileKey],
    profile: Profile,
    *,
    most_files: int = PIECE_FILES,
) -> tuple[Piece, ...]:
    """Return the pieces, at least one: marked recordings, then older ones, then all the rest.

    Args:
        entries: Of the listing, untrusted.
        gone: Files that were begun at an earlier docking and are not in the listing.
        profile: Of the recorder's model.
        most_files: In a piece, unless a single recording has more.
    """
    items = _Items(entries, gone)
    if len(items) <= most_files:
        return (items.piece(range(len(items))),)
    pieces: list[Piece] = []
    filled = array("q")
    for unit in _units(items, profile):
        if filled and len(filled) + len(unit) > most_files:
            pieces.append(items.piece(filled))
            filled = array("q")
        filled.extend(unit)
    return (*pieces, items.piece(filled))


class _Items:
    """All that is divided, by number: the entries of the listing, then what is gone."""

    def __init__(self, entries: Sequence[RawEntry], gone: Sequence[FileKey]) -> None:
        folder = EntryKind.DIRECTORY
        self._entries = PackedEntries(one for one in entries if one.kind is not folder)
        self._gone = gone

    def __len__(self) -> int:
        return len(self._entries) + len(self._gone)

    def clip(self, number: int, profile: Profile) -> FoundClip | None:
        """Return the clip of that number, if it is one by its name."""
        if number >= len(self._entries):
            key = self._gone[number - len(self._entries)]
        else:
            entry = self._entries[number]
            if entry.kind is not EntryKind.FILE:
                return None
            key = key_of(entry)
        found = found_file(key, profile)
        return found if isinstance(found, FoundClip) else None

    def piece(self, numbers: Sequence[int]) -> Piece:
        """Return what has these numbers."""
        count = len(self._entries)
        return Piece(
            entries=self._entries.select(one for one in numbers if one < count),
            gone=tuple(self._gone[one - count] for one in numbers if one >= count),
        )


def _units(items: _Items, profile: Profile) -> Iterator[Sequence[int]]:
    """Yield the numbers of what stays together, in the order in which it is taken."""
    others = array("q")
    orders = []
    for number in range(len(items)):
        clip = items.clip(number, profile)
        if clip is None:
            others.append(number)
        else:
            orders.append((*joining_order(clip), clip.key.path, number))
    orders.sort()
    clips = array("q", (order[-1] for order in orders))
    del orders
    yield from _recordings(clips, items, profile)
    for number in others:
        yield (number,)


def _recordings(clips: Sequence[int], items: _Items, profile: Profile) -> Iterator[Sequence[int]]:
    """Yield the numbers of each recording's clips, of *clips* in `joining_order`."""
    found = (clip for number in clips if (clip := items.clip(number, profile)) is not None)
    starts, ages = array("q", [0]), []
    for index, group in enumerate(join_clips(found, profile)):
        ages.append((not group.marked, *age_of(group, profile.zone), index))
        starts.append(starts[-1] + len(group.clips))
    ages.sort()
    for age in ages:
        index = age[-1]
        yield clips[starts[index] : starts[index + 1]]
