"""The threads behind a slot: whatever fails in them is told, and none of them is left waiting."""

import errno
import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from edge_agent.adapters import write_behind
from edge_agent.adapters.staging_disk import StagingDisk
from edge_agent.adapters.staging_way import Way
from edge_agent.adapters.write_behind import Blocks
from edge_agent.ingest.files import FileId
from runtime import durable
from runtime.uncached import BLOCK_BYTES, new_block
from tests.simulators.open_files import open_below

ID = FileId("one")
CONTENT = b"".join(bytes([number]) * BLOCK_BYTES for number in range(9)) + b"tail"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
_MOST_BLOCKS = 8


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path: Path) -> Iterator[None]:
    """No thread of a slot outlives its test, and no descriptor."""
    before = set(threading.enumerate())
    yield
    left = [one.name for one in set(threading.enumerate()) - before]
    assert [name for name in left if name.startswith("staging-")] == []
    assert open_below(tmp_path) == set()


@pytest.fixture
def blocks() -> Iterator[Blocks]:
    """So many blocks; all of them have come back when the test is over."""
    given = Blocks(_MOST_BLOCKS)
    yield given
    with ThreadPoolExecutor(1) as thread:
        try:
            for _ in range(_MOST_BLOCKS):
                thread.submit(given.take).result(timeout=60)
        finally:
            given.give_back(new_block())  # whoever still waits for one need not


@pytest.fixture
def staging(tmp_path: Path, blocks: Blocks) -> StagingDisk:
    way = Way(blocks=blocks, reads_back_early=True)
    return StagingDisk(tmp_path / "staging", reserve_bytes=0, way=way)


def write(staging: StagingDisk, file_id: FileId = ID) -> None:
    """Copy CONTENT as a docking does, with a checkpoint in the middle; raise what that raises."""
    slot = staging.create(file_id, size_bytes=len(CONTENT))
    try:
        for start in range(0, len(CONTENT), 300_000):
            slot.append(CONTENT[start : start + 300_000])
            if start == 1_800_000:
                slot.sync_behind(lambda: None)
        slot.seal(sha256=SHA256, read_back=True)
    finally:
        slot.close()


def failing(calls: Any, *, at: int, error: Exception) -> Any:
    """Return *calls*, which fails at its *at*-th call."""
    count = 0

    def call(*values: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        if count == at:
            raise error
        return calls(*values, **named)

    return call


def test_what_was_written_is_there(staging: StagingDisk) -> None:
    """Blocks, a checkpoint and a tail make one file."""
    write(staging)

    with staging.open(ID) as sealed:
        assert sealed.read() == CONTENT


@pytest.mark.parametrize("error", [OSError(errno.EIO, "injected"), ValueError("injected")])
@pytest.mark.parametrize(
    ("name", "at"),
    [
        *(("write_block", at) for at in (1, 2, 5, 9)),
        *(("read_block", at) for at in (1, 2, 5, 9)),
        *(("evict", at) for at in (1, 2)),
        ("open_for_reading", 1),
    ],
)
def test_whatever_fails_is_told(
    staging: StagingDisk,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    error: Exception,
    at: int,
) -> None:
    """A call that fails in any thread, in whatever way, fails the copy and hangs nobody."""
    broken = failing(getattr(write_behind, name), at=at, error=error)
    monkeypatch.setattr(write_behind, name, broken)

    with pytest.raises(type(error), match="injected"):
        write(staging)

    assert staging.sealed_count() == 0


@pytest.mark.parametrize("at", [1, 2])
def test_a_failed_sync_behind_is_told(
    staging: StagingDisk, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Be it the checkpoint's or the last one's."""
    error = OSError(errno.EIO, "injected")
    monkeypatch.setattr(durable, "sync_file", failing(durable.sync_file, at=at, error=error))

    with pytest.raises(OSError, match="injected"):
        write(staging)


@pytest.mark.parametrize("at", [1, 2])
def test_no_block_has_two_owners_when_memory_is_short(
    staging: StagingDisk, blocks: Blocks, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Else two bays would write into one another's files."""
    error = OSError(errno.ENOMEM, "injected")
    monkeypatch.setattr(write_behind, "new_block", failing(new_block, at=at, error=error))
    with pytest.raises(OSError, match="injected"):
        write(staging)
    monkeypatch.undo()

    free = [blocks.take() for _ in range(_MOST_BLOCKS)]

    assert len({id(one) for one in free}) == _MOST_BLOCKS
    for one in free:
        blocks.give_back(one)
    write(staging)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_system_without_threads_fails_the_copy(
    staging: StagingDisk, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """With EAGAIN, as the system says it; the threads that there are end."""
    error = RuntimeError("can't start new thread")
    monkeypatch.setattr(
        threading.Thread, "start", failing(threading.Thread.start, at=at, error=error)
    )

    with pytest.raises(OSError, match="can't start") as caught:
        write(staging)

    assert caught.value.errno == errno.EAGAIN


def test_no_more_blocks_than_allowed(tmp_path: Path) -> None:
    """With one block more than slots, all of them go on, however many are written at once."""
    slots = 6
    blocks = Blocks(slots + 1)
    way = Way(blocks=blocks, reads_back_early=True)
    staging = StagingDisk(tmp_path / "staging", reserve_bytes=0, way=way)
    ids = [FileId(str(number)) for number in range(slots)]

    with ThreadPoolExecutor(slots) as threads:
        for done in [threads.submit(write, staging, file_id) for file_id in ids]:
            done.result(timeout=120)

    assert staging.sealed_count() == slots
    taken = {id(blocks.take()) for _ in range(slots + 1)}
    assert len(taken) == slots + 1
    waiting = ThreadPoolExecutor(1)
    more = waiting.submit(blocks.take)
    assert not more.done()
    blocks.give_back(new_block())
    more.result(timeout=120)
    waiting.shutdown()
