from collections import Counter
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.ingest.files import FileKey
from edge_agent.ingest.grouping import group_clips
from edge_agent.ingest.inventory import FoundClip
from protocol.manifest import ClipKind
from tests.simulators.docking_site import MORNING, load_profile, mtime_ns

A8 = load_profile("dsj-a8")

starts = st.integers(0, 60).map(lambda seconds: MORNING + timedelta(seconds=seconds))


@st.composite
def found_clips(draw: st.DrawFn) -> FoundClip:
    started: datetime | None = draw(st.none() | starts)
    return FoundClip(
        key=FileKey(
            path=draw(st.binary(min_size=1, max_size=3)),
            size_bytes=draw(st.integers(1, 2)),
            mtime_ns=mtime_ns(draw(starts)),
        ),
        kind=draw(st.sampled_from(ClipKind)),
        officer=draw(st.sampled_from(["012345", "012346"])),
        started=started,
        sequence=draw(st.none() | st.integers(0, 6)),
        marked=draw(st.booleans()),
    )


clip_lists = st.lists(found_clips(), max_size=14, unique_by=lambda clip: clip.key)


@given(clip_lists)
def test_every_clip_is_in_exactly_one_recording(clips: list[FoundClip]) -> None:
    """Nothing is lost, nothing is doubled, and no place is empty."""
    groups = group_clips(clips, A8)

    assert Counter(clip for group in groups for clip in group.clips) == Counter(clips)
    assert all(slot.candidates for group in groups for slot in group.slots)


@given(clip_lists, st.randoms(use_true_random=False))
def test_the_order_of_the_listing_does_not_matter(clips: list[FoundClip], chance: object) -> None:
    """The same files give the same recordings, however the volume lists them."""
    shuffled = list(clips)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis gives a Random

    assert group_clips(shuffled, A8) == group_clips(clips, A8)


@given(clip_lists)
def test_a_recording_has_one_officer_and_rising_numbers(clips: list[FoundClip]) -> None:
    """Within a recording each place has the next number, and one kind and officer."""
    for group in group_clips(clips, A8):
        numbers = [slot.first.sequence for slot in group.slots]
        assert len({(clip.kind, clip.officer) for clip in group.clips}) == 1
        if len(numbers) > 1:
            first = numbers[0]
            assert first is not None
            assert numbers == list(range(first, first + len(numbers)))
