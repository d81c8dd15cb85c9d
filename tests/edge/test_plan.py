import dataclasses
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.ingest.files import FileId, FileKey, FileRow, FileState
from edge_agent.ingest.grouping import group_clips
from edge_agent.ingest.inventory import FoundClip, FoundFile, Inventory, found_file
from edge_agent.ingest.plan import Plan, make_plan
from edge_agent.ingest.reconciling import reconcile
from edge_agent.ingest.room import Room
from protocol.findings import FindingCode
from protocol.identifiers import DockingId
from tests.simulators.docking_site import MORNING, clip_path, load_profile, mtime_ns
from tests.simulators.sealed_manifests import docking_id

A8 = load_profile("dsj-a8")
LENGTH = timedelta(seconds=12)


def key(path: bytes, *, size_bytes: int = 100) -> FileKey:
    return FileKey(path=path, size_bytes=size_bytes, mtime_ns=mtime_ns(MORNING))


def clips(*paths: bytes) -> list[FoundClip]:
    found = [found_file(key(path), A8) for path in paths]
    return [one for one in found if isinstance(one, FoundClip)]


def row(of: FileKey, state: FileState, *, verified_bytes: int = 0) -> FileRow:
    docking: DockingId = docking_id(1)
    return FileRow(
        file_id=FileId(f"id of {of.path!r}"),
        key=of,
        docking_id=docking,
        state=state,
        verified_bytes=verified_bytes,
        prefix_sha256="0" * 64 if verified_bytes else None,
    )


def plan(found: list[FoundClip], *rows: FileRow, free_bytes: int = 1 << 40) -> Plan:
    return make_plan(
        group_clips(found, A8),
        [FoundFile(key=key(b"LOG/20261121.LOG"))],
        {one.key: one for one in rows},
        room=Room(free_bytes=free_bytes),
    )


EARLY, LATE = clip_path(MORNING, 1), clip_path(MORNING + timedelta(hours=1), 2)
MARKED = clip_path(MORNING + timedelta(hours=2), 3, mark="IMP")


def test_marked_first_then_oldest_then_the_rest() -> None:
    """A marked recording comes first, then the oldest, and logs come last."""
    steps = plan(clips(LATE, EARLY, MARKED)).steps

    assert [step.key.path for step in steps] == [MARKED, EARLY, LATE, b"LOG/20261121.LOG"]
    assert [step.marked for step in steps] == [True, False, False, False]


def test_what_is_staged_or_known_is_not_read() -> None:
    """Only what was never read to its end is in the plan."""
    done = [FileState.STAGED, FileState.CLAIMED, FileState.ARCHIVED, FileState.FREED]

    for state in done:
        steps = plan(clips(EARLY, LATE), row(key(EARLY), state)).steps
        assert EARLY not in {step.key.path for step in steps}


def test_a_partial_copy_needs_only_its_rest() -> None:
    """What an earlier docking left is resumed, and counts as room that is taken already."""
    found = plan(clips(EARLY), row(key(EARLY), FileState.COPYING, verified_bytes=60))

    assert [step.missing_bytes for step in found.steps] == [40, 100]
    assert found.total_bytes == 200
    assert (
        len(plan(clips(EARLY), *(s.row for s in found.steps if s.row), free_bytes=140).steps) == 2
    )


def test_what_does_not_fit_is_said() -> None:
    """A recording that is too large waits; a smaller one after it goes ahead."""
    large = [dataclasses.replace(one, key=key(EARLY, size_bytes=500)) for one in clips(EARLY)]

    found = plan([*large, *clips(LATE)], free_bytes=250)

    assert [step.key.path for step in found.steps] == [LATE, b"LOG/20261121.LOG"]
    assert (len(found.no_space), found.lacking_bytes) == (1, 500)


@given(st.lists(st.integers(1, 50), max_size=8), st.integers(0, 200))
def test_the_steps_fit(sizes: list[int], free_bytes: int) -> None:
    """However little room there is, all steps together fit into it."""
    found = [
        dataclasses.replace(one, key=dataclasses.replace(one.key, size_bytes=size))
        for n, size in enumerate(sizes)
        for one in clips(clip_path(MORNING + n * LENGTH, n + 1))
    ]

    planned = make_plan(group_clips(found, A8), [], {}, room=Room(free_bytes=free_bytes))

    assert sum(step.missing_bytes for step in planned.steps) <= free_bytes
    assert len(planned.steps) + len(planned.no_space) == len(found)


def nothing_listed() -> Inventory:
    return Inventory(clips=(), others=(), not_taken=(), findings=())


def test_staged_files_that_left_the_recorder_are_still_settled() -> None:
    """A held clip that the recorder has lost stays part of what the next docking is about."""
    rows = [row(key(EARLY), FileState.STAGED), row(key(b"LOG/20261121.LOG"), FileState.STAGED)]

    found = reconcile(nothing_listed(), rows, A8)

    assert [one.key.path for one in found.clips] == [EARLY]
    assert [one.key.path for one in found.others] == [b"LOG/20261121.LOG"]


def test_a_partial_copy_that_left_the_recorder_is_kept_and_told() -> None:
    """Half a file is all that is left of it: it is not thrown away."""
    found = reconcile(nothing_listed(), [row(key(EARLY), FileState.COPYING, verified_bytes=60)], A8)

    assert not found.outdated
    assert [one.code for one in found.findings] == [FindingCode.UNREADABLE_FILE]


def test_a_copy_that_was_never_begun_is_not_forgotten() -> None:
    """A file that was only planned, and is gone, is missed in its recording."""
    planned = row(key(EARLY), FileState.COPYING)

    found = reconcile(nothing_listed(), [planned], A8)

    assert not found.outdated
    assert found.absent == (planned,)
    assert [clip.key for clip in found.clips] == [planned.key]
    assert [one.code for one in found.findings] == [FindingCode.UNREADABLE_FILE]


def test_a_partial_copy_of_what_changed_is_forgotten_and_told() -> None:
    """The file is still there in another form, and is read anew."""
    begun = row(key(EARLY), FileState.COPYING, verified_bytes=60)
    [now] = clips(EARLY)
    now = dataclasses.replace(now, key=key(EARLY, size_bytes=200))

    found = reconcile(dataclasses.replace(nothing_listed(), clips=(now,)), [begun], A8)

    assert found.outdated == (begun,)
    assert [one.code for one in found.findings] == [FindingCode.SIZE_CHANGED]
