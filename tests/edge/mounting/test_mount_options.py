from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from edge_agent.mounting.options import FLAGS, mount_options
from edge_agent.mounting.superblock import FileSystemKind

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
READER = 999


def options(kind: FileSystemKind, zone: str = "Asia/Shanghai") -> str:
    return mount_options(kind, uid=READER, gid=READER, zone=ZoneInfo(zone), now=NOW)


def test_nothing_can_be_written_or_run() -> None:
    """Read-only, no devices, no set-uid, no programs, no access times."""
    # The numbers of <linux/mount.h>.
    assert FLAGS == 1 | 2 | 4 | 8 | 1024


@pytest.mark.parametrize("kind", [FileSystemKind.FAT, FileSystemKind.EXFAT])
@pytest.mark.parametrize(("zone", "minutes"), [("Asia/Shanghai", 480), ("America/New_York", -300)])
def test_times_without_a_zone_are_the_docks(kind: FileSystemKind, zone: str, minutes: int) -> None:
    """The kernel takes FAT's local times for times of the zone where recorders are worn."""
    assert f"time_offset={minutes}" in options(kind, zone).split(",")


def test_a_journal_is_not_replayed() -> None:
    """Replaying it would write to the recorder."""
    assert options(FileSystemKind.EXT) == "noload,errors=continue"


@pytest.mark.parametrize("kind", [k for k in FileSystemKind if k is not FileSystemKind.EXT])
def test_the_agent_alone_may_read(kind: FileSystemKind) -> None:
    """Files belong to its user, and others see nothing of them."""
    assert {"uid=999", "gid=999", "fmask=0337", "dmask=0227"} <= set(options(kind).split(","))
