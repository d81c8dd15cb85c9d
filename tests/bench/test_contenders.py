"""The stock tools that we stand beside prove what their row says."""

import shutil
from pathlib import Path

import pytest

from bench.contenders import compare_files, hash_files
from bench.sources import Load, write_volumes
from demo.programs import DemoError


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    source, target = tmp_path / "source", tmp_path / "target"
    write_volumes(source, Load(bays=2, clip_bytes=100_000, photos=3))
    hash_files(source, tmp_path / "SUMS")
    shutil.copytree(source, target)
    return target


def test_an_equal_copy_is_proved(copied: Path) -> None:
    """Every file is hashed, and all are as they were."""
    compare_files(copied, copied.with_name("SUMS"))

    assert len(copied.with_name("SUMS.found").read_text().splitlines()) == 8


def test_a_changed_byte_is_found(copied: Path) -> None:
    """The peer of equal evidence does find what ours finds."""
    path = next(copied.rglob("*.JPG"))
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)

    with pytest.raises(DemoError, match="differ"):
        compare_files(copied, copied.with_name("SUMS"))


def test_a_missing_file_is_found(copied: Path) -> None:
    """A file that was not copied is no equal copy."""
    next(copied.rglob("*.MP4")).unlink()

    with pytest.raises(DemoError, match=r"EOF|differ"):
        compare_files(copied, copied.with_name("SUMS"))
