from pathlib import Path

import pytest

from edge_agent.adapters.joined_volume import JoinedVolume
from edge_agent.errors import SourceUnreadableError, SourceVanishedError
from edge_agent.ingest.volume import EntryKind


def volumes(folder: Path) -> list[Path]:
    roots = [folder / "1", folder / "2"]
    for root, name in zip(roots, ("DCIM", "INFO"), strict=True):
        (root / name).mkdir(parents=True)
        (root / name / "file").write_bytes(name.encode())
    return roots


def test_the_second_volume_is_a_folder_of_the_first(tmp_path: Path) -> None:
    """The main volume is as if it were alone; what else there is stands below its number."""
    with JoinedVolume.mount(volumes(tmp_path)) as volume:
        files = {one.path for one in volume.entries() if one.kind is EntryKind.FILE}
        first = volume.read_small(b"DCIM/file", max_bytes=10)
        second = volume.read_small(b"volume-2/INFO/file", max_bytes=10)

    assert files == {b"DCIM/file", b"volume-2/INFO/file"}
    assert (first, second) == (b"DCIM", b"INFO")


def test_there_is_no_third_volume(tmp_path: Path) -> None:
    """A name that leads nowhere is unreadable, like any other."""
    with (
        JoinedVolume.mount(volumes(tmp_path)) as volume,
        pytest.raises(SourceUnreadableError),
        volume.open(b"volume-3/file"),
    ):
        pass


def test_one_missing_volume_is_no_recorder(tmp_path: Path) -> None:
    """A recorder is read with all its volumes, or not at all."""
    with (
        pytest.raises(SourceVanishedError),
        JoinedVolume.mount([*volumes(tmp_path), tmp_path / "3"]),
    ):
        pass
