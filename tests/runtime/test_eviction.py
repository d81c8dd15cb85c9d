import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from runtime.eviction import (
    _ON_BLOCK_DEVICE,
    Eviction,
    _file_system_type,
    _resident_pages,
    cached_pages,
    evict,
)

PAGES: Final = 64
SIZE_BYTES: Final = PAGES * mmap.PAGESIZE - 1


@pytest.fixture
def written(tmp_path: Path) -> Iterator[int]:
    """A file of 64 pages, synced, open for writing only; on a disk, or the test is skipped."""
    fd = os.open(tmp_path / "a", os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(fd, os.urandom(SIZE_BYTES))
    os.fsync(fd)
    yield fd
    os.close(fd)


def needs_a_disk(fd: int) -> None:
    if _file_system_type(fd) not in _ON_BLOCK_DEVICE:
        # CI must prove it; on a desk whose temporary files are in memory nothing can.
        assert not os.environ.get("CI"), "CI needs temporary files on a disk"
        pytest.skip("temporary files are not on a disk here")


def test_a_synced_file_is_evicted(written: int) -> None:
    """After a sync the kernel can forget the file, and shows that it did."""
    needs_a_disk(written)
    before = cached_pages(written, SIZE_BYTES)

    assert before == PAGES
    assert evict(written, size_bytes=SIZE_BYTES) is Eviction.PROVED
    assert cached_pages(written, SIZE_BYTES) == 0


def test_reading_brings_it_back(written: int) -> None:
    """The proof is about this moment: who reads the file caches it again."""
    needs_a_disk(written)
    evict(written, size_bytes=SIZE_BYTES)
    reader = os.open(f"/proc/self/fd/{written}", os.O_RDONLY)
    os.pread(reader, mmap.PAGESIZE, 0)
    os.close(reader)

    assert cached_pages(written, SIZE_BYTES)


def test_what_is_in_use_is_not_evicted(written: int) -> None:
    """A file that a process has locked in memory stays there, and that is not called proof."""
    needs_a_disk(written)
    reader = os.open(f"/proc/self/fd/{written}", os.O_RDONLY)
    with mmap.mmap(reader, SIZE_BYTES, mmap.MAP_SHARED | mmap.MAP_POPULATE, mmap.PROT_READ):
        verdict = evict(written, size_bytes=SIZE_BYTES)
    os.close(reader)

    assert verdict is Eviction.UNPROVED


def test_both_ways_of_counting_agree(written: int) -> None:
    """A kernel without cachestat(2) counts the same by mincore(2)."""
    needs_a_disk(written)
    counts = [(cached_pages(written, SIZE_BYTES), _resident_pages(written, SIZE_BYTES))]
    evict(written, size_bytes=SIZE_BYTES)
    counts.append((cached_pages(written, SIZE_BYTES), _resident_pages(written, SIZE_BYTES)))

    assert counts == [(PAGES, PAGES), (0, 0)]


def test_memory_is_no_disk() -> None:
    """A file that lives in memory is never called evicted."""
    fd = os.memfd_create("content")
    os.write(fd, bytes(SIZE_BYTES))
    verdict = evict(fd, size_bytes=SIZE_BYTES)
    os.close(fd)

    assert verdict is Eviction.UNPROVED


def test_memory_that_holds_nothing_is_no_disk() -> None:
    """No cached pages prove something only where the next read comes from a disk."""
    fd = os.memfd_create("hole")
    os.ftruncate(fd, SIZE_BYTES)
    pages, verdict = cached_pages(fd, SIZE_BYTES), evict(fd, size_bytes=SIZE_BYTES)
    os.close(fd)

    assert pages == 0
    assert verdict is Eviction.UNPROVED


def test_nothing_has_no_pages(written: int) -> None:
    """An empty file has nothing that could come from memory."""
    assert cached_pages(written, 0) == 0


def test_what_cannot_be_counted_is_not_zero(tmp_path: Path) -> None:
    """A descriptor that only names a file does not show its pages: nobody can say."""
    (tmp_path / "a").write_bytes(bytes(SIZE_BYTES))
    fd = os.open(tmp_path / "a", os.O_PATH)
    count = cached_pages(fd, SIZE_BYTES)
    os.close(fd)

    assert count is None
