from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.hostile import Treatment, build_hostile_volume
from edge_agent.adapters.directory_volume import DirectoryVolume
from edge_agent.ingest.inventory import Inventory, local_time, take_inventory
from edge_agent.ingest.listing import Limits, Listing, take_listing
from edge_agent.ingest.overview import look_over
from edge_agent.ingest.volume import EntryKind, RawEntry
from protocol.findings import Finding, FindingCode
from protocol.manifest import NotTaken, exact_path, name_of
from protocol.strict_json import encode, parse
from tests.simulators.docking_site import (
    DOCKED_AT,
    MORNING,
    ZONE,
    clip_path,
    load_profile,
    mtime_ns,
    recorder_time,
)

A8 = load_profile("dsj-a8")
LIMITS = Limits()
WRITTEN = mtime_ns(MORNING)


def file(path: bytes, *, size_bytes: int = 10, written_ns: int = WRITTEN) -> RawEntry:
    return RawEntry(path=path, kind=EntryKind.FILE, size_bytes=size_bytes, mtime_ns=written_ns)


def inventory(*entries: RawEntry, limits: Limits = LIMITS) -> Inventory:
    listing = take_listing(entries, limits)
    found = take_inventory(listing.entries, A8, docked_at=DOCKED_AT)
    return replace(found, findings=(*look_over(listing, A8).findings, *found.findings))


def codes(found: Inventory) -> list[FindingCode]:
    return [finding.code for finding in found.findings]


def refused(found: Inventory) -> dict[bytes, FindingCode]:
    assert not found.clips
    assert not found.others
    return {exact_path(one.name): one.code for one in found.not_taken}


def test_a_clip_and_its_log_are_taken_without_a_word() -> None:
    """What the model's profile knows is no news."""
    found = inventory(file(clip_path(MORNING, 1)), file(b"LOG/20261121.LOG"))

    assert [clip.key.path for clip in found.clips] == [clip_path(MORNING, 1)]
    assert [other.key.path for other in found.others] == [b"LOG/20261121.LOG"]
    assert not found.findings
    assert not found.not_taken


def test_an_unknown_file_is_taken_and_told() -> None:
    """A thumbnail that no rule knows is kept beside the recordings."""
    found = inventory(file(b"DCIM/100MEDIA/x.THM"))

    assert [other.key.path for other in found.others] == [b"DCIM/100MEDIA/x.THM"]
    assert codes(found) == [FindingCode.UNKNOWN_FILE]


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (EntryKind.LINK, FindingCode.LINK),
        (EntryKind.SPECIAL, FindingCode.SPECIAL_FILE),
        (EntryKind.UNREADABLE_DIRECTORY, FindingCode.UNREADABLE_DIRECTORY),
        (EntryKind.TOO_DEEP, FindingCode.PATH_TOO_LONG),
    ],
)
def test_what_is_no_file_is_listed(kind: EntryKind, code: FindingCode) -> None:
    """Links, pipes and folders that cannot be entered are listed under the code that says why."""
    path = clip_path(MORNING, 1)

    assert refused(inventory(RawEntry(path=path, kind=kind))) == {path: code}


@pytest.mark.parametrize(
    "name",
    [
        b"autorun.inf",
        b"SETUP.EXE",
        b"sub/setup.exe. ",
        b"clip.mp4.scr",
        b"tool.sh",
        b"all.zip",
        b"list.xlsm",
        "turned\u202e4PM.exe".encode(),
    ],
)
def test_foreign_files_stay_outside(name: bytes) -> None:
    """Programs, scripts, archives and documents with macros are reported and not taken."""
    assert refused(inventory(file(name))) == {name: FindingCode.FOREIGN_FILE}


def test_an_empty_file_has_nothing_to_take() -> None:
    """A clip of no bytes is listed with its size; there is nothing else of it."""
    path = clip_path(MORNING, 1)

    found = inventory(file(path, size_bytes=0))

    assert refused(found) == {path: FindingCode.EMPTY_FILE}
    assert found.not_taken[0].size_bytes == 0


