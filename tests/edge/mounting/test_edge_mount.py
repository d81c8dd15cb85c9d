"""The program edge-mount itself, with real disks."""

import contextlib
import os
import selectors
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from edge_agent.adapters.mount_service import MOST_IN_LINE
from edge_agent.adapters.usb_tree import BlockDevice
from edge_agent.mounting.messages import (
    MAX_DEVICES,
    MAX_REPLY_BYTES,
    MAX_VOLUMES,
    Reply,
    Request,
    Verb,
    encode,
    parse_reply,
)
from edge_agent.mounting.superblock import FileSystemKind
from protocol.identifiers import HIGHEST_BAY, BayNumber
from tests.simulators.edge_mount import Before, Mounting, running_edge_mount
from tests.simulators.loop_disks import ext4_image, fat_image, loop_disk, run
from tests.simulators.sysfs import FakeSysfs

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
    assert reply.left_out == 1
    assert empty.name in reply.text


def test_a_name_that_is_another_device(mounting: Mounting, disk: BlockDevice) -> None:
    """What stands under a device's name must be the device that the kernel listed."""
    strange = BlockDevice(name=disk.name, number=(8, 0), size_bytes=disk.size_bytes)
    mounting.plug("1-1", strange)

    assert mounting.client(1).mount().code == "E-MNT-106"
    assert not mounting.mounts()


def test_more_partitions_than_a_recorder_has(mounting: Mounting, disk: BlockDevice) -> None:
    """None of them is opened, and the bay says why."""
    mounting.sysfs.plug("1-1")
    partitions = [
        BlockDevice(name=f"{disk.name}p{number}", number=(259, number), size_bytes=1 << 20)
        for number in range(1, MAX_DEVICES + 1)
    ]
    mounting.sysfs.add_disk("1-1", disk, *partitions)

    reply = mounting.client(1).mount()

    assert reply.code == "E-MNT-114"
    assert f"{MAX_DEVICES + 1} disks and partitions" in reply.text
    assert not mounting.mounts()


def test_more_volumes_than_a_recorder_has(
    mounting: Mounting, tmp_path: Path, footage: Path
) -> None:
    """None is left behind in silence: nothing is mounted, and the bay says why."""
    image = ext4_image(tmp_path / "one", footage, size_bytes=2 << 20)
    mounting.sysfs.plug("1-1")
    with contextlib.ExitStack() as stack:
        for number in range(MAX_VOLUMES + 1):
            copy = tmp_path / f"card-{number}"
            shutil.copyfile(image, copy)
            mounting.sysfs.add_disk("1-1", stack.enter_context(loop_disk(copy)))
        reply = mounting.client(1).mount()

    assert reply.code == "E-MNT-114"
    assert not mounting.mounts()


def hang(sysfs: FakeSysfs, port: str) -> Path:
    """Plug in a disk of which whoever asks the kernel gets no answer; return where it is asked."""
    sysfs.plug(port)
    size = sysfs.add_disk(port, BlockDevice(name="sdz", number=(8, 400), size_bytes=0)) / "size"
    size.unlink()
    os.mkfifo(size)
    return size


def let_go(size: Path) -> None:
    """Let who hangs go on: the disk is gone."""
    with size.open("w") as file:
        size.unlink()
        file.write("0\n")


def ask(mounting: Mounting, bay: int) -> socket.socket:
    """Ask for a bay to be mounted, and wait for nothing."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(str(mounting.socket))
    connection.settimeout(60)
    connection.sendall(encode(Request(verb=Verb.MOUNT, bay=BayNumber(bay))))
    return connection


def code_of(answered: socket.socket) -> str | None:
    return parse_reply(answered.recv(MAX_REPLY_BYTES)).code


def test_a_bay_that_hangs_holds_up_no_other_one(mounting: Mounting, disk: BlockDevice) -> None:
    """However often it is asked again: some wait, the others are told so at once."""
    mounting.plug("1-1", disk)
    size = hang(mounting.sysfs, "1-2")
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        for _ in range(4 * HIGHEST_BAY):
            selector.register(stack.enter_context(ask(mounting, 2)), selectors.EVENT_READ)
        codes = []
        while len(selector.get_map()) > MOST_IN_LINE:
            told = selector.select(timeout=60)
            assert told
            for key, _ in told:
                selector.unregister(key.fileobj)
                codes.append(code_of(cast("socket.socket", key.fileobj)))

        assert set(codes) == {"E-MNT-115"}
        assert mounting.client(1).mount().volumes
        assert mounting.client(1).detach() == Reply()
        let_go(size)
        waiting = [cast("socket.socket", key.fileobj) for key in selector.get_map().values()]
        assert [code_of(one) for one in waiting] == ["E-MNT-104"] * MOST_IN_LINE

    assert mounting.client(2).mount().code == "E-MNT-104"


def test_a_bay_that_hangs_at_the_start_holds_up_no_other_one(disk: BlockDevice) -> None:
    """The others are served; it is busy until it has been seen to."""
    sizes: list[Path] = []
    before = Before(plug=lambda sysfs: sizes.append(hang(sysfs, "1-2")))
    with running_edge_mount(before=before) as mounting:
        mounting.plug("1-1", disk)
        assert mounting.client(1).mount().volumes
        with ask(mounting, 2) as waiting:
            let_go(sizes[0])
            assert code_of(waiting) == "E-MNT-104"
        mounting.client(1).detach()


def test_a_recorder_that_is_in_use_is_detached(mounting: Mounting, disk: BlockDevice) -> None:
    """Who has a file open reads on; the bay is free for the next recorder."""
    mounting.plug("1-1", disk)
    mounting.client(1).mount()
    with mounting.seen(mounting.bays / "1/1/DCIM/clip.MP4").open("rb") as file:
        assert mounting.client(1).detach() == Reply()
        assert file.read() == b"what was recorded"

    assert not mounting.mounts()


def test_a_name_that_became_another_bays_disk_meanwhile(disk: BlockDevice) -> None:
    """The kernel uses a name and a number again as soon as a disk has left: it is not mounted."""
    usb = "/sys/devices/pci0000:00/0000:00:14.0/usb1"
    goes_over = {"bay_mounts.open_read_only:1": f"mv {usb}/1-1/1-1:1.0 {usb}/1-2/"}
    with running_edge_mount(before=Before(meddling=goes_over)) as mounting:
        mounting.sysfs.plug("1-2")
        mounting.plug("1-1", disk)

        assert mounting.client(1).mount().code == "E-MNT-104"
        assert not mounting.mounts()
        assert mounting.client(2).mount().volumes
        mounting.client(2).detach()
