"""What only a real disk can get wrong."""

import errno
from pathlib import Path

import pytest

from edge_agent.adapters.staging_disk import StagingDisk
from edge_agent.adapters.staging_slot import DiskSlot
from edge_agent.errors import CopyDiffersError
from edge_agent.ingest.files import FileId
from edge_agent.staging.slot import ReadBack
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


def test_a_copy_that_the_disk_changed_is_deleted(staging: StagingDisk, tmp_path: Path) -> None:
    """A copy that reads back differently gets no name, and nothing of it stays."""
    slot = filled(staging)
    slot.sync()
    with (tmp_path / "staging/partial/one").open("r+b") as file:
        file.write(b"y")

    with pytest.raises(CopyDiffersError) as caught:
        slot.seal(sha256=sha256_hex(CONTENT), read_back=True)

    assert caught.value.found_sha256 == sha256_hex(b"y" + CONTENT[1:])
    assert staging.sweep([]) == ()


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