def test_a_path_of_4096_bytes_is_taken_and_no_longer_one() -> None:
    """The longest path that one call can open is taken; beyond it, it is listed cut."""
    longest = b"/".join([b"a" * 255] * 16)
    assert len(longest) == 4_095

    assert len(inventory(file(longest)).others) == 1
    found = inventory(file(longest + b"/b"))
    assert [one.code for one in found.not_taken] == [FindingCode.PATH_TOO_LONG]
    assert len(exact_path(found.not_taken[0].name)) == 4_096


def test_a_name_of_other_bytes_is_kept_exactly() -> None:
    """What is not UTF-8 is taken, told, and not changed by a bit."""
    path = b"\xc4\xe3\xff.dat"

    found = inventory(file(path))

    assert found.others[0].key.path == path
    assert FindingCode.NAME_NOT_UTF8 in codes(found)
    assert exact_path(name_of(path)) == path


@pytest.mark.parametrize(
    "name",
    [
        b"a\nb",
        b"\x1b[31mred",
        b"NUL",
        b"com1.txt",
        b"a. ",
        b"a:b",
        "a\u202eb".encode(),
        "c\x85".encode(),
    ],
)
def test_an_unsafe_name_is_taken_and_told(name: bytes) -> None:
    """A name that would harm another system is kept as it is, with a warning."""
    found = inventory(file(b"LOG/" + name))

    assert found.others[0].key.path == b"LOG/" + name
    assert FindingCode.UNSAFE_NAME in codes(found)


def test_names_that_differ_by_case_are_both_taken() -> None:
    """Two names that are one on the recorder's own system are two files here, each told."""
    paths = [b"GPS/a.dat", b"gps/A.dat"]

    found = inventory(*map(file, paths))

    told = {one.path for one in found.findings if one.code is FindingCode.NAMES_DIFFER_BY_CASE}
    assert sorted(other.key.path for other in found.others) == sorted(paths)
    assert told == {path.decode() for path in paths}


@pytest.mark.parametrize(
    ("started", "written_ns", "plausible"),
    [
        (MORNING, WRITTEN, True),
        (recorder_time(1980, 1, 1), WRITTEN, False),
        (recorder_time(2107, 1, 1), WRITTEN, False),
        (MORNING, mtime_ns(recorder_time(1980, 1, 1)), False),
        (MORNING, mtime_ns(recorder_time(2026, 11, 24, 17, 59)), True),
        (MORNING, mtime_ns(recorder_time(2026, 11, 24, 18, 1)), False),
        (MORNING, -(1 << 62), False),
        (MORNING, 1 << 200, False),
    ],
)
def test_times_that_cannot_be_right_are_told(
    started: datetime, written_ns: int, *, plausible: bool
) -> None:
    """Before 2010, or more than a day after the docking: the clock was wrong."""
    found = inventory(file(clip_path(started, 1), written_ns=written_ns))

    assert len(found.clips) == 1
    assert (FindingCode.IMPLAUSIBLE_TIME not in codes(found)) is plausible


def test_no_more_entries_than_the_limit() -> None:
    """What is beyond the limit is counted in one finding, which says that this is not all."""
    entries = [file(b"%d.dat" % number) for number in range(7)]

    found = inventory(*entries, limits=Limits(max_entries=5, max_counted=100))

    assert len(found.others) == 5
    assert "at least 2 more" in next(
        one.detail for one in found.findings if one.code is FindingCode.TOO_MANY_ENTRIES
    )


