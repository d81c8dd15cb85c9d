import os
import stat
from pathlib import Path

import pytest

from demo.docking import DirectoryDock
from demo.hostile import build_hostile_volume


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    folder = tmp_path / "volume"
    (folder / "DCIM").mkdir(parents=True)
    clip = folder / "DCIM" / "clip.MP4"
    clip.write_bytes(b"footage")
    os.utime(clip, (1_000_000_000, 1_000_000_000))
    return folder


@pytest.fixture
def bay(tmp_path: Path) -> Path:
    return tmp_path / "bays" / "1"


def everything(folder: Path) -> dict[str, tuple[int, int, int]]:
    found = {}
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            facts = path.lstat()
            size_bytes = 0 if stat.S_ISDIR(facts.st_mode) else facts.st_size
            found[str(path.relative_to(folder))] = (facts.st_mode, size_bytes, facts.st_mtime_ns)
    return found


def test_an_inserted_volume_is_whole(volume: Path, bay: Path) -> None:
    """The bay shows what is on the volume, times included."""
    DirectoryDock().insert(volume, bay)

    assert everything(bay) == everything(volume)


def test_a_mount_folder_may_stand_empty(volume: Path, bay: Path) -> None:
    """A volume also appears over a mount folder that is already there."""
    bay.mkdir(parents=True)

    DirectoryDock().insert(volume, bay)

    assert everything(bay) == everything(volume)


def test_the_volume_survives_its_pulling(volume: Path, bay: Path) -> None:
    """After the volume was pulled, the original is as it was and can be docked again."""
    before = everything(volume)
    dock = DirectoryDock()
    dock.insert(volume, bay)

    dock.pull(bay)
    dock.insert(volume, bay)

    assert everything(volume) == before == everything(bay)


def test_a_pulled_volume_is_gone_for_its_readers(volume: Path, bay: Path) -> None:
    """Who holds the volume's root open finds nothing below it any more."""
    dock = DirectoryDock()
    dock.insert(volume, bay)
    root = os.open(bay, os.O_RDONLY | os.O_DIRECTORY)

    try:
        dock.pull(bay)
        with pytest.raises(FileNotFoundError):
            os.open("DCIM/clip.MP4", os.O_RDONLY, dir_fd=root)
        assert os.fstat(root).st_nlink == 0
    finally:
        os.close(root)
    assert not bay.exists()


def test_pulling_leaves_nothing_beside_the_bay(volume: Path, bay: Path) -> None:
    """No hidden folder outlives the work."""
    dock = DirectoryDock()
    dock.insert(volume, bay)
    dock.pull(bay)

    assert list(bay.parent.iterdir()) == []


def test_an_occupied_bay_takes_no_second_volume(volume: Path, bay: Path, tmp_path: Path) -> None:
    """Inserting into an occupied bay fails, and changes nothing."""
    dock = DirectoryDock()
    dock.insert(volume, bay)
    other = tmp_path / "other"
    (other / "DCIM").mkdir(parents=True)

    with pytest.raises(OSError, match="not empty"):
        dock.insert(other, bay)

    assert everything(bay) == everything(volume)
    assert [bay] == list(bay.parent.iterdir())


def test_an_empty_bay_cannot_be_pulled(bay: Path) -> None:
    """Pulling where nothing is docked is an error, and leaves nothing behind."""
    bay.parent.mkdir(parents=True)

    with pytest.raises(FileNotFoundError):
        DirectoryDock().pull(bay)

    assert list(bay.parent.iterdir()) == []


def test_odd_things_arrive_as_what_they_are(tmp_path: Path, bay: Path) -> None:
    """Links, pipes, sockets and names of any bytes are docked unchanged, and pulled."""
    volume = tmp_path / "hostile"
    build_hostile_volume(volume, many_files=3)
    dock = DirectoryDock()

    dock.insert(volume, bay)

    assert everything(bay) == everything(volume)
    dock.pull(bay)
    assert not bay.exists()
