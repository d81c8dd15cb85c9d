"""Blocks that go to and come from our disk past the page cache."""

import os
from pathlib import Path

import pytest

from runtime import durable, uncached
from runtime.eviction import cached_pages
from runtime.uncached import (
    BLOCK_BYTES,
    DiskMode,
    measure_modes,
    new_block,
    open_for_reading,
    read_block,
    set_mode,
    write_block,
)


@pytest.mark.parametrize("mode", DiskMode)
def test_blocks_come_back_as_they_were_written(tmp_path: Path, mode: DiskMode) -> None:
    """Two blocks, written in any order, are read back whole; then the file ends."""
    fd = durable.create_exclusive(tmp_path, "file")
    set_mode(fd, mode)
    block = memoryview(new_block())
    for number in (1, 0):
        block[:] = bytes([number + 65]) * BLOCK_BYTES
        write_block(fd, block, number * BLOCK_BYTES, mode)
    durable.sync_file(fd)
    os.close(fd)

    fd = open_for_reading(tmp_path / "file", mode)
    for number in (0, 1):
        assert read_block(fd, block, number * BLOCK_BYTES, mode) == BLOCK_BYTES
        assert bytes(block) == bytes([number + 65]) * BLOCK_BYTES
    assert read_block(fd, block, 2 * BLOCK_BYTES, mode) == 0
    os.close(fd)


@pytest.mark.parametrize("mode", [DiskMode.DIRECT])
def test_direct_leaves_nothing_in_memory(tmp_path: Path, mode: DiskMode) -> None:
    """What went past the page cache is not in it."""
    fd = durable.create_exclusive(tmp_path, "file")
    set_mode(fd, mode)
    write_block(fd, memoryview(new_block()), 0, mode)

    assert cached_pages(fd, BLOCK_BYTES) == 0
    os.close(fd)


def test_each_mode_is_measured_and_leaves_nothing(tmp_path: Path) -> None:
    """The cheapest comes first, one that cannot be had last; no file of a try stays."""
    figures = measure_modes(tmp_path, size_bytes=2 * BLOCK_BYTES)

    assert {one.mode for one in figures} == set(DiskMode)
    costs = [one.cost_s for one in figures]
    assert costs == sorted(costs)
    assert figures[0].seconds is not None
    assert not list(tmp_path.iterdir())


def test_a_measurement_that_is_killed_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file has no name any more when its first byte is written."""
    left: list[Path] = []

    def look(fd: int, block: memoryview, offset_bytes: int, mode: DiskMode) -> None:
        left.extend(tmp_path.iterdir())
        write_block(fd, block, offset_bytes, mode)

    monkeypatch.setattr(uncached, "write_block", look)

    measure_modes(tmp_path, size_bytes=BLOCK_BYTES)

    assert left == []
    assert list(tmp_path.iterdir()) == []
