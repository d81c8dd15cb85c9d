"""How each kind of file system is mounted: so that nothing on it acts, and nobody writes.

To erase, a volume is mounted once more so that its owner alone can get at it, and writes.
"""

from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from edge_agent.mounting.superblock import FileSystemKind

# From <linux/mount.h>: what `mount -o ro,nosuid,nodev,noexec,noatime` asks for.
MS_RDONLY: Final = 0x1
MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_NOEXEC: Final = 0x8
MS_NOATIME: Final = 0x400
FLAGS: Final = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME
WRITING_FLAGS: Final = FLAGS & ~MS_RDONLY


def mount_options(
    kind: FileSystemKind,
    *,
    uid: int,
    gid: int,
    zone: ZoneInfo,
    now: datetime,
    for_writing: bool = False,
) -> str:
    """Return the options of mount(2) that the kind takes.

    FAT and exFAT write local times without a zone. The kernel is told the dock's zone, so that a
    file's time comes out as the moment it was; where clocks change, times of the other half of the
    year are an hour off.

    Args:
        kind: What is mounted.
        uid: Who may read it.
        gid: Likewise.
        zone: Where recorders are worn.
        now: Aware.
        for_writing: For `WRITING_FLAGS`, and for *uid* alone.
    """
    masks = "fmask=0177,dmask=0077" if for_writing else "fmask=0337,dmask=0227"
    readable = f"uid={uid},gid={gid},{masks}"
    offset = (now.astimezone(zone).utcoffset() or timedelta()) // timedelta(minutes=1)
    match kind:
        case FileSystemKind.FAT:
            return f"{readable},utf8=1,time_offset={offset}"
        case FileSystemKind.EXFAT:
            return f"{readable},iocharset=utf8,time_offset={offset}"
        case FileSystemKind.NTFS:
            return f"{readable},iocharset=utf8"
        case FileSystemKind.EXT:
            # Replaying the journal would write. What happens at an error, such as a panic of this
            # machine, is not for the card's own superblock to say.
            return "errors=remount-ro,nodiscard" if for_writing else "noload,errors=continue"
