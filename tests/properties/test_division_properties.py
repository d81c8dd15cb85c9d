from collections import Counter
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.ingest.division import divide
from edge_agent.ingest.files import FileKey
from edge_agent.ingest.grouping import ClipGroup, group_clips
from edge_agent.ingest.inventory import FoundClip, found_file
from edge_agent.ingest.listing import Limits, Listing, PackedEntries, key_of, take_listing
from edge_agent.ingest.volume import EntryKind, RawEntry
from tests.simulators.docking_site import MORNING, clip_path, load_profile, mtime_ns

A8 = load_profile("dsj-a8")
PLAIN_PATHS = st.sampled_from([b"LOG/a.log", b"b", b"DCIM/c.txt"])

clip_paths = st.builds(
    lambda sequence, mark, officer: clip_path(MORNING, sequence, mark=mark, officer=officer),
    st.integers(1, 9),
    st.sampled_from(["", "IMP"]),
    st.sampled_from(["012345", "012346"]),
)
entries = st.builds(
    RawEntry,
    path=clip_paths | PLAIN_PATHS | st.binary(min_size=1, max_size=3),
    kind=st.sampled_from([EntryKind.FILE] * 6 + [EntryKind.LINK, EntryKind.DIRECTORY]),
    size_bytes=st.integers(0, 3),
    mtime_ns=st.sampled_from([mtime_ns(MORNING), 0]),
)
listings = st.lists(entries, max_size=24, unique_by=lambda one: one.path)


@given(listings, st.lists(clip_paths, max_size=4, unique=True), st.integers(1, 6))
def test_everything_is_in_exactly_one_piece(
    listed: list[RawEntry], gone_paths: list[bytes], most_files: int
) -> None:
    """Nothing is lost, nothing is read twice, and a piece is small unless a recording is large."""
    paths = {entry.path for entry in listed}
    gone = [FileKey(path=path, size_bytes=1, mtime_ns=0) for path in gone_paths]
    gone = [key for key in gone if key.path not in paths]

    pieces = divide(listed, gone, A8, most_files=most_files)

    taken = Counter(entry for piece in pieces for entry in piece.entries)
    assert taken == Counter(one for one in listed if one.kind is not EntryKind.DIRECTORY)
    assert Counter(key for piece in pieces for key in piece.gone) == Counter(gone)
    for piece in pieces:
        count = len(piece.entries) + len(piece.gone)
        assert count <= most_files or len(_groups(piece.entries, piece.gone)) == 1


@given(listings, st.integers(1, 6))
def test_no_recording_is_in_two_pieces(listed: list[RawEntry], most_files: int) -> None:
    """What is one recording on the whole recorder is one in its piece."""
    pieces = divide(listed, (), A8, most_files=most_files)

    in_pieces = [group for piece in pieces for group in _groups(piece.entries, ())]
    assert Counter(in_pieces) == Counter(_groups(listed, ()))


@given(listings, st.integers(1, 6))
def test_what_officers_marked_comes_first(listed: list[RawEntry], most_files: int) -> None:
    """Once a piece has an unmarked recording, no later one has a marked recording."""
    pieces = divide(listed, (), A8, most_files=most_files)

    marks = [[group.marked for group in _groups(piece.entries, ())] for piece in pieces]
    first_unmarked = next((n for n, of in enumerate(marks) if not all(of)), len(marks))
    assert not any(any(of) for of in marks[first_unmarked + 1 :])


@given(st.lists(entries, max_size=12))
def test_packed_entries_are_what_was_packed(listed: list[RawEntry]) -> None:
    """Packing loses nothing, and sorting keeps equal paths as they came."""
    packed = PackedEntries(listed)

    assert list(packed) == listed
    assert list(packed.by_path()) == sorted(listed, key=lambda one: one.path)
    assert list(packed[1:]) == listed[1:]


@given(listings, listings)
def test_a_later_listing_says_what_is_new(before: list[RawEntry], after: list[RawEntry]) -> None:
    """What an earlier listing does not show just so is new, and no more than that."""
    earlier, later = (take_listing(one, Limits()) for one in (before, after))

    new = later.since(earlier, also=())

    assert set(new.entries) == set(after) - set(before)
    assert Counter(later.since(earlier, also={one.path for one in after}).entries) == Counter(after)
    assert later.shows_the_same(earlier) == (_but_folders(later) == _but_folders(earlier))


def _but_folders(listing: Listing) -> set[RawEntry]:
    return {one for one in listing.entries if one.kind is not EntryKind.DIRECTORY}


def _groups(listed: Iterable[RawEntry], gone: Iterable[FileKey]) -> tuple[ClipGroup, ...]:
    keys = [key_of(one) for one in listed if one.kind is EntryKind.FILE]
    found = [found_file(key, A8) for key in (*keys, *gone)]
    return group_clips([one for one in found if isinstance(one, FoundClip)], A8)
