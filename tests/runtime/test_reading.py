import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.reading import read_chunks


@given(data=st.binary(max_size=200), chunk_bytes=st.integers(1, 64))
def test_chunks_are_the_file(data: bytes, chunk_bytes: int) -> None:
    """Put together, the chunks are the content; none is empty or too long."""
    fd = os.memfd_create("content")
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    chunks = [bytes(chunk) for chunk in read_chunks(fd, chunk_bytes=chunk_bytes)]
    os.close(fd)

    assert b"".join(chunks) == data
    assert all(0 < len(chunk) <= chunk_bytes for chunk in chunks)


def test_reading_goes_on_where_the_file_stands(tmp_path: Path) -> None:
    """What was read before is not read again, and the descriptor stays open."""
    (tmp_path / "a").write_bytes(b"0123456789")
    fd = os.open(tmp_path / "a", os.O_RDONLY)
    os.lseek(fd, 4, os.SEEK_SET)

    assert [bytes(chunk) for chunk in read_chunks(fd, chunk_bytes=4)] == [b"4567", b"89"]
    assert os.lseek(fd, 0, os.SEEK_CUR) == 10
    os.close(fd)


def test_chunks_share_one_buffer(tmp_path: Path) -> None:
    """A long file takes the memory of one chunk."""
    (tmp_path / "a").write_bytes(b"01234567")
    fd = os.open(tmp_path / "a", os.O_RDONLY)
    first, second = read_chunks(fd, chunk_bytes=4)
    os.close(fd)

    assert first.obj is second.obj
    assert first.tobytes() == second.tobytes() == b"4567"


def test_a_failing_device_is_told(tmp_path: Path) -> None:
    """An error while reading is raised as it is, not taken for the end."""
    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(IsADirectoryError):
        next(read_chunks(fd))
    os.close(fd)
