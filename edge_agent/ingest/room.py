"""Room on our disk: who gets what is left of it, and who has to wait.

There are two marks. Down to the upper one everything is taken; between the two only what an
officer marked; below the lower one nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Self

from protocol.identifiers import BayNumber

# More files than any disk has room for: of one that sets no limit.
UNLIMITED_FILES: Final = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What one recording, or one other file, takes of our disk; a recording is taken whole."""

    size_bytes: int
    files: int
    marked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What may still be written to our disk.

    Attributes:
        free_bytes: Above the lower mark.
        free_files: How many new files there may be, whatever their size.
        kept_for_marked_bytes: The part of *free_bytes* between the marks.
        only_marked: Whether somebody else has been waiting for the rest of it.
    """

    free_bytes: int
    free_files: int = UNLIMITED_FILES
    kept_for_marked_bytes: int = 0
    only_marked: bool = False

    def holds(self, need: Need) -> bool:
        """Return whether *need* may have some of it."""
        if self.only_marked and not need.marked:
            return False
        kept_bytes = 0 if need.marked else self.kept_for_marked_bytes
        return need.size_bytes + kept_bytes <= self.free_bytes and need.files <= self.free_files

    def less(self, need: Need) -> Self:
        """Return what is left when *need* was given what it needs."""
        return replace(
            self,
            free_bytes=self.free_bytes - need.size_bytes,
            free_files=self.free_files - need.files,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A bay that waits for room; *since* counts up from bay to bay."""

    bay: BayNumber
    since: int
    need: Need


def next_in_turn(waiting: Iterable[Waiting], room: Room) -> Waiting | None:
    """Return who may go on: marked recordings first, then who has waited longest.

    Who needs more than there is holds up nobody: what he waits for may never come.
    """
    fitting = [one for one in waiting if room.holds(one.need)]
    return min(fitting, key=lambda one: (not one.need.marked, one.since), default=None)
