"""What every staging place promises, kept by our disk and by one in memory."""

import errno
from functools import partial
from pathlib import Path

import pytest

from edge_agent.adapters.staging_disk import StagingDisk
from edge_agent.adapters.staging_way import Way
from edge_agent.ingest.files import FileId
from edge_agent.staging.slot import Staging, StagingSlot
from protocol.digest import sha256_hex
from runtime.uncached import DiskMode
from tests.simulators.memory_staging import MemoryStaging

ID, OTHER = FileId("one"), FileId("other")
CONTENT = bytes(range(256)) * 5_000


@pytest.fixture(params=["memory", *DiskMode, "early"])
def staging(request: pytest.FixtureRequest, tmp_path: Path) -> Staging:
    if request.param == "memory":
        return MemoryStaging()
    if request.param == "early":
        way = Way(mode=DiskMode.DIRECT, reads_back_early=True)
    else:
        way = Way(mode=request.param)
    return StagingDisk(tmp_path / "staging", reserve_bytes=0, way=way)


def filled(staging: Staging, content: bytes = CONTENT, file_id: FileId = ID) -> StagingSlot:
    slot = staging.create(file_id, size_bytes=len(content))
    slot.append(memoryview(content)[:1_000])
    slot.append(content[1_000:])
    return slot


def seal(slot: StagingSlot, content: bytes = CONTENT, *, read_back: bool = True) -> bool:
    return slot.seal(sha256=sha256_hex(content), read_back=read_back).compared


def stored(slot: StagingSlot, *, offset_bytes: int = 0) -> bytes:
    return b"".join(bytes(chunk) for chunk in slot.stored(offset_bytes=offset_bytes))


def sealed(staging: Staging, file_id: FileId = ID) -> bytes:
    with staging.open(file_id) as file:
        return file.read()


@pytest.mark.parametrize("read_back", [True, False])
def test_a_sealed_copy_is_what_was_appended(staging: Staging, *, read_back: bool) -> None:
    """Sealed, the content stands under its id; that it was compared is said only if it was."""
    assert seal(filled(staging), read_back=read_back) is read_back
    assert sealed(staging) == CONTENT


def test_what_is_not_sealed_cannot_be_opened(staging: Staging) -> None:
    """A copy on its way is nobody's to read."""
    filled(staging).sync()

    with pytest.raises(FileNotFoundError):
        staging.open(ID)


def test_an_empty_file_can_be_sealed(staging: Staging) -> None:
    """A file of no bytes is a file."""
    seal(staging.create(ID, size_bytes=0), b"")

    assert sealed(staging) == b""


@pytest.mark.parametrize("offset_bytes", [0, 999, 1_000_000, len(CONTENT)])
def test_a_slot_can_be_read_back_while_it_grows(staging: Staging, offset_bytes: int) -> None:
    """What was appended can be read back, and more appended after it."""
    slot = filled(staging, CONTENT[:-1])
    slot.sync()
    assert stored(slot) == CONTENT[:-1]

    slot.append(CONTENT[-1:])

    assert stored(slot, offset_bytes=offset_bytes) == CONTENT[offset_bytes:]
    assert slot.stored_bytes == len(CONTENT)


def test_a_closed_slot_is_reopened_where_it_was_synced(staging: Staging) -> None:
    """A copy that was closed is continued after its durable part."""
    slot = filled(staging)
    slot.sync()
    slot.close()

    again = staging.reopen(ID, size_bytes=len(CONTENT), stored_bytes=600_000)

    assert again.stored_bytes == 600_000
    again.append(CONTENT[600_000:])
    assert seal(again)
    assert sealed(staging) == CONTENT


def test_what_holds_too_little_is_not_reopened(staging: Staging) -> None:
    """Whoever relies on more than there is hears of it, and nothing is thrown away before."""
    slot = filled(staging, b"abc")
    slot.sync()
    slot.close()

    for file_id, stored_bytes in ((ID, 4), (OTHER, 1)):
        with pytest.raises(FileNotFoundError):
            staging.reopen(file_id, size_bytes=8, stored_bytes=stored_bytes)
    assert staging.reopen(ID, size_bytes=8, stored_bytes=3).stored_bytes == 3


def test_a_restarted_slot_is_empty_and_usable(staging: Staging) -> None:
    """After a restart nothing of the first try is left."""
    slot = filled(staging)
    slot.sync()

    slot.restart()

    assert slot.stored_bytes == 0
    slot.append(b"new")
    assert seal(slot, b"new")
    assert sealed(staging) == b"new"


