"""What only a real disk can get wrong."""

import errno
import mmap
import os
import stat
import threading
from pathlib import Path

import pytest

from edge_agent.adapters import staging_together, write_behind
from edge_agent.adapters.staging_disk import StagingDisk
from edge_agent.adapters.staging_slot import DiskSlot
from edge_agent.errors import CopyDiffersError
from edge_agent.ingest.files import FileId
from edge_agent.staging.slot import ReadBack, SmallCopy
from protocol.digest import sha256_hex
from runtime import durable
from runtime.eviction import Eviction, evict

ID = FileId("one")
CONTENT = b"x" * 100_000


@pytest.fixture
def staging(tmp_path: Path) -> StagingDisk:
    return StagingDisk(tmp_path / "staging", reserve_bytes=0)


def filled(staging: StagingDisk) -> DiskSlot:
    slot = staging.create(ID, size_bytes=len(CONTENT))
    slot.append(CONTENT)
    return slot


def test_a_failed_sync_poisons_the_slot(
    staging: StagingDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed sync no second one is tried, until the copy begins anew in another file."""
    slot = filled(staging)
    synced: list[int] = []

    def fail(fd: int) -> None:
        synced.append(fd)
        raise OSError(errno.EIO, "injected")

    monkeypatch.setattr(durable, "sync_file", fail)
    with pytest.raises(OSError, match="injected"):
        slot.sync()
    for again in (slot.sync, lambda: slot.seal(sha256="", read_back=True)):
        with pytest.raises(OSError, match="earlier"):
            again()

    assert len(synced) == 1
    monkeypatch.undo()
    slot.restart()
    slot.append(b"anew")
    slot.seal(sha256=sha256_hex(b"anew"), read_back=True)
    with staging.open(ID) as sealed:
        assert sealed.read() == b"anew"


def test_a_restart_is_another_file(staging: StagingDisk, tmp_path: Path) -> None:
    """The pages that a failed sync lost belong to a file that is used no more."""
    slot = filled(staging)
    partial = tmp_path / "staging/partial/one"
    with partial.open("rb") as first:
        slot.restart()
        with partial.open("rb") as second:
            assert not Path(f"/proc/self/fd/{first.fileno()}").samefile(
                f"/proc/self/fd/{second.fileno()}"
            )
            assert second.read() == b""


def test_a_copy_that_the_disk_changed_gets_no_name(staging: StagingDisk, tmp_path: Path) -> None:
    """It takes nothing more, and stays until the journal has forgotten it and it is removed."""
    slot = filled(staging)
    slot.sync()
    with (tmp_path / "staging/partial/one").open("r+b") as file:
        file.write(b"y")

    with pytest.raises(CopyDiffersError) as caught:
        slot.seal(sha256=sha256_hex(CONTENT), read_back=True)

    assert caught.value.found_sha256 == sha256_hex(b"y" + CONTENT[1:])
    with pytest.raises(OSError, match="earlier"):
        slot.seal(sha256=caught.value.found_sha256, read_back=True)
    slot.close()
    assert staging.sealed_count() == 0
    staging.remove(ID)
    assert staging.sweep([]) == ()


def test_a_copy_that_lost_its_end_is_no_copy(staging: StagingDisk) -> None:
    """What the disk cannot read to its end is the disk's failure, before any digest."""
    slot = filled(staging)
    slot.sync()
    real = os.fstat

    def longer(fd: int) -> os.stat_result:
        found = real(fd)
        values = list(found)
        values[stat.ST_SIZE] += 4096
        return os.stat_result(values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fstat", longer)
        with pytest.raises(OSError, match="only 100000 of 104096 bytes"):
            slot.seal(sha256=sha256_hex(CONTENT), read_back=True)


def test_the_read_back_says_whether_it_came_from_the_disk(
    staging: StagingDisk, tmp_path: Path
) -> None:
    """The kernel's proof is passed on as it is."""
    probe = tmp_path / "probe"
    durable.write_file(probe, CONTENT)
    with probe.open("rb") as file:
        proved = evict(file.fileno(), size_bytes=len(CONTENT)) is Eviction.PROVED

    proof = filled(staging).seal(sha256=sha256_hex(CONTENT), read_back=True)

    assert proof == ReadBack(compared=True, evicted=proved)


def test_room_is_reserved_at_once(staging: StagingDisk, tmp_path: Path) -> None:
    """The file takes its room before a byte is written, and has no size before."""
    staging.create(ID, size_bytes=1 << 20)

    found = (tmp_path / "staging/partial/one").stat()
    assert found.st_size == 0
    assert found.st_blocks * 512 >= 1 << 20


def test_room_that_was_not_needed_is_given_back(staging: StagingDisk, tmp_path: Path) -> None:
    """A copy that waits for its recorder takes no more room than its bytes; it reserves again."""
    partial = tmp_path / "staging/partial/one"
    slot = staging.create(ID, size_bytes=1 << 20)
    slot.append(CONTENT)
    slot.sync()

    slot.close()

    assert partial.stat().st_blocks * 512 < 1 << 18
    again = staging.reopen(ID, size_bytes=1 << 20, stored_bytes=len(CONTENT))
    assert partial.stat().st_blocks * 512 >= 1 << 20
    assert b"".join(map(bytes, again.stored(offset_bytes=0))) == CONTENT
    again.close()


def test_room_of_a_copy_that_a_kill_left_open_is_given_back(
    staging: StagingDisk, tmp_path: Path
) -> None:
    """The next start sees to it; what is known stays as it was."""
    slot = staging.create(ID, size_bytes=1 << 20)
    slot.append(CONTENT)
    slot.sync()

    assert staging.sweep([ID]) == ()

    partial = tmp_path / "staging/partial/one"
    assert partial.read_bytes() == CONTENT
    assert partial.stat().st_blocks * 512 < 1 << 18
    slot.close()


def no_memory() -> mmap.mmap:
    raise OSError(errno.ENOMEM, "injected")


def test_a_new_copy_that_cannot_begin_keeps_no_room(
    staging: StagingDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without memory for a block it does not hold what it reserved."""
    monkeypatch.setattr(write_behind, "new_block", no_memory)

    with pytest.raises(OSError, match="injected"):
        staging.create(ID, size_bytes=1 << 30)

    assert (tmp_path / "staging/partial/one").stat().st_blocks * 512 < 1 << 20


def test_an_old_copy_that_cannot_go_on_keeps_no_room(
    staging: StagingDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Likewise, and what it holds stays."""
    slot = filled(staging)
    slot.sync()
    slot.close()
    monkeypatch.setattr(write_behind, "new_block", no_memory)
    staging = StagingDisk(tmp_path / "staging", reserve_bytes=0)

    with pytest.raises(OSError, match="injected"):
        staging.reopen(ID, size_bytes=1 << 30, stored_bytes=len(CONTENT))

    partial = tmp_path / "staging/partial/one"
    assert partial.stat().st_blocks * 512 < 1 << 20
    assert partial.read_bytes() == CONTENT


def test_one_copy_that_cannot_be_opened_stops_no_start(
    staging: StagingDisk, tmp_path: Path
) -> None:
    """A bad inode among the unfinished copies is for whoever goes on with that one."""
    (tmp_path / "staging/partial/bad").symlink_to(tmp_path)
    filled(staging).close()

    assert staging.sweep([FileId("bad"), ID]) == ()


def test_a_descriptor_is_closed_once(staging: StagingDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A close that failed is not tried again: its number may be another bay's file by then."""
    slot = filled(staging)
    real, closed = os.close, []

    def close(fd: int) -> None:
        closed.append(fd)
        real(fd)
        if len(closed) == 1:
            raise OSError(errno.EIO, "injected")

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", close)
        with pytest.raises(OSError, match="injected"):
            slot.seal(sha256=sha256_hex(CONTENT), read_back=True)
        slot.close()

    assert len(closed) == len(set(closed)) == 2


def test_small_files_need_no_further_thread(
    staging: StagingDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system that has no thread left syncs them one after the other."""
    copies = [
        SmallCopy(file_id=FileId(str(number)), content=CONTENT, sha256=sha256_hex(CONTENT))
        for number in range(5)
    ]

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        outcomes = staging.stage_together(copies, read_back=True)

    assert [type(one) for one in outcomes] == [ReadBack] * 5
    assert staging.sealed_count() == 5


def test_a_small_file_that_nobody_synced_is_no_copy(
    staging: StagingDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is proved by its own sync, not by the lack of an error."""
    copy = SmallCopy(file_id=ID, content=CONTENT, sha256=sha256_hex(CONTENT))
    monkeypatch.setattr(staging_together, "_sync_all", lambda _: None)

    [outcome] = staging.stage_together([copy], read_back=True)

    assert isinstance(outcome, OSError)
    assert staging.sealed_count() == 0


def test_the_reserve_is_not_given_away(staging: StagingDisk, tmp_path: Path) -> None:
    """Room for the journal is not counted as free."""
    reserved = StagingDisk(tmp_path / "staging", reserve_bytes=1 << 60)

    assert staging.free_bytes() > 0
    assert reserved.free_bytes() == 0


def test_copies_are_private(staging: StagingDisk, tmp_path: Path) -> None:
    """Nobody but the agent can read what is staged."""
    slot = filled(staging)
    slot.seal(sha256=sha256_hex(CONTENT), read_back=False)

    assert (tmp_path / "staging/files/one").stat().st_mode & 0o077 == 0
    assert (tmp_path / "staging/files").stat().st_mode & 0o077 == 0


def test_a_link_in_partial_is_not_followed(staging: StagingDisk, tmp_path: Path) -> None:
    """Whoever puts a link under a copy's name does not get its target written to."""
    target = tmp_path / "target"
    target.write_bytes(b"untouched")
    (tmp_path / "staging/partial/one").symlink_to(target)

    with pytest.raises(OSError, match="symbolic"):
        staging.reopen(ID, size_bytes=3, stored_bytes=0)

    slot = staging.create(ID, size_bytes=3)
    slot.append(b"abc")
    slot.sync()
    assert target.read_bytes() == b"untouched"


def test_a_sweep_deletes_no_sealed_copy(staging: StagingDisk, tmp_path: Path) -> None:
    """A sealed copy that the journal does not name is put aside whole, each time another one is."""
    for content in (b"first", b"second"):
        slot = staging.create(ID, size_bytes=len(content))
        slot.append(content)
        slot.seal(sha256=sha256_hex(content), read_back=True)
        assert staging.sweep([]) == ("files/one",)

    aside = [path.read_bytes() for path in sorted((tmp_path / "staging/orphaned").iterdir())]
    assert aside == [b"first", b"second"]
    assert staging.orphaned_count() == 2
    assert staging.sealed_count() == 0


def test_a_checkpoint_needs_a_name(staging: StagingDisk, tmp_path: Path) -> None:
    """The first sync of a new file makes its name durable as well, later ones need not."""
    slot = filled(staging)
    synced: list[Path] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durable, "sync_directory", synced.append)
        slot.sync()
        slot.sync()

    assert synced == [tmp_path / "staging/partial"]


def test_a_sealed_copy_whose_row_did_not_survive_goes_on(
    staging: StagingDisk, tmp_path: Path
) -> None:
    """The journal has it as unfinished: what it promised of it is there, and nothing is twice."""
    filled(staging).seal(sha256=sha256_hex(CONTENT), read_back=True)

    slot = staging.reopen(ID, size_bytes=len(CONTENT), stored_bytes=60_000)

    assert slot.stored_bytes == 60_000
    assert not list((tmp_path / "staging/files").iterdir())
    slot.append(CONTENT[60_000:])
    slot.seal(sha256=sha256_hex(CONTENT), read_back=True)
