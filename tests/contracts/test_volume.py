"""What every volume promises, kept by a folder on a disk, by two as one, and by one in memory."""

import contextlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from demo.docking import DirectoryDock
from edge_agent.adapters.directory_volume import DirectoryVolume
from edge_agent.adapters.joined_volume import JoinedVolume
from edge_agent.errors import SourceUnreadableError, SourceVanishedError
from edge_agent.ingest.volume import MAX_DEPTH, EntryKind, RawEntry, Volume
from tests.simulators.memory_volume import MemoryVolume, Stored

FILES = {
    b"DCIM/100MEDIA/a.MP4": b"first" * 100_000,
    b"DCIM/b \xff.MP4": b"second",
    b"empty": b"",
    b"/".join([b"d"] * (MAX_DEPTH - 1)) + b"/deepest": b"deep",
    b"/".join([b"e"] * MAX_DEPTH) + b"/too deep": b"deeper",
}
FIRST = b"DCIM/100MEDIA/a.MP4"
WRITTEN_NS = 1_700_000_000_000_000_000

Pull = Callable[[], None]


def in_memory() -> Iterator[tuple[Volume, Pull]]:
    volume = MemoryVolume(
        files={
            path: Stored(content=content, mtime_ns=WRITTEN_NS) for path, content in FILES.items()
        },
        odd=[RawEntry(path=b"link", kind=EntryKind.LINK)],
    )

    def pull() -> None:
        volume.docked = False

    yield volume, pull


def joined(folder: Path) -> Iterator[tuple[Volume, Pull]]:
    """A second volume changes nothing about the first."""
    second = folder / "second"
    second.mkdir()
    with contextlib.ExitStack() as stack:

        def join(root: Path) -> Volume:
            return stack.enter_context(JoinedVolume.mount([root, second]))

        yield from on_disk(folder, join)


def on_disk(
    folder: Path, mount: Callable[[Path], Volume] | None = None
) -> Iterator[tuple[Volume, Pull]]:
    recorder, bay_dir = folder / "recorder", folder / "bay"
    for path, content in FILES.items():
        target = recorder / os.fsdecode(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        os.utime(target, ns=(WRITTEN_NS, WRITTEN_NS))
    (recorder / "link").symlink_to("empty")
    DirectoryDock().insert(recorder, bay_dir)
    if mount is not None:
        yield mount(bay_dir), lambda: DirectoryDock().pull(bay_dir)
        return
    with DirectoryVolume.mount(bay_dir) as volume:
        yield volume, lambda: DirectoryDock().pull(bay_dir)


@pytest.fixture(params=["memory", "disk", "joined"])
def docked(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Volume, Pull]]:
    kinds: dict[str, Callable[[], Iterator[tuple[Volume, Pull]]]] = {
        "memory": in_memory,
        "disk": partial(on_disk, tmp_path),
        "joined": partial(joined, tmp_path),
    }
    yield from kinds[request.param]()


@pytest.fixture
def volume(docked: tuple[Volume, Pull]) -> Volume:
    return docked[0]


def read(volume: Volume, path: bytes, *, offset_bytes: int = 0) -> bytes:
    with volume.open(path) as file:
        return b"".join(bytes(chunk) for chunk in file.chunks(offset_bytes=offset_bytes))


def test_every_file_is_listed_with_size_and_time(volume: Volume) -> None:
    """The listing has each file once, with exact path, size and time."""
    files = [entry for entry in volume.entries() if entry.kind is EntryKind.FILE]

    listed = {one.path: (one.size_bytes, one.mtime_ns) for one in files}
    assert len(listed) == len(files)
    assert listed == {
        path: (len(content), WRITTEN_NS)
        for path, content in FILES.items()
        if b"too deep" not in path
    }


def test_folders_are_listed_before_what_is_in_them(volume: Volume) -> None:
    """Each file's folders have been listed, once, when it comes."""
    seen: set[bytes] = set()

    for entry in volume.entries():
        parent, _, _ = entry.path.rpartition(b"/")
        assert not parent or parent in seen
        if entry.kind is EntryKind.DIRECTORY:
            assert entry.path not in seen
            seen.add(entry.path)


