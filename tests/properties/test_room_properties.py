"""Properties of who gets room on the dock's disk."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.ingest.files import FileKey
from edge_agent.ingest.grouping import group_clips
from edge_agent.ingest.inventory import FoundClip, FoundFile, found_file
from edge_agent.ingest.plan import Plan, make_plan
from edge_agent.ingest.room import Need, Room, Waiting, next_in_turn
from protocol.identifiers import BayNumber
from tests.simulators.docking_site import MORNING, clip_path, load_profile, mtime_ns

A8 = load_profile("dsj-a8")

rooms = st.builds(
    Room,
    free_bytes=st.integers(0, 300),
    free_files=st.integers(0, 10),
    kept_for_marked_bytes=st.integers(0, 200),
    only_marked=st.booleans(),
)
needs = st.builds(
    Need, size_bytes=st.integers(0, 300), files=st.integers(0, 10), marked=st.booleans()
)
# Size, and whether it is marked; each clip is a recording of its own.
volumes = st.lists(st.tuples(st.integers(0, 100), st.booleans()), max_size=10)


def plan(volume: list[tuple[int, bool]], room: Room) -> Plan:
    found = [
        found_file(
            FileKey(
                path=clip_path(MORNING + number * timedelta(hours=1), number, mark=mark),
                size_bytes=size_bytes,
                mtime_ns=mtime_ns(MORNING),
            ),
            A8,
        )
        for number, (size_bytes, marked) in enumerate(volume, 1)
        for mark in (["IMP"] if marked else [""])
    ]
    clips = [one for one in found if isinstance(one, FoundClip)]
    others = [one for one in found if isinstance(one, FoundFile)]
    return make_plan(group_clips(clips, A8), others, {}, room=room)


@given(volumes, rooms)
def test_the_marks_hold(volume: list[tuple[int, bool]], room: Room) -> None:
    """Unmarked footage never goes below the upper mark, and nothing below the lower one."""
    planned = plan(volume, room)

    assert planned.missing_bytes <= room.free_bytes
    assert len(planned.steps) <= room.free_files
    if not all(step.marked for step in planned.steps):
        assert not room.only_marked
        assert planned.missing_bytes + room.kept_for_marked_bytes <= room.free_bytes


@given(volumes, rooms)
def test_nothing_is_forgotten(volume: list[tuple[int, bool]], room: Room) -> None:
    """Each file is taken or waits, and who waits is told for what."""
    planned = plan(volume, room)

    assert len(planned.steps) + len(planned.no_space) == len(volume)
    assert (planned.waits_for is None) == (not planned.no_space)
    if planned.waits_for is not None:
        assert not room.holds(planned.waits_for) or planned.steps


@given(volumes, rooms)
def test_unmarked_footage_takes_no_room_from_marked(
    volume: list[tuple[int, bool]], room: Room
) -> None:
    """The same marked clips are taken as if there were no others."""
    alone = plan([one if one[1] else (0, False) for one in volume], room)
    marked = [step.key for step in plan(volume, room).steps if step.marked]

    assert marked == [step.key for step in alone.steps if step.marked]


@given(st.lists(needs, max_size=8), rooms)
def test_somebody_goes_on_whenever_somebody_can(wanted: list[Need], room: Room) -> None:
    """Marked first, then the longest waiting, of those for whom there is room."""
    waiting = [
        Waiting(bay=BayNumber(number), since=100 - number, need=need)
        for number, need in enumerate(wanted, 1)
    ]

    chosen = next_in_turn(waiting, room)

    fitting = [one for one in waiting if room.holds(one.need)]
    assert (chosen is None) == (not fitting)
    for other in fitting:
        assert chosen is not None
        assert (chosen.need.marked, -chosen.since) >= (other.need.marked, -other.since)