@pytest.mark.parametrize("kind", [EntryKind.FILE, EntryKind.DIRECTORY])
def test_names_that_lead_to_the_same_hide_something(kind: EntryKind) -> None:
    """On a damaged FAT the second of two names is never reached; which one is, nobody can tell."""
    entries = [
        RawEntry(path=path, kind=kind, size_bytes=4, node=node)
        for path, node in [(b"DCIM/a", (7, 3)), (b"DCIM/A", (7, 3)), (b"DCIM/b", (8, 3))]
    ]
    entries += [RawEntry(path=b"c/%d" % n, kind=EntryKind.FILE, size_bytes=4) for n in (1, 2)]
    listing = take_listing(entries, LIMITS)

    overview = look_over(listing, A8)

    assert listing.same == ((b"DCIM/A", b"DCIM/a"),)
    hidden = FindingCode.UNREADABLE_DIRECTORY
    assert [one.path for one in overview.findings if one.code is hidden] == ["DCIM/A", "DCIM/a"]
    assert not overview.is_whole


def test_an_endless_listing_ends() -> None:
    """A volume that never stops listing is not followed for ever."""
    endless = (file(b"%d.dat" % number) for number in count())

    listing = take_listing(endless, Limits(max_entries=10, max_counted=20))

    assert (len(listing.entries), listing.beyond) == (10, 20)


paths = st.binary(min_size=1, max_size=40).filter(lambda path: b"\0" not in path)


@given(st.lists(st.tuples(paths, st.sampled_from(EntryKind), st.integers(0, 3)), max_size=20))
def test_every_entry_is_accounted_for(entries: list[tuple[bytes, EntryKind, int]]) -> None:
    """Every entry but a folder is a clip, another file or not taken, and can be written down."""
    listing = Listing(
        entries=tuple(
            RawEntry(path=path, kind=kind, size_bytes=size) for path, kind, size in entries
        ),
        beyond=0,
    )

    found = take_inventory(listing.entries, A8, docked_at=DOCKED_AT)

    listed = sorted(path for path, kind, _ in entries if kind is not EntryKind.DIRECTORY)
    taken = [one.key.path for one in found.clips] + [one.key.path for one in found.others]
    assert sorted(taken + [exact_path(one.name) for one in found.not_taken]) == listed
    for finding in found.findings:
        assert parse(encode(finding), Finding, max_bytes=1 << 20) == finding
    for one in found.not_taken:
        assert parse(encode(one), NotTaken, max_bytes=1 << 20) == one


@given(st.integers())
def test_any_file_time_can_be_asked_about(time_ns: int) -> None:
    """A file's time is a time of the recorder's zone, or none."""
    found = local_time(time_ns, ZONE)

    assert found is None or found.tzinfo is None


def test_local_time_is_the_recorders() -> None:
    """Noon UTC is eight in the evening in Shanghai."""
    noon = datetime(2026, 3, 5, 12, tzinfo=UTC)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)

    found = local_time((noon - epoch) // timedelta(microseconds=1) * 1_000, ZONE)

    assert found == recorder_time(2026, 3, 5, 20)


def test_a_hostile_volume(tmp_path: Path) -> None:
    """Every clip with bytes is taken, and every verdict that is owed is given."""
    hostile = build_hostile_volume(tmp_path / "volume", many_files=30, sparse_bytes=1 << 20)
    with DirectoryVolume.mount(hostile.folder) as volume:
        listing = take_listing(volume.entries(), LIMITS)

    found = take_inventory(listing.entries, A8, docked_at=DOCKED_AT)

    taken = {one.key.path for one in (*found.clips,)} | {one.key.path for one in found.others}
    told = {(one.path, one.code) for one in (*found.findings, *look_over(listing, A8).findings)}
    owed = {(name_of(one.path).path, one.finding) for one in hostile.made if one.finding}
    empty = {one.path for one in hostile.made if one.finding is FindingCode.EMPTY_FILE}
    assert owed <= told
    assert hostile.entries(Treatment.COPY) - empty <= taken
    assert not taken & (hostile.entries(Treatment.NEVER_OPEN) | empty)
    assert hostile.good_clip.encode() in taken