def test_what_is_too_deep_is_not_entered(volume: Volume) -> None:
    """A folder whose files would be too deep is listed as such, and nothing of it."""
    entries = list(volume.entries())

    deep = [entry.path for entry in entries if entry.kind is EntryKind.TOO_DEEP]
    assert deep == [b"/".join([b"e"] * MAX_DEPTH)]
    assert max(entry.path.count(b"/") for entry in entries) == MAX_DEPTH - 1


def test_a_link_is_a_link(volume: Volume) -> None:
    """A link is listed as one, and cannot be opened."""
    assert [one.path for one in volume.entries() if one.kind is EntryKind.LINK] == [b"link"]
    with pytest.raises(SourceUnreadableError):
        read(volume, b"link")


@pytest.mark.parametrize("path", [path for path in FILES if b"too deep" not in path])
def test_a_file_is_read_as_it_is(volume: Volume, path: bytes) -> None:
    """Opened, a file has its size, its time and its bytes."""
    with volume.open(path) as file:
        assert (file.size_bytes, file.mtime_ns) == (len(FILES[path]), WRITTEN_NS)
        chunks = [bytes(chunk) for chunk in file.chunks(offset_bytes=0)]

    assert b"".join(chunks) == FILES[path]
    assert all(chunks)


@pytest.mark.parametrize("offset_bytes", [0, 1, 499_999, 500_000])
def test_a_file_is_read_from_anywhere(volume: Volume, offset_bytes: int) -> None:
    """From any offset up to the end, one gets what is there."""
    assert read(volume, FIRST, offset_bytes=offset_bytes) == FILES[FIRST][offset_bytes:]


def test_a_file_is_read_again(volume: Volume) -> None:
    """A file that is open can be read from its start any number of times."""
    with volume.open(FIRST) as file:
        for _ in range(2):
            assert b"".join(bytes(one) for one in file.chunks(offset_bytes=0)) == FILES[FIRST]


def test_a_small_file_is_read_whole_or_not_at_all(volume: Volume) -> None:
    """A file of exactly the limit is small; one byte more is not."""
    path = b"DCIM/b \xff.MP4"

    assert volume.read_small(path, max_bytes=6) == b"second"
    with pytest.raises(SourceUnreadableError):
        volume.read_small(path, max_bytes=5)


@pytest.mark.parametrize("path", [b"nowhere", b"DCIM", b"empty/x", b"../bay/empty"])
def test_what_is_no_file_cannot_be_opened(volume: Volume, path: bytes) -> None:
    """A path that names no regular file inside the volume is unreadable."""
    with pytest.raises(SourceUnreadableError):
        read(volume, path)
    with pytest.raises(SourceUnreadableError):
        volume.read_small(path, max_bytes=10)


def test_a_pulled_volume_is_gone_for_every_call(docked: tuple[Volume, Pull]) -> None:
    """Once the recorder left, listing, opening and reading say so."""
    volume, pull = docked
    pull()

    with pytest.raises(SourceVanishedError):
        list(volume.entries())
    with pytest.raises(SourceVanishedError):
        volume.read_small(b"empty", max_bytes=10)
    with pytest.raises(SourceVanishedError):
        read(volume, FIRST)


def test_pulled_while_a_file_is_open(docked: tuple[Volume, Pull]) -> None:
    """A file that is open when the recorder leaves is not read on."""
    volume, pull = docked

    with volume.open(FIRST) as file:
        chunks = file.chunks(offset_bytes=0)
        pull()
        with pytest.raises(SourceVanishedError):
            next(chunks)


def test_pulled_while_it_is_listed(docked: tuple[Volume, Pull]) -> None:
    """A listing that the recorder did not stay for is no listing."""
    volume, pull = docked
    entries = volume.entries()
    next(entries)
    pull()

    with pytest.raises(SourceVanishedError):
        list(entries)
