"""From clips to recordings: one recording is one activation of the recorder.

A pure function of the listing: the same clips give the same groups at every docking.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby, islice, pairwise
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from edge_agent.ingest.inventory import FoundClip, local_time
from edge_agent.ingest.profile import Profile
from protocol.findings import Finding, FindingCode
from protocol.manifest import ClipKind, name_of

# A recording must fit one manifest, whatever its names are. A shift of 12 hours in clips of one
# minute is 720.
MAX_CLIPS: Final = 1_000
MAX_PATHS_BYTES: Final = 1 << 20
# A clip and its marked copy are two; a thousand files of one name in as many folders are no twins.
_MAX_CANDIDATES: Final = 8
_LAST: Final = datetime.max  # noqa: DTZ901 - a recorder's clock has no zone


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSlot:
    """One place in a recording.

    Attributes:
        candidates: Never empty; more than one where a clip was marked, which copies it under a new
            name: only their digests say whether they are one clip. Unmarked ones first.
    """

    candidates: tuple[FoundClip, ...]

    @property
    def first(self) -> FoundClip:
        """The clip as the recorder made it, if it is still there."""
        return self.candidates[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipGroup:
    """The clips of one recording, in order; never empty."""

    slots: tuple[ClipSlot, ...]

    @property
    def clips(self) -> tuple[FoundClip, ...]:
        """All clips of all slots."""
        return tuple(clip for slot in self.slots for clip in slot.candidates)

    @property
    def marked(self) -> bool:
        """Whether the officer marked any clip as important."""
        return any(clip.marked for clip in self.clips)


def group_clips(clips: Iterable[FoundClip], profile: Profile) -> tuple[ClipGroup, ...]:
    """Return the recordings that *clips* make, oldest first.

    Two videos are of one recording when officer and recorder are the same, the later one has the
    next sequence number and starts within the profile's gap of the end of the earlier one. What
    is no video, or whose name does not say when it started, is a recording of its own.
    """
    groups = join_clips(sorted(clips, key=lambda clip: (*joining_order(clip), clip.key)), profile)
    return tuple(sorted(groups, key=lambda group: age_of(group, profile.zone)))


def joining_order(clip: FoundClip) -> tuple[str, str, str, datetime, int, bool]:
    """Return by what clips are to be sorted before they are joined; then by key."""
    return (
        clip.kind.value,
        clip.officer or "",
        clip.serial or "",
        clip.started or _LAST,
        -1 if clip.sequence is None else clip.sequence,
        clip.marked,
    )


def join_clips(clips: Iterable[FoundClip], profile: Profile) -> Iterator[ClipGroup]:
    """Yield the recordings of *clips*, which come in `joining_order`, one at a time.

    The clips of a recording follow each other in that order, and so do recordings.
    """
    for chain, slots in groupby(_slots(clips), key=lambda slot: _chain(slot.first)):
        if chain is None:
            yield from (ClipGroup(slots=(slot,)) for slot in slots)
        else:
            yield from _joined(slots, profile)


def find_sequence_gaps(clips: Iterable[FoundClip]) -> tuple[Finding, ...]:
    """Return where numbers are missing between two clips of one officer on one day."""
    numbered = sorted(
        _Numbered(clip.officer or "", clip.serial or "", clip.started, clip.sequence, clip.key.path)
        for clip in clips
        if clip.started is not None and clip.sequence is not None
    )
    return tuple(
        finding
        for before, after in pairwise(numbered)
        if before.day == after.day
        for finding in _gap(before, after)
    )


class _Numbered(NamedTuple):
    """What tells a gap, in the order in which gaps are looked for."""

    officer: str
    serial: str
    started: datetime
    sequence: int
    path: bytes

    @property
    def day(self) -> tuple[str, str, date]:
        return self.officer, self.serial, self.started.date()


def _gap(before: _Numbered, after: _Numbered) -> Iterator[Finding]:
    first, last = before.sequence + 1, after.sequence - 1
    # A lower number is a counter that began anew, not a gap.
    if last >= first:
        yield Finding(
            code=FindingCode.SEQUENCE_GAP,
            path=name_of(after.path).path,
            detail=f"{last - first + 1} missing before it: {first} to {last}",
        )


def _chain(clip: FoundClip) -> tuple[str | None, str | None] | None:
    """Return whose clips are joined to this one; None if none are."""
    is_timed = clip.started is not None and clip.sequence is not None
    return (clip.officer, clip.serial) if clip.kind is ClipKind.VIDEO and is_timed else None


def _twin(clip: FoundClip) -> tuple[object, ...]:
    if clip.started is None or clip.sequence is None:
        return (clip.key,)
    return clip.kind, clip.officer, clip.serial, clip.started, clip.sequence


def _slots(clips: Iterable[FoundClip]) -> Iterator[ClipSlot]:
    for _, same in groupby(clips, key=_twin):
        while candidates := tuple(islice(same, _MAX_CANDIDATES)):
            yield ClipSlot(candidates=candidates)


def _joined(slots: Iterable[ClipSlot], profile: Profile) -> Iterator[ClipGroup]:
    group: list[ClipSlot] = []
    for slot in slots:
        if group and not (_continues(group[-1].first, slot.first, profile) and _fits(group, slot)):
            yield ClipGroup(slots=tuple(group))
            group = []
        group.append(slot)
    if group:
        yield ClipGroup(slots=tuple(group))


def _continues(before: FoundClip, after: FoundClip, profile: Profile) -> bool:
    ended = local_time(before.key.mtime_ns, profile.zone)
    return (
        ended is not None
        and after.started is not None
        and after.sequence == (before.sequence or 0) + 1
        and abs(after.started - ended) <= timedelta(seconds=profile.join.gap_s)
    )


def _fits(group: list[ClipSlot], slot: ClipSlot) -> bool:
    clips = [clip for one in (*group, slot) for clip in one.candidates]
    return len(clips) <= MAX_CLIPS and sum(len(c.key.path) for c in clips) <= MAX_PATHS_BYTES


def age_of(group: ClipGroup, zone: ZoneInfo) -> tuple[datetime, bytes]:
    """Return by what recordings are ordered: when they began, as well as that is known."""
    first = group.slots[0].first
    return first.started or local_time(first.key.mtime_ns, zone) or _LAST, first.key.path
