"""What every place for parts of files promises, kept by our disk and by one in memory."""

from pathlib import Path

import pytest

from edge_agent.adapters.salvage_disk import SalvageDisk
from edge_agent.ingest.files import FileId
from edge_agent.staging.salvaged import SalvageSlot, SalvageStaging
from tests.simulators.memory_salvage import MemorySalvage

ID, OTHER, STRANGE = FileId("one"), FileId("other"), FileId("strange")
FAR = 3 << 20


@pytest.fixture(params=["memory", "disk"])
def salvaging(request: pytest.FixtureRequest, tmp_path: Path) -> SalvageStaging:
    return MemorySalvage() if request.param == "memory" else SalvageDisk(tmp_path / "staging")


def stored(slot: SalvageSlot, offset_bytes: int, size_bytes: int) -> bytes:
    return b"".join(bytes(part) for part in slot.stored(offset_bytes, size_bytes))


def keep(salvaging: SalvageStaging, file_id: FileId) -> None:
    slot = salvaging.open(file_id)
    slot.write_at(FAR, b"far")
    slot.sync()
    slot.close()


def kept(salvaging: SalvageStaging, file_id: FileId) -> bytes:
    slot = salvaging.open(file_id)
    try:
        return stored(slot, FAR, 3)
    finally:
        slot.close()


def test_parts_stand_at_their_offsets(salvaging: SalvageStaging) -> None:
    """In whatever order they are written, parts are read back where they belong."""
    slot = salvaging.open(ID)
    slot.write_at(FAR, b"far")
    slot.write_at(10, b"near")
    slot.sync()

    assert (stored(slot, 10, 4), stored(slot, FAR, 3)) == (b"near", b"far")
    slot.close()


def test_reading_ends_where_the_file_does(salvaging: SalvageStaging) -> None:
    """Beyond what was written there is nothing."""
    slot = salvaging.open(ID)
    slot.write_at(0, b"all")

    assert stored(slot, 1, 100) == b"ll"
    slot.close()


def test_what_was_kept_is_there_again(salvaging: SalvageStaging) -> None:
    """A slot that is opened again holds what was synced, and takes more."""
    keep(salvaging, ID)

    slot = salvaging.open(ID)
    slot.write_at(0, b"new")
    slot.sync()

    assert (stored(slot, 0, 3), stored(slot, FAR, 3)) == (b"new", b"far")
    slot.close()


def test_removing_is_for_one_file_and_harmless_twice(salvaging: SalvageStaging) -> None:
    """What is removed is gone; other files stay."""
    keep(salvaging, ID)
    keep(salvaging, OTHER)

    salvaging.remove(ID)
    salvaging.remove(ID)

    assert (kept(salvaging, ID), kept(salvaging, OTHER)) == (b"", b"far")


def test_sweeping_destroys_nothing_that_somebody_may_miss(salvaging: SalvageStaging) -> None:
    """Parts in the journal stay, superseded ones go, those of nobody are put aside."""
    for file_id in (ID, OTHER, STRANGE):
        keep(salvaging, file_id)

    removed, aside = salvaging.sweep({ID}, {ID, OTHER})

    assert (removed, aside) == (("salvaged/other",), ("salvaged/strange",))
    assert (kept(salvaging, ID), kept(salvaging, OTHER)) == (b"far", b"")


def test_a_hole_takes_no_room(tmp_path: Path) -> None:
    """Holes stay holes on the disk."""
    disk = SalvageDisk(tmp_path)
    slot = disk.open(ID)
    slot.write_at(1 << 30, b"far")
    slot.sync()
    slot.close()

    assert (tmp_path / "salvaged" / ID).stat().st_blocks * 512 < 1 << 20


def test_what_was_put_aside_is_kept_whole(tmp_path: Path) -> None:
    """Parts that no journal knows are footage all the same."""
    disk = SalvageDisk(tmp_path)
    keep(disk, STRANGE)

    disk.sweep(set(), set())

    assert (tmp_path / "orphaned" / "strange.parts").read_bytes()[FAR:] == b"far"
