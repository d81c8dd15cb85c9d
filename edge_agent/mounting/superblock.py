"""Which file system is on a block device, by its first bytes; nothing else is asked or believed.

Sources: Microsoft, FAT: General Overview of On-Disk Format 1.03; Microsoft, exFAT file system
specification; Linux, Documentation/filesystems/ext4/super.rst and fs/ntfs3/ntfs.h.
"""

import struct
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final

from edge_agent.mounting.errors import UnknownFileSystemError

# As much as `recognise` looks at.
HEAD_BYTES: Final = 4096

_BOOT_SIGNATURE: Final = b"\x55\xaa"
_EXT_OFFSET: Final = 1024
_EXT_MAGIC: Final = b"\x53\xef"
_EXT_NEEDS_RECOVERY: Final = 0x4
_SECTOR_SIZES: Final = frozenset({512, 1024, 2048, 4096})
_CLUSTER_SECTORS: Final = frozenset({1, 2, 4, 8, 16, 32, 64, 128})
_MEDIA: Final = frozenset({0xF0, *range(0xF8, 0x100)})


@unique
class FileSystemKind(Enum):
    """What recorders use; by the name that the kernel has for it."""

    FAT = "vfat"
    EXFAT = "exfat"
    EXT = "ext4"
    NTFS = "ntfs3"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSystem:
    """A file system as its own first bytes describe it.

    Attributes:
        volume_id: Hex, as blkid shows it without hyphens; two recorders may have the same.
        untrusted_label: Blank where it stands elsewhere on the volume.
        has_open_journal: An ext4 that was not closed: what it holds is not settled before its
            journal is replayed.
    """

    kind: FileSystemKind
    volume_id: str
    untrusted_label: bytes = b""
    has_open_journal: bool = False


def recognise(untrusted_head: bytes) -> FileSystem:
    """Return what the first `HEAD_BYTES` of a device say that it is.

    Raises:
        UnknownFileSystemError: It is none of those that recorders use, or not a sound one.
    """
    head = untrusted_head.ljust(HEAD_BYTES, b"\0")
    # An ext4 may have any boot sector before it, a boot sector no ext4 behind it.
    if head[_EXT_OFFSET + 0x38 :][:2] == _EXT_MAGIC:
        superblock = head[_EXT_OFFSET:]
        label = superblock[0x78 : 0x78 + 16].rstrip(b"\0")
        volume_id = superblock[0x68 : 0x68 + 16].hex()
        incompatible = struct.unpack_from("<I", superblock, 0x60)[0]
        return FileSystem(
            kind=FileSystemKind.EXT,
            volume_id=volume_id,
            untrusted_label=label,
            has_open_journal=bool(incompatible & _EXT_NEEDS_RECOVERY),
        )
    if head[510:512] != _BOOT_SIGNATURE:
        raise UnknownFileSystemError("no file system that recorders use")
    if head[3:11] == b"EXFAT   ":
        volume_id = head[100:104][::-1].hex()
        return FileSystem(kind=FileSystemKind.EXFAT, volume_id=volume_id)
    if head[3:11] == b"NTFS    ":
        return FileSystem(kind=FileSystemKind.NTFS, volume_id=head[0x48:0x50][::-1].hex())
    return _fat(head)


def is_partitioned(untrusted_head: bytes) -> bool:
    """Return whether the first sector is a partition table that names any partition.

    A file system without partitions has a boot sector there; only its kind tells them apart.
    """
    try:
        recognise(untrusted_head)
    except UnknownFileSystemError:
        head = untrusted_head.ljust(512, b"\0")
        types = (head[446 + 16 * number + 4] for number in range(4))
        return head[510:512] == _BOOT_SIGNATURE and any(types)
    return False


def _fat(head: bytes) -> FileSystem:
    sector_bytes, cluster_sectors, reserved, fats = struct.unpack_from("<HBHB", head, 11)
    media, fat_sectors_16 = struct.unpack_from("<BH", head, 21)
    fat_sectors_32 = struct.unpack_from("<I", head, 36)[0]
    sound = (
        head[0] in {0xEB, 0xE9}
        and sector_bytes in _SECTOR_SIZES
        and cluster_sectors in _CLUSTER_SECTORS
        and reserved > 0
        and fats in {1, 2}
        and media in _MEDIA
        and (fat_sectors_16 or fat_sectors_32)
    )
    if not sound:
        raise UnknownFileSystemError("a boot sector of no file system that recorders use")
    # Where FAT32 has its own fields, FAT12 and FAT16 have these.
    at = 64 if fat_sectors_16 == 0 else 36
    volume_id = head[at + 3 : at + 7][::-1].hex()
    label = head[at + 7 : at + 18].rstrip(b" \0")
    return FileSystem(kind=FileSystemKind.FAT, volume_id=volume_id, untrusted_label=label)