def test_a_discarded_slot_is_gone(staging: Staging) -> None:
    """What was discarded cannot be reopened, and discarding or closing twice is harmless."""
    slot = filled(staging)
    slot.sync()

    slot.discard()
    slot.discard()
    slot.close()

    with pytest.raises(FileNotFoundError):
        staging.reopen(ID, size_bytes=1, stored_bytes=1)


def test_a_slot_that_was_let_go_takes_nothing(staging: Staging) -> None:
    """Neither closed nor sealed slots can be written to."""
    closed, done = filled(staging), filled(staging, file_id=OTHER)
    closed.close()
    seal(done)
    done.close()

    for slot in (closed, done):
        with pytest.raises(OSError, match="closed"):
            slot.append(b"more")
        with pytest.raises(OSError, match="closed"):
            slot.sync()


def test_a_sealed_copy_is_not_replaced(staging: Staging) -> None:
    """Of two slots of one id the first that is sealed stays; the other one fails."""
    late = staging.create(ID, size_bytes=3)
    late.append(b"abc")
    seal(filled(staging))

    with pytest.raises((FileExistsError, FileNotFoundError)):
        seal(late, b"abc")

    assert sealed(staging) == CONTENT


def test_a_new_slot_takes_the_place_of_an_orphan(staging: Staging) -> None:
    """A copy that was sealed, but that the journal does not know, makes room for the next try."""
    seal(filled(staging))

    slot = staging.create(ID, size_bytes=3)

    with pytest.raises(FileNotFoundError):
        staging.open(ID)
    slot.append(b"abc")
    assert seal(slot, b"abc")
    assert sealed(staging) == b"abc"


def test_what_is_removed_is_gone(staging: Staging) -> None:
    """Sealed or not, a copy can be removed; twice is harmless."""
    seal(filled(staging))
    filled(staging, file_id=OTHER).sync()

    for file_id in (ID, OTHER, ID):
        staging.remove(file_id)

    with pytest.raises(FileNotFoundError):
        staging.open(ID)
    assert staging.sweep([]) == ()


def test_a_sweep_clears_what_nobody_knows(staging: Staging) -> None:
    """Orphans on their way and sealed ones go, and are named; what is known stays."""
    names = [FileId(name) for name in ("known-partial", "lost-partial", "known", "lost")]
    for file_id in names[:2]:
        slot = filled(staging, file_id=file_id)
        slot.sync()
        slot.close()
    for file_id in names[2:]:
        seal(filled(staging, file_id=file_id))

    removed = staging.sweep([names[0], names[2]])

    assert removed == ("partial/lost-partial", "files/lost")
    assert sealed(staging, names[2]) == CONTENT
    assert staging.reopen(names[0], size_bytes=1, stored_bytes=5).stored_bytes == 5


def test_room_shrinks_with_what_is_staged(staging: Staging) -> None:
    """There is room, and more room than there is cannot be had."""
    free_bytes = staging.free_bytes()

    assert free_bytes > len(CONTENT)
    with pytest.raises(OSError, match=r"room|space|large") as caught:
        staging.create(ID, size_bytes=free_bytes * 2)
    assert caught.value.errno in {errno.ENOSPC, errno.EFBIG}
    assert staging.sweep([]) == ()


def test_what_is_synced_behind_is_told_in_order(staging: Staging) -> None:
    """Each mark is told once, in order, before a sync returns; nothing of the content is lost."""
    content = CONTENT * 4
    slot = staging.create(ID, size_bytes=len(content))
    told: list[int] = []
    for begin in range(0, len(content), 700_001):
        slot.append(content[begin : begin + 700_001])
        slot.sync_behind(partial(told.append, slot.stored_bytes))

    slot.sync()

    ends = [min(begin + 700_001, len(content)) for begin in range(0, len(content), 700_001)]
    assert told == ends
    assert seal(slot, content)
    assert sealed(staging) == content


def test_a_copy_goes_on_from_any_byte(staging: Staging) -> None:
    """A slot that was closed at an odd place goes on there, and reads back as what it is."""
    content = CONTENT * 2
    for end in (1, 4_095, 4_097, 524_289, 1_300_001):
        slot = filled(staging, content[:end])
        slot.sync()
        slot.close()
        again = staging.reopen(ID, size_bytes=len(content), stored_bytes=end)
        again.append(content[end:])
        again.sync_behind(lambda: None)

        assert seal(again, content)
        assert sealed(staging) == content
