from pathlib import Path

import pytest

from edge_agent.adapters.usb_tree import BlockDevice, UsbTree
from edge_agent.mounting.port_paths import PortPath
from tests.simulators.sysfs import FakeSysfs

SDA = BlockDevice(name="sda", number=(8, 0), size_bytes=1 << 20)
SDA1 = BlockDevice(name="sda1", number=(8, 1), size_bytes=1 << 19)
SDB = BlockDevice(name="sdb", number=(8, 16), size_bytes=1 << 20)


@pytest.fixture
def sysfs(tmp_path: Path) -> FakeSysfs:
    return FakeSysfs(tmp_path / "sys")


@pytest.fixture
def tree(sysfs: FakeSysfs) -> UsbTree:
    return UsbTree(sysfs.root)


def test_a_disk_with_its_partitions(sysfs: FakeSysfs, tree: UsbTree) -> None:
    """Name, number and size of each are as the kernel says."""
    sysfs.plug("1-1.2")
    sysfs.add_disk("1-1.2", SDA, SDA1)

    [disk] = tree.disks_at(["1-1.2", "2-1.2"])

    assert (disk.device, disk.partitions, disk.sequence) == (SDA, (SDA1,), 1)


def test_another_ports_disk_is_not_this_bays(sysfs: FakeSysfs, tree: UsbTree) -> None:
    """Neither a port beside it, nor one whose number begins alike."""
    for port, disk in (("1-1.2", SDA), ("1-1.20", SDB)):
        sysfs.plug(port)
        sysfs.add_disk(port, disk)

    assert [disk.device for disk in tree.disks_at(["1-1.2"])] == [SDA]
    assert not tree.disks_at(["1-1.3"])


def test_a_recorder_behind_a_hub_in_the_bay(sysfs: FakeSysfs, tree: UsbTree) -> None:
    """A recorder may have a hub of its own inside."""
    sysfs.plug_hub("1-4")
    sysfs.plug("1-4.1")
    sysfs.add_disk("1-4.1", SDA)

    assert [disk.device for disk in tree.disks_at(["1-4"])] == [SDA]


def test_a_reader_without_a_card_is_no_disk(sysfs: FakeSysfs, tree: UsbTree) -> None:
    """Size 0 says that there is no medium."""
    sysfs.plug("1-1")
    folder = sysfs.add_disk("1-1", SDA)
    (folder / "size").write_text("0\n")

    assert not tree.disks_at(["1-1"])


@pytest.mark.parametrize(("file", "text"), [("dev", "8:x"), ("dev", ""), ("size", "-1")])
def test_what_makes_no_sense_is_no_disk(
    sysfs: FakeSysfs, tree: UsbTree, file: str, text: str
) -> None:
    """A folder that is going away may say anything."""
    sysfs.plug("1-1")
    folder = sysfs.add_disk("1-1", SDA)
    (folder / file).write_text(text)

    assert not tree.disks_at(["1-1"])


def test_plugged_again_it_is_another_disk(sysfs: FakeSysfs, tree: UsbTree) -> None:
    """Names and numbers are used again; the kernel's count is not."""
    seen = []
    for _ in range(2):
        sysfs.plug("1-1")
        sysfs.add_disk("1-1", SDA)
        seen.append(tree.disks_at(["1-1"]))
        sysfs.pull("1-1")
        assert not tree.disks_at(["1-1"])

    assert seen[0] != seen[1]


def test_a_link_that_leads_elsewhere_is_not_followed(
    sysfs: FakeSysfs, tree: UsbTree, tmp_path: Path
) -> None:
    """A port is where the kernel's devices are, or nowhere."""
    other = FakeSysfs(tmp_path / "elsewhere")
    other.plug("1-1")
    other.add_disk("1-1", SDA)
    (sysfs.root / "bus/usb/devices/1-1").symlink_to(other.root / "bus/usb/devices/1-1")

    assert not tree.disks_at(["1-1"])


def test_devices_are_listed_by_port(sysfs: FakeSysfs, tree: UsbTree) -> None:
    """With what they call themselves; interfaces and buses are none."""
    sysfs.plug_hub("1-2")
    sysfs.plug("1-2.10", product="B", serial="2")
    sysfs.plug("1-2.9", product="A", serial="1")

    found = tree.devices()

    assert [(one.port, one.is_hub) for one in found] == [
        ("1-2", True),
        ("1-2.9", False),
        ("1-2.10", False),
    ]
    assert (found[1].untrusted_product, found[1].untrusted_serial) == ("A", "1")


def test_the_other_path_of_a_connector(sysfs: FakeSysfs, tree: UsbTree) -> None:
    """The kernel says which ports are one connector; not all have a pair."""
    sysfs.pair("1-3", "2-1")

    assert tree.peer_of(PortPath("1-3")) == "2-1"
    assert tree.peer_of(PortPath("2-1")) == "1-3"
    assert tree.peer_of(PortPath("1-4")) is None
