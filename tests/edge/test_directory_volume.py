"""What only a real folder can do to us."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.hostile import Treatment, build_hostile_volume
from edge_agent.adapters.directory_volume import DirectoryVolume
from edge_agent.errors import SourceUnreadableError, SourceVanishedError
from edge_agent.ingest.volume import EntryKind

SECRET = b"a file of the dock"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_bytes(SECRET)
    folder = tmp_path / "volume"
    (folder / "DCIM").mkdir(parents=True)
    (folder / "DCIM/a.MP4").write_bytes(b"clip")
    return folder


@pytest.fixture
def volume(root: Path) -> Iterator[DirectoryVolume]:
    with DirectoryVolume.mount(root) as mounted:
        yield mounted


def replace_file_by_link(root: Path) -> None:
    (root / "DCIM/a.MP4").unlink()
    (root / "DCIM/a.MP4").symlink_to("../../secret")


def replace_folder_by_link(root: Path) -> None:
    (root.parent / "a.MP4").write_bytes(SECRET)
    (root / "DCIM").rename(root.parent / "away")
    (root / "DCIM").symlink_to("..")


def replace_file_by_pipe(root: Path) -> None:
    (root / "DCIM/a.MP4").unlink()
    os.mkfifo(root / "DCIM/a.MP4")


def replace_file_by_folder(root: Path) -> None:
    (root / "DCIM/a.MP4").unlink()
    (root / "DCIM/a.MP4").mkdir()


@pytest.mark.parametrize(
    "change",
    [
        replace_file_by_link,
        replace_folder_by_link,
        replace_file_by_pipe,
        replace_file_by_folder,
    ],
)
def test_what_changed_since_the_listing_leads_nowhere(
    volume: DirectoryVolume, root: Path, change: Callable[[Path], None]
) -> None:
    """A file that became a link, a pipe or a folder is neither followed nor waited for."""
    assert b"DCIM/a.MP4" in {entry.path for entry in volume.entries()}

    change(root)

    with pytest.raises(SourceUnreadableError):
        volume.read_small(b"DCIM/a.MP4", max_bytes=100)


def test_a_volume_whose_root_is_a_link_is_not_mounted(root: Path, tmp_path: Path) -> None:
    """The root itself is not followed either."""
    (tmp_path / "link").symlink_to(root)

    with pytest.raises(SourceVanishedError), DirectoryVolume.mount(tmp_path / "link"):
        pytest.fail("mounted")


def test_another_volume_in_its_place_is_not_read(volume: DirectoryVolume, root: Path) -> None:
    """A recorder that was swapped for another one has left, even if its files have equal names."""
    root.rename(root.with_name("away"))
    (root / "DCIM").mkdir(parents=True)
    (root / "DCIM/a.MP4").write_bytes(b"other")

    with pytest.raises(SourceVanishedError):
        volume.read_small(b"DCIM/a.MP4", max_bytes=100)


def test_a_pull_between_two_chunks_is_seen(root: Path) -> None:
    """The next chunk is not given out once the folder is gone."""
    (root / "big").write_bytes(b"x" * (3 << 20))
    with DirectoryVolume.mount(root) as volume, volume.open(b"big") as file:
        chunks = file.chunks(offset_bytes=0)
        next(chunks)
        root.rename(root.with_name("away"))
        with pytest.raises(SourceVanishedError):
            next(chunks)


def test_a_slow_volume_gives_small_chunks(root: Path) -> None:
    """Held back to a rate, a volume still gives something several times a second."""
    with (
        DirectoryVolume.mount(root, read_limit_bytes_s=8) as volume,
        volume.open(b"DCIM/a.MP4") as file,
    ):
        chunks = [bytes(chunk) for chunk in file.chunks(offset_bytes=0)]

    assert chunks == [b"cl", b"ip"]


def test_nothing_is_opened_twice_or_left_open(volume: DirectoryVolume) -> None:
    """Listing, reading and failing leave no descriptor behind."""
    before = list(Path("/proc/self/fd").iterdir())

    list(volume.entries())
    next(volume.entries())
    volume.read_small(b"DCIM/a.MP4", max_bytes=100)
    with pytest.raises(SourceUnreadableError):
        volume.read_small(b"DCIM/a.MP4", max_bytes=1)
    with pytest.raises(SourceUnreadableError):
        volume.read_small(b"DCIM/a.MP4/x", max_bytes=1)

    assert len(list(Path("/proc/self/fd").iterdir())) == len(before)


def test_a_hostile_volume_is_listed_as_it_is(tmp_path: Path) -> None:
    """What must never be opened is listed as link or special file; the rest is in the listing."""
    hostile = build_hostile_volume(tmp_path / "hostile", sparse_bytes=1 << 20)

    with DirectoryVolume.mount(hostile.folder) as volume:
        kinds = {entry.path: entry.kind for entry in volume.entries()}

    never = {kinds[path] for path in hostile.entries(Treatment.NEVER_OPEN)}
    assert never <= {EntryKind.LINK, EntryKind.SPECIAL}
    assert {kinds[path] for path in hostile.entries(Treatment.COPY)} == {EntryKind.FILE}
    assert not [path for path in kinds if b"passwd/" in path or b"up/" in path]


def test_every_clip_of_a_hostile_volume_can_be_read(tmp_path: Path) -> None:
    """Whatever its name, each clip gives the bytes that its entry announces."""
    hostile = build_hostile_volume(tmp_path / "hostile", sparse_bytes=1 << 20)

    with DirectoryVolume.mount(hostile.folder) as volume:
        sizes = {entry.path: entry.size_bytes for entry in volume.entries()}
        for path in hostile.entries(Treatment.COPY):
            assert len(volume.read_small(path, max_bytes=1 << 20)) == sizes[path]


def test_an_entry_that_cannot_be_told_hides_no_other(
    volume: DirectoryVolume, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken entry is listed as such, and what else is in its folder is listed too."""
    (root / "DCIM/broken.MP4").touch()
    real = os.scandir

    class Broken:
        name = "broken.MP4"

        def stat(self, *, follow_symlinks: bool) -> os.stat_result:
            raise OSError(errno.EIO, f"bad sector {follow_symlinks}")

    @contextlib.contextmanager
    def scandir(fd: int) -> Iterator[Iterator[object]]:
        with real(fd) as found:
            yield (Broken() if one.name == Broken.name else one for one in found)

    monkeypatch.setattr(os, "scandir", scandir)
    kinds = {entry.path: entry.kind for entry in volume.entries()}

    assert kinds[b"DCIM/broken.MP4"] is EntryKind.UNREADABLE
    assert kinds[b"DCIM/a.MP4"] is EntryKind.FILE


