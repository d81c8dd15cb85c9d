"""Which parts of a file to try, when its recorder cannot read it from end to end.

After ddrescue: first large steps towards the end, leaping further ahead each time that one fails;
then what was leapt over and what failed, halved again and again down to single sectors, the
largest first. So most of the file is held before a dying card was tried for long.
"""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

# What Linux reads at least through its page cache.
SECTOR_BYTES: Final = 4096
STEP_BYTES: Final = 1024 * 1024
MAX_LEAP_BYTES: Final = 256 * 1024 * 1024
# A card may take half a minute to say that it cannot read a sector.
MAX_FAILURES: Final = 128

_SWEEP, _NARROW = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Extent:
    """A part of a file."""

    offset_bytes: int
    size_bytes: int

    @property
    def end_bytes(self) -> int:
        """Where it ends."""
        return self.offset_bytes + self.size_bytes


class Part(Protocol):
    """An Extent, or a ByteRange of a manifest."""

    @property
    def offset_bytes(self) -> int:
        """Where it begins."""

    @property
    def end_bytes(self) -> int:
        """Where it ends."""


class Search:
    """What to try next, as what was tried before came out; each byte succeeds at most once."""

    def __init__(self, holes: Iterable[Extent], *, max_failures: int = MAX_FAILURES) -> None:
        """Begin.

        Args:
            holes: What is not held yet.
            max_failures: After so many parts that could not be read nothing more is tried.
        """
        self._areas = [(_SWEEP, 0, hole.offset_bytes, hole.size_bytes) for hole in holes]
        heapq.heapify(self._areas)
        self._failures_left = max_failures
        self._leap_bytes = 0

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to try."""
        return not self._areas or self._failures_left <= 0

    @property
    def next_part(self) -> Extent:
        """What to read now; not when it is over. The same until `note` is called."""
        _, _, offset_bytes, size_bytes = self._areas[0]
        return Extent(offset_bytes=offset_bytes, size_bytes=min(size_bytes, STEP_BYTES))

    def note(self, *, was_readable: bool) -> None:
        """Take in how it went with `next_part`."""
        tried = self.next_part
        rank, _, offset_bytes, size_bytes = heapq.heappop(self._areas)
        rest = Extent(
            offset_bytes=tried.end_bytes, size_bytes=offset_bytes + size_bytes - tried.end_bytes
        )
        if was_readable:
            self._leap_bytes = 0
            self._add(rank, rest)
            return
        self._failures_left -= 1
        if tried.offset_bytes // SECTOR_BYTES != (tried.end_bytes - 1) // SECTOR_BYTES:
            self._add_halves(tried)
        if rank == _SWEEP:
            self._leap(rest)
        else:
            self._add_halves(rest)

    def _leap(self, rest: Extent) -> None:
        self._leap_bytes = min(max(STEP_BYTES, 2 * self._leap_bytes), MAX_LEAP_BYTES)
        left, right = _cut(rest, rest.offset_bytes + self._leap_bytes)
        self._add(_NARROW, left)
        self._add(_SWEEP, right)

    def _add_halves(self, area: Extent) -> None:
        middle = (area.offset_bytes + area.size_bytes // 2) // SECTOR_BYTES * SECTOR_BYTES
        if middle <= area.offset_bytes:
            middle += SECTOR_BYTES
        for half in _cut(area, middle):
            self._add(_NARROW, half)

    def _add(self, rank: int, area: Extent) -> None:
        if area.size_bytes:
            order = 0 if rank == _SWEEP else -area.size_bytes
            heapq.heappush(self._areas, (rank, order, area.offset_bytes, area.size_bytes))


def holes(size_bytes: int, held: Iterable[Part]) -> Iterator[Extent]:
    """Yield what of a file of *size_bytes* is in none of *held*, in order."""
    reached = 0
    for part in sorted(held, key=lambda part: part.offset_bytes):
        if part.offset_bytes > reached:
            yield Extent(offset_bytes=reached, size_bytes=part.offset_bytes - reached)
        reached = max(reached, part.end_bytes)
    if reached < size_bytes:
        yield Extent(offset_bytes=reached, size_bytes=size_bytes - reached)


def joined(parts: Iterable[Part]) -> Iterator[Extent]:
    """Yield *parts*, which do not overlap, in order, those that touch as one."""
    begin = reached = -1
    for part in sorted(parts, key=lambda part: part.offset_bytes):
        if part.offset_bytes != reached:
            if begin >= 0:
                yield Extent(offset_bytes=begin, size_bytes=reached - begin)
            begin = part.offset_bytes
        reached = part.end_bytes
    if begin >= 0:
        yield Extent(offset_bytes=begin, size_bytes=reached - begin)


def _cut(area: Extent, at_bytes: int) -> tuple[Extent, Extent]:
    at_bytes = min(max(at_bytes, area.offset_bytes), area.end_bytes)
    return (
        Extent(offset_bytes=area.offset_bytes, size_bytes=at_bytes - area.offset_bytes),
        Extent(offset_bytes=at_bytes, size_bytes=area.end_bytes - at_bytes),
    )
