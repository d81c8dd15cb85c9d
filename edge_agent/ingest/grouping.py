"""From clips to recordings: one recording is one activation of the recorder.

A pure function of the listing: the same clips give the same groups at every docking.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Final
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
    chains: dict[tuple[str | None, str | None], list[ClipSlot]] = defaultdict(list)
    groups: list[ClipGroup] = []
    for slot in _slots(clips):
        clip = slot.first
        if clip.kind is ClipKind.VIDEO and clip.started is not None and clip.sequence is not None:
            chains[clip.officer, clip.serial].append(slot)
        else:
            groups.append(ClipGroup(slots=(slot,)))
    for slots in chains.values():
        groups += _joined(sorted(slots, key=lambda slot: _order(slot.first)), profile)
    return tuple(sorted(groups, key=lambda group: _age(group, profile.zone)))


def find_sequence_gaps(clips: Iterable[FoundClip]) -> tuple[Finding, ...]:
    """Return where numbers are missing between two clips of one officer on one day."""
    days: dict[tuple[str, str, date], list[FoundClip]] = defaultdict(list)
    for clip in clips:
        if clip.started is not None and clip.sequence is not None:
            days[clip.officer or "", clip.serial or "", clip.started.date()].append(clip)
    return tuple(
        finding
        for _, of_day in sorted(days.items())
        for finding in _gaps(sorted(of_day, key=_order))
    )


def _gaps(clips: list[FoundClip]) -> Iterator[Finding]:
    for before, after in pairwise(clips):
        first, last = (before.sequence or 0) + 1, (after.sequence or 0) - 1
        # A lower number is a counter that began anew, not a gap.
        if last >= first:
            yield Finding(
                code=FindingCode.SEQUENCE_GAP,
                path=name_of(after.key.path).path,
                detail=f"{last - first + 1} missing before it: {first} to {last}",
            )


def _slots(clips: Iterable[FoundClip]) -> Iterator[ClipSlot]:
    twins: dict[tuple[object, ...], list[FoundClip]] = defaultdict(list)
    for clip in clips:
        alone = clip.started is None or clip.sequence is None
        twins[
            (clip.key,)
            if alone
            else (clip.kind, clip.officer, clip.serial, clip.started, clip.sequence)
        ].append(clip)
    for same in twins.values():
        ordered = sorted(same, key=lambda clip: (clip.marked, clip.key))
        for start in range(0, len(ordered), _MAX_CANDIDATES):
            yield ClipSlot(candidates=tuple(ordered[start : start + _MAX_CANDIDATES]))


def _joined(slots: list[ClipSlot], profile: Profile) -> Iterator[ClipGroup]:
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


def _order(clip: FoundClip) -> tuple[datetime, int, bytes]:
    return clip.started or _LAST, clip.sequence or 0, clip.key.path


def _age(group: ClipGroup, zone: ZoneInfo) -> tuple[datetime, bytes]:
    first = group.slots[0].first
    return first.started or local_time(first.key.mtime_ns, zone) or _LAST, first.key.path