@pytest.mark.parametrize("call", ["lseek", "posix_fadvise", "fstat"])
def test_what_the_device_says_is_never_our_disks_fault(
    volume: DirectoryVolume, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the recorder is the recorder's, whichever system call meets it."""

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "bad sector")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises(SourceUnreadableError):
            volume.read_small(b"DCIM/a.MP4", max_bytes=100)


def test_a_volume_that_left_does_not_say_where_the_dock_had_it(
    volume: DirectoryVolume, root: Path
) -> None:
    """What goes into a manifest names no path of the dock's own disk."""
    root.rename(root.parent / "gone")

    with pytest.raises(SourceVanishedError) as left:
        list(volume.entries())

    assert str(root.parent) not in str(left.value)


def test_what_a_name_leads_to_is_told_where_it_has_no_other(
    volume: DirectoryVolume, root: Path
) -> None:
    """A file with two names is in order; a folder has but one."""
    (root / "folder").mkdir()
    (root / "one").write_bytes(b"1")
    (root / "two").write_bytes(b"2")
    (root / "two-as-well").hardlink_to(root / "two")

    nodes = {entry.path: entry.node for entry in volume.entries()}

    for name in (b"folder", b"one"):
        found = (root / name.decode()).stat()
        assert nodes[name] == (found.st_dev, found.st_ino)
    assert nodes[b"two"] is nodes[b"two-as-well"] is None
