"""What is tried of a file with bad places, by a recorder that answers by a map of its sectors."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_agent.ingest.salvage import (
    MAX_FAILURES,
    SECTOR_BYTES,
    STEP_BYTES,
    Extent,
    Search,
    holes,
    joined,
)

MIB = 1024 * 1024


def sectors(part: Extent) -> range:
    return range(part.offset_bytes // SECTOR_BYTES, (part.end_bytes - 1) // SECTOR_BYTES + 1)


def search(
    size_bytes: int,
    bad: set[int] | range,
    *,
    max_failures: int = MAX_FAILURES,
    first_bytes: int = 0,
) -> tuple[list[Extent], list[Extent]]:
    """Return what could be read, and what was tried, in order."""
    missing = Extent(offset_bytes=first_bytes, size_bytes=size_bytes - first_bytes)
    plan = Search([missing], max_failures=max_failures)
    readable, tried = [], []
    while not plan.is_over:
        part = plan.next_part
        was_readable = not any(sector in bad for sector in sectors(part))
        tried.append(part)
        readable += [part] if was_readable else []
        plan.note(was_readable=was_readable)
    return readable, tried


def lost_sectors(size_bytes: int, readable: list[Extent]) -> set[int]:
    return {sector for hole in holes(size_bytes, readable) for sector in sectors(hole)}


def test_one_bad_sector_costs_itself_alone() -> None:
    """Everything but the bad sector is read, with few attempts that fail."""
    readable, tried = search(64 * MIB, {5_000})

    assert list(holes(64 * MIB, readable)) == [
        Extent(offset_bytes=5_000 * SECTOR_BYTES, size_bytes=SECTOR_BYTES)
    ]
    assert len(tried) - len(readable) == 9


def test_the_rest_comes_before_the_edges() -> None:
    """Nothing smaller than a step is tried before the end of the file was seen."""
    _, tried = search(64 * MIB, {2_000, 9_000})

    sizes = [part.size_bytes for part in tried]
    first_small = next(n for n, size in enumerate(sizes) if size < STEP_BYTES)
    assert max(part.end_bytes for part in tried[:first_small]) == 64 * MIB


def test_a_wide_bad_area_is_leapt_over() -> None:
    """Behind an area as large as a gigabyte, what can be read is found in a few attempts."""
    bad = range(MIB // SECTOR_BYTES, (1 << 30) // SECTOR_BYTES)

    readable, _ = search(2 << 30, bad, max_failures=16)

    assert sum(part.size_bytes for part in readable) > (2 << 30) * 0.35


def test_a_dead_card_is_given_up() -> None:
    """However large the file is, only so many attempts fail."""
    readable, tried = search(200 << 30, range((200 << 30) // SECTOR_BYTES))

    assert not readable
    assert len(tried) == MAX_FAILURES


@example(size_bytes=4_097, first_bytes=1, bad={0})
@given(
    size_bytes=st.integers(1, 3 * MIB),
    first_bytes=st.integers(0, 2 * MIB),
    bad=st.sets(st.integers(0, 3 * MIB // SECTOR_BYTES), max_size=6),
)
def test_all_that_is_readable_is_read_once(
    size_bytes: int, first_bytes: int, bad: set[int]
) -> None:
    """Whole bad sectors are lost, nothing else, and no byte is read twice."""
    first_bytes = min(first_bytes, size_bytes - 1)

    readable, _ = search(size_bytes, bad, max_failures=10_000, first_bytes=first_bytes)

    held = [*readable, Extent(offset_bytes=0, size_bytes=first_bytes)]
    assert lost_sectors(size_bytes, held) <= bad
    assert sum(part.size_bytes for part in readable) == sum(
        part.size_bytes for part in joined(readable)
    )
    for part in readable:
        assert first_bytes <= part.offset_bytes < part.end_bytes <= size_bytes


@given(
    size_bytes=st.integers(1, 1 << 40),
    sweep=st.integers(0, 1 << 40),
    answers=st.lists(st.booleans(), max_size=200),
)
def test_whatever_the_card_answers_the_search_goes_on_within_the_file(
    size_bytes: int, sweep: int, answers: list[bool]
) -> None:
    """Each part is within what is missing, and at most a step large."""
    first_bytes = min(sweep, size_bytes - 1)
    plan = Search([Extent(offset_bytes=first_bytes, size_bytes=size_bytes - first_bytes)])
    for was_readable in answers:
        if plan.is_over:
            return
        part = plan.next_part
        assert first_bytes <= part.offset_bytes < part.end_bytes <= size_bytes
        assert part.size_bytes <= STEP_BYTES
        plan.note(was_readable=was_readable)


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ([], [(0, 10)]),
        ([(0, 10)], []),
        ([(2, 3)], [(0, 2), (5, 5)]),
        ([(0, 4), (2, 5), (9, 1)], [(7, 2)]),
    ],
)
def test_holes_are_what_nothing_covers(
    held: list[tuple[int, int]], expected: list[tuple[int, int]]
) -> None:
    """Overlapping parts count once."""
    parts = [Extent(offset_bytes=offset, size_bytes=size) for offset, size in held]

    assert [(hole.offset_bytes, hole.size_bytes) for hole in holes(10, parts)] == expected


def test_parts_that_touch_are_one() -> None:
    """What stands side by side is joined, in whatever order it was read."""
    parts = [Extent(offset_bytes=at, size_bytes=2) for at in (4, 0, 2, 8)]

    assert [(one.offset_bytes, one.size_bytes) for one in joined(parts)] == [(0, 6), (8, 2)]
