import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_agent.mounting.errors import UnknownFileSystemError
from edge_agent.mounting.superblock import (
    HEAD_BYTES,
    FileSystem,
    FileSystemKind,
    is_partitioned,
    recognise,
)

# Made by the tools that make them everywhere.
MADE = {
    FileSystemKind.FAT: ["mkfs.vfat", "-F", "32", "-n", "DSJ A8", "-i", "01234567"],
    FileSystemKind.EXFAT: ["mkfs.exfat"],
    FileSystemKind.EXT: ["mkfs.ext4", "-q", "-F", "-L", "DSJ A8"],
    FileSystemKind.NTFS: ["mkntfs", "--quiet", "--fast", "--force"],
}


def made(folder: Path, command: list[str], size_bytes: int = 64 << 20) -> bytes:
    image = folder / "image"
    with image.open("wb") as file:
        file.truncate(size_bytes)
    subprocess.run(
        [*command, str(image)],
        check=True,
        capture_output=True,
        env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"},
    )
    with image.open("rb") as file:
        return file.read(HEAD_BYTES)


@pytest.mark.parametrize("kind", MADE)
def test_what_stock_tools_make_is_recognised(kind: FileSystemKind, tmp_path: Path) -> None:
    """Each of the four file systems is told from the others."""
    assert recognise(made(tmp_path, MADE[kind])).kind is kind


def test_fat_16_is_recognised(tmp_path: Path) -> None:
    """Small cards have the older form of FAT."""
    head = made(tmp_path, ["mkfs.vfat", "-F", "16", "-n", "SMALL", "-i", "89ABCDEF"], 16 << 20)

    assert recognise(head) == FileSystem(
        kind=FileSystemKind.FAT, volume_id="89abcdef", untrusted_label=b"SMALL"
    )


def test_fat_tells_its_name(tmp_path: Path) -> None:
    """Number and label stand in the boot sector."""
    found = recognise(made(tmp_path, MADE[FileSystemKind.FAT]))

    assert (found.volume_id, found.untrusted_label) == ("01234567", b"DSJ A8")


def test_exfat_tells_its_number(tmp_path: Path) -> None:
    """It is made by chance; the label of exFAT stands elsewhere on the volume."""
    head = made(tmp_path, MADE[FileSystemKind.EXFAT])

    assert int(recognise(head).volume_id, 16) == int.from_bytes(head[100:104], "little")


@pytest.mark.parametrize("kind", MADE)
def test_a_file_system_is_no_partition_table(kind: FileSystemKind, tmp_path: Path) -> None:
    """Its boot sector has the same signature."""
    assert not is_partitioned(made(tmp_path, MADE[kind]))


def test_a_partition_table_is_no_file_system() -> None:
    """A first sector that names a partition is one; an empty one is neither."""
    table = bytearray(512)
    table[510:] = b"\x55\xaa"
    assert not is_partitioned(bytes(table))

    table[446 + 4] = 0x0C

    assert is_partitioned(bytes(table))
    with pytest.raises(UnknownFileSystemError):
        recognise(bytes(table))


@given(st.binary(max_size=HEAD_BYTES))
@example(b"\xeb" + b"\0" * 509 + b"\x55\xaa")
@example(b"\0" * (1024 + 0x38) + b"\x53\xef")
def test_anything_is_recognised_or_refused(head: bytes) -> None:
    """Whatever stands on a device, the answer is a file system or that there is none."""
    try:
        found = recognise(head)
    except UnknownFileSystemError:
        return
    assert found.kind in FileSystemKind
    assert len(found.untrusted_label) <= 16
    assert set(found.volume_id) <= set("0123456789abcdef")
