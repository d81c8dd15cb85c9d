import dataclasses
from datetime import datetime, timedelta

import pytest

from edge_agent.ingest.files import FileKey
from edge_agent.ingest.grouping import MAX_CLIPS, ClipGroup, find_sequence_gaps, group_clips
from edge_agent.ingest.inventory import FoundClip
from protocol.findings import FindingCode
from protocol.manifest import ClipKind
from tests.simulators.docking_site import MORNING, clip_path, load_profile, mtime_ns

A8 = load_profile("dsj-a8")
LENGTH = timedelta(seconds=12)


def clip(
    started: datetime,
    sequence: int,
    *,
    ended: datetime | None = None,
    mark: str = "",
    kind: ClipKind = ClipKind.VIDEO,
    officer: str = "012345",
) -> FoundClip:
    return FoundClip(
        key=FileKey(
            path=clip_path(started, sequence, mark=mark, officer=officer),
            size_bytes=1,
            mtime_ns=mtime_ns(ended or started + LENGTH),
        ),
        kind=kind,
        officer=officer,
        serial="0000017",
        started=started,
        sequence=sequence,
        marked=bool(mark),
    )


def shape(groups: tuple[ClipGroup, ...]) -> list[list[int | None]]:
    return [[slot.first.sequence for slot in group.slots] for group in groups]


@pytest.mark.parametrize(
    ("gap_s", "joined"), [(-6, False), (-5, True), (0, True), (5, True), (6, False)]
)
def test_the_gap_decides(gap_s: int, *, joined: bool) -> None:
    """A clip that starts within the profile's gap of the last one's end continues the recording."""
    first = clip(MORNING, 1)
    second = clip(MORNING + LENGTH + timedelta(seconds=gap_s), 2)

    assert shape(group_clips([second, first], A8)) == ([[1, 2]] if joined else [[1], [2]])


def test_a_number_that_does_not_follow_begins_a_recording() -> None:
    """Without the next number, there is no telling what was between."""
    assert shape(group_clips([clip(MORNING, 1), clip(MORNING + LENGTH, 3)], A8)) == [[1], [3]]


def test_two_officers_make_two_recordings() -> None:
    """A recorder that changes hands begins a recording."""
    clips = [clip(MORNING, 1), clip(MORNING + LENGTH, 2, officer="012346")]

    assert shape(group_clips(clips, A8)) == [[1], [2]]


def test_photographs_stand_alone() -> None:
    """Only videos follow each other."""
    clips = [clip(MORNING, 1), clip(MORNING + LENGTH, 2, kind=ClipKind.PHOTO)]

    assert shape(group_clips(clips, A8)) == [[1], [2]]


def test_a_clip_and_its_marked_copy_are_in_one_place() -> None:
    """A marked copy has a later time of its own; the recording goes on over the unmarked clip."""
    marked = clip(MORNING, 1, mark="IMP", ended=MORNING + timedelta(minutes=3))
    clips = [marked, clip(MORNING, 1), clip(MORNING + LENGTH, 2)]

    [group] = group_clips(clips, A8)

    assert [[one.marked for one in slot.candidates] for slot in group.slots] == [
        [False, True],
        [False],
    ]
    assert group.marked


def test_the_unmarked_clip_is_first_wherever_it_is() -> None:
    """A marked copy in an earlier folder does not take the place of what was filmed."""
    plain = clip(MORNING, 1)
    marked = clip(MORNING, 1, mark="IMP")
    marked = dataclasses.replace(
        marked, key=dataclasses.replace(marked.key, path=b"DCIM/000/" + marked.key.path)
    )

    [group] = group_clips([marked, plain], A8)

    assert group.slots[0].first == plain


def test_clips_without_a_start_are_no_twins() -> None:
    """Two files whose names say nothing are two recordings."""
    clips = [
        FoundClip(key=FileKey(path=name, size_bytes=1, mtime_ns=0), kind=ClipKind.VIDEO)
        for name in (b"a.mp4", b"b.mp4")
    ]

    assert len(group_clips(clips, A8)) == 2


def test_recordings_are_in_order_of_time() -> None:
    """The oldest recording comes first, whatever its name."""
    later, earlier = clip(MORNING + timedelta(days=1), 1), clip(MORNING, 9)

    assert shape(group_clips([later, earlier], A8)) == [[9], [1]]


def test_a_recording_is_never_longer_than_a_manifest() -> None:
    """A chain without end is cut."""
    clips = [clip(MORNING + n * LENGTH, n + 1) for n in range(MAX_CLIPS + 1)]

    assert [len(group.slots) for group in group_clips(clips, A8)] == [MAX_CLIPS, 1]


def test_a_thousand_files_of_one_name_are_not_one_place() -> None:
    """However many folders hold the same clip's name, they do not hold up one recording."""
    one = clip(MORNING, 1)
    clips = [
        FoundClip(
            key=FileKey(path=b"DCIM/%d/x.mp4" % folder, size_bytes=1, mtime_ns=one.key.mtime_ns),
            kind=one.kind,
            started=one.started,
            sequence=one.sequence,
        )
        for folder in range(1_000)
    ]

    groups = group_clips(clips, A8)

    assert sum(len(group.clips) for group in groups) == 1_000
    assert max(len(group.clips) for group in groups) < 10


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ([1, 2, 3], []),
        ([1, 4], ["2 missing before it: 2 to 3"]),
        ([1, 3, 4, 6], ["1 missing before it: 2 to 2", "1 missing before it: 5 to 5"]),
        ([8, 9, 1, 2], []),
        ([5, 5, 6], []),
    ],
)
def test_missing_numbers_are_told(numbers: list[int], told: list[str]) -> None:
    """Numbers missing between two clips of a day are told; a counter that began anew is not."""
    clips = [clip(MORNING + n * timedelta(minutes=5), number) for n, number in enumerate(numbers)]

    findings = find_sequence_gaps(clips)

    assert [one.detail for one in findings] == told
    assert {one.code for one in findings} <= {FindingCode.SEQUENCE_GAP}


def test_days_are_counted_apart() -> None:
    """What was archived and deleted on the days before is no gap of today."""
    clips = [clip(MORNING, 1), clip(MORNING + timedelta(days=1), 9)]

    assert not find_sequence_gaps(clips)
