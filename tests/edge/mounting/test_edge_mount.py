"""The program edge-mount itself, with real disks."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.adapters.usb_tree import BlockDevice
from edge_agent.mounting.messages import Reply
from edge_agent.mounting.superblock import FileSystemKind
from tests.simulators.edge_mount import Mounting, running_edge_mount
from tests.simulators.loop_disks import ext4_image, fat_image, loop_disk, run

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount"),
]


@pytest.fixture
def mounting() -> Iterator[Mounting]:
    with running_edge_mount() as running:
        yield running


@pytest.fixture
def footage(tmp_path: Path) -> Path:
    folder = tmp_path / "footage/DCIM"
    folder.mkdir(parents=True)
    (folder / "clip.MP4").write_bytes(b"what was recorded")
    return folder.parent


@pytest.fixture
def disk(tmp_path: Path, footage: Path) -> Iterator[BlockDevice]:
    with loop_disk(ext4_image(tmp_path / "card", footage)) as found:
        yield found


def test_a_recorder_is_mounted_and_detached(mounting: Mounting, disk: BlockDevice) -> None:
    """Its files can be read; after that nothing of it is left."""
    mounting.plug("2-1", disk)

    reply = mounting.client(1).mount()
    content = mounting.seen(mounting.bays / "1/1/DCIM/clip.MP4").read_bytes()
    detached = mounting.client(1).detach()

    [volume] = reply.volumes
    assert (volume.name, volume.file_system, volume.label) == ("1", FileSystemKind.EXT, "DSJ")
    assert content == b"what was recorded"
    assert detached == Reply()
    assert not mounting.mounts()
    assert not list(mounting.bays.glob("1/*"))


def test_nobody_can_write_to_it(mounting: Mounting, disk: BlockDevice) -> None:
    """Neither through the file system nor to the device: the kernel refuses both."""
    mounting.plug("1-1", disk)
    mounting.client(1).mount()

    [[_, _, options]] = mounting.mounts()
    with pytest.raises(OSError, match="Read-only"):
        mounting.seen(mounting.bays / "1/1/new").touch()
    written = subprocess.run(
        ["dd", "if=/dev/zero", f"of=/dev/{disk.name}", "count=1", "conv=notrunc,fsync"],
        capture_output=True,
        check=False,
    )

    assert {"ro", "nosuid", "nodev", "noexec", "norecovery"} <= set(options.split(","))
    assert written.returncode != 0
    assert run("blockdev", "--getro", f"/dev/{disk.name}").strip() == "1"


def test_a_bay_is_its_own_ports_only(mounting: Mounting, disk: BlockDevice) -> None:
    """What is in bay 1 is never mounted for bay 2."""
    mounting.plug("1-1", disk)

    assert mounting.client(2).mount().code == "E-MNT-104"
    assert not mounting.mounts()


@pytest.mark.parametrize("bay", [3, 4])
def test_what_is_no_usb_bay_is_not_mounted(mounting: Mounting, bay: int) -> None:
    """A bay that is a folder, and one that there is not."""
    assert mounting.client(bay).mount().code == "E-MNT-105"
    assert mounting.client(bay).detach().code == "E-MNT-105"


def test_asked_again_it_begins_anew(mounting: Mounting, disk: BlockDevice) -> None:
    """However often it is asked, what is there is mounted once."""
    mounting.plug("1-1", disk)
    for _ in range(3):
        assert mounting.client(1).mount().volumes

    assert len(mounting.mounts()) == 1


def test_two_volumes_of_one_recorder(
    mounting: Mounting, disk: BlockDevice, tmp_path: Path, footage: Path
) -> None:
    """The larger one is the first."""
    image = ext4_image(tmp_path / "large", footage, size_bytes=32 << 20)
    with loop_disk(image) as large:
        mounting.plug("1-1", disk, large)
        reply = mounting.client(1).mount()
        mounting.client(1).detach()

    assert [(one.name, one.size_bytes) for one in reply.volumes] == [
        ("1", 32 << 20),
        ("2", 16 << 20),
    ]


def test_what_cannot_be_mounted_is_told(mounting: Mounting, tmp_path: Path) -> None:
    """An empty disk and one with a damaged file system have each a code, and leave no folder."""
    blank, damaged = tmp_path / "blank", fat_image(tmp_path / "damaged")
    blank.write_bytes(bytes(1 << 20))
    with damaged.open("r+b") as file:
        file.seek(16_384 + 512)
        file.truncate(16_384)
    with contextlib.ExitStack() as stack:
        disks = [stack.enter_context(loop_disk(one)) for one in (blank, damaged)]
        codes = []
        for disk in disks:
            mounting.plug("1-1", disk)
            codes.append(mounting.client(1).mount().code)
            mounting.sysfs.pull("1-1")

    assert codes == ["E-MNT-101", "E-MNT-103"]
    assert not list(mounting.bays.glob("1/*"))


def test_a_good_volume_beside_a_bad_one(
    mounting: Mounting, disk: BlockDevice, tmp_path: Path
) -> None:
    """It is mounted, and the answer says what was left out."""
    blank = tmp_path / "blank"
    blank.write_bytes(bytes(1 << 20))
    with loop_disk(blank) as empty:
        mounting.plug("1-1", empty, disk)
        reply = mounting.client(1).mount()
        mounting.client(1).detach()

    assert len(reply.volumes) == 1
    assert empty.name in reply.text


def test_a_name_that_is_another_device(mounting: Mounting, disk: BlockDevice) -> None:
    """What stands under a device's name must be the device that the kernel listed."""
    strange = BlockDevice(name=disk.name, number=(8, 0), size_bytes=disk.size_bytes)
    mounting.plug("1-1", strange)

    assert mounting.client(1).mount().code == "E-MNT-106"
    assert not mounting.mounts()


def test_a_recorder_that_is_in_use_is_detached(mounting: Mounting, disk: BlockDevice) -> None:
    """Who has a file open reads on; the bay is free for the next recorder."""
    mounting.plug("1-1", disk)
    mounting.client(1).mount()
    with mounting.seen(mounting.bays / "1/1/DCIM/clip.MP4").open("rb") as file:
        assert mounting.client(1).detach() == Reply()
        assert file.read() == b"what was recorded"

    assert not mounting.mounts()
