from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.adapters.joined_volume import JoinedVolume, join_path, split_path
from edge_agent.errors import SourceUnreadableError, SourceVanishedError
from edge_agent.ingest.inventory import take_inventory
from edge_agent.ingest.listing import Limits, take_listing
from edge_agent.ingest.overview import look_over
from edge_agent.ingest.volume import EntryKind
from protocol.findings import FindingCode
from tests.simulators.docking_site import PROFILES


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


@pytest.mark.parametrize("name", ["volume-2", "VOLUME-2", "Volume-1", "volume-2 .", "volume-2."])
def test_a_folder_that_is_called_like_a_volume(tmp_path: Path, name: str) -> None:
    """Both files are listed, each under a path of its own, and each is read as it is."""
    roots = volumes(tmp_path)
    for root, content in zip(roots, (b"of the first", b"of the second"), strict=True):
        folder = root / name if root is roots[0] else root
        folder.mkdir(exist_ok=True)
        (folder / "clip.MP4").write_bytes(content)
    with JoinedVolume.mount(roots) as volume:
        listed = list(volume.entries())
        found = {
            one.path: volume.read_small(one.path, max_bytes=100)
            for one in listed
            if one.path.endswith(b"clip.MP4")
        }

    assert found == {
        b"volume-1/" + name.encode() + b"/clip.MP4": b"of the first",
        b"volume-2/clip.MP4": b"of the second",
    }
    folded = [one.path.decode().casefold() for one in listed]
    assert len(folded) == len(set(folded))


def test_a_file_that_is_called_like_a_volume(tmp_path: Path) -> None:
    """It is no folder, and is read all the same."""
    roots = volumes(tmp_path)
    (roots[0] / "volume-2").write_bytes(b"a file")
    with JoinedVolume.mount(roots) as volume:
        paths = [one.path for one in volume.entries()]
        content = volume.read_small(b"volume-1/volume-2", max_bytes=10)

    assert content == b"a file"
    assert paths.count(b"volume-2") == paths.count(b"volume-1") == 1


def test_one_volume_alone_keeps_its_names(tmp_path: Path) -> None:
    """There is nothing to be taken for something else."""
    (tmp_path / "volume-2").mkdir()
    (tmp_path / "volume-2/clip.MP4").write_bytes(b"x")
    with JoinedVolume.mount([tmp_path]) as volume:
        assert [one.path for one in volume.entries()] == [b"volume-2", b"volume-2/clip.MP4"]
        assert volume.read_small(b"volume-2/clip.MP4", max_bytes=1) == b"x"


def test_a_volume_that_cannot_be_read_is_listed(tmp_path: Path) -> None:
    """It is found, and the recorder is not released as if all of it had been read."""
    with JoinedVolume.mount(volumes(tmp_path), left_out=1) as volume:
        listing = take_listing(volume.entries(), Limits())
        with pytest.raises(SourceUnreadableError), volume.open(b"volume-3/clip.MP4"):
            pass

    [found] = [one for one in listing.entries if one.kind is EntryKind.UNREADABLE_DIRECTORY]
    overview = look_over(listing, PROFILES[0])
    inventory = take_inventory(listing.entries, PROFILES[0], docked_at=datetime.now(UTC))
    assert found.path == b"volume-3"
    assert not overview.is_whole
    assert [(one.name.path, one.code) for one in inventory.not_taken] == [
        ("volume-3", FindingCode.UNREADABLE_DIRECTORY)
    ]


_NAMES = st.one_of(
    st.sampled_from([b"volume-1", b"volume-2", b"VOLUME-2", b"volume-2. ", b"volume-9", b"DCIM"]),
    st.binary(min_size=1, max_size=3).filter(lambda name: b"/" not in name),
)
_PATHS = st.lists(_NAMES, min_size=1, max_size=3).map(b"/".join)


@given(total=st.integers(1, 8), files=st.sets(st.tuples(st.integers(1, 8), _PATHS)))
def test_no_two_files_have_one_path(total: int, files: set[tuple[int, bytes]]) -> None:
    """Whatever volumes and names: a path leads back to its file, and to no other one."""
    files = {one for one in files if one[0] <= total}

    paths = {join_path(number, inner, total) for number, inner in files}

    assert len(paths) == len(files)
    assert {split_path(path, total) for path in paths} == files
