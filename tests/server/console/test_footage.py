import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server_agent.console.errors import FootagePathError
from server_agent.console.footage import PLAYABLE, components, locate, media_type

BAG = "2026/11/23/_unfiled/recording"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    root = tmp_path / "archive"
    data = root / BAG / "data"
    data.mkdir(parents=True)
    (data / "clip.MP4").write_bytes(b"footage")
    (tmp_path / "secret.MP4").write_bytes(b"not footage")
    return root


def test_a_file_of_a_bag_is_found(archive: Path) -> None:
    """The catalogue's path leads to the payload file."""
    assert locate(archive, BAG, "clip.MP4").read_bytes() == b"footage"


ESCAPES = [
    (BAG, "../bagit.txt"),
    (BAG, "../../../../../../../secret.MP4"),
    (BAG, "/etc/passwd"),
    (BAG, ""),
    (BAG, "."),
    (BAG, ".."),
    (BAG, "a//b"),
    (BAG, "clip.MP4\0.txt"),
    (BAG, "..\\secret.MP4"),
    ("..", "clip.MP4"),
    ("/etc", "passwd"),
    ("", "clip.MP4"),
    (f"{BAG}/../{BAG}", "clip.MP4"),
    (f"./{BAG}", "clip.MP4"),
    (f"{BAG}/", "clip.MP4"),
]


@pytest.mark.parametrize(("bag", "name"), ESCAPES)
def test_no_path_leads_out(archive: Path, bag: str, name: str) -> None:
    """Dots, slashes, backslashes and NULs are refused before anything is opened."""
    with pytest.raises(FootagePathError):
        locate(archive, bag, name)


@given(st.text(max_size=40), st.text(max_size=40))
def test_what_passes_stays_below(bag: str, name: str) -> None:
    """Any two texts are refused, or are plain steps downwards."""
    try:
        steps = components(bag, name)
    except FootagePathError:
        return

    assert not {"", ".", ".."} & set(steps)
    assert not any("/" in step or "\0" in step for step in steps)
    assert os.path.normpath("/".join(steps)) == "/".join(steps)


def test_a_link_to_a_file_is_not_followed(archive: Path) -> None:
    """A link in a bag is refused, wherever it leads."""
    (archive / BAG / "data" / "link.MP4").symlink_to(archive / BAG / "data" / "clip.MP4")

    with pytest.raises(FootagePathError):
        locate(archive, BAG, "link.MP4")


def test_a_link_to_a_folder_is_not_followed(archive: Path) -> None:
    """A link on the way is refused as well."""
    (archive / "2027").symlink_to(archive / "2026")

    with pytest.raises(FootagePathError):
        locate(archive, BAG.replace("2026", "2027"), "clip.MP4")


def test_a_pipe_is_not_opened(archive: Path) -> None:
    """Only plain files are played."""
    os.mkfifo(archive / BAG / "data" / "pipe.MP4")

    with pytest.raises(FootagePathError):
        locate(archive, BAG, "pipe.MP4")


def test_a_missing_file_is_missing(archive: Path) -> None:
    """A file that is not there is our own disk's matter."""
    with pytest.raises(FileNotFoundError):
        locate(archive, BAG, "other.MP4")


def test_types_are_ours() -> None:
    """A type follows from the name's end alone, and none of them can run in a browser."""
    assert media_type("A.MP4") == "video/mp4"
    assert media_type("a.svg") is None
    assert media_type("a.html") is None
    assert {kind.partition("/")[0] for kind in PLAYABLE.values()} == {"video", "audio", "image"}
    assert not any("svg" in kind or "xml" in kind for kind in PLAYABLE.values())
