"""Recorders as real USB disks, with the file systems that they have, on a real kernel."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.site import Site, SiteOptions
from protocol.messages import BayState
from tests.hardware.kernel import BootFiles
from tests.hardware.recorders import UsbRecorder, blank_exfat, hide_second_clip, recorder
from tests.hardware.station import Station

pytestmark = pytest.mark.timeout(2_400)

# One connector a bay; a recorder shows on one of its two paths.
PORTS = tuple((f"1-{number}", f"2-{number}") for number in range(1, 9))
FREE_PORT = "9"
MIB = 1 << 20


@pytest.fixture(scope="module")
def recorders(tmp_path_factory: pytest.TempPathFactory) -> list[UsbRecorder]:
    root = tmp_path_factory.mktemp("recorders")
    sizes = {3: 24 * MIB, 5: 24 * MIB}
    return [
        recorder(root / str(number), number, clip_bytes=sizes.get(number, MIB))
        for number in range(1, 9)
    ]


@pytest.fixture(scope="module")
def station(boot: BootFiles, folder: Path, recorders: list[UsbRecorder]) -> Iterator[Station]:
    options = SiteOptions(
        bays=len(PORTS), usb_ports=PORTS, read_limit_bytes_s=2 * MIB, reconcile_s=5
    )
    site = Site(folder / "site", [one.registered for one in recorders], options)
    with Station(site, boot, folder) as made:
        made.start()
        yield made


def assert_archived(station: Station, *recorders: UsbRecorder) -> None:
    """Each clip is in the archive, once."""
    archived = station.archived()
    for one in recorders:
        assert {digest: archived.get(digest) for digest in one.digests.values()} == dict.fromkeys(
            one.digests.values(), 1
        )


def test_a_recorder_with_fat32(
    station: Station, recorders: list[UsbRecorder], tmp_path: Path
) -> None:
    """Plugged in, it is read to a receipt; nothing is written to it; pulled, its bay is empty."""
    image = recorders[0].image(tmp_path / "card")
    before = image.read_bytes()
    stick = station.machine.plug(image, "1")

    shown = station.until_state(1, BayState.RELEASABLE)
    mounted = station.machine.sh("grep bayward-mount /proc/mounts")
    times = station.machine.sh("stat -c %Y /run/bayward-mount/bays/1/1/DCIM/100MEDIA/*.MP4").split()
    station.machine.pull(stick)
    station.until_state(1, BayState.EMPTY)

    assert shown["recorder"] == "R-0001"
    assert_archived(station, recorders[0])
    assert " vfat ro,nosuid,nodev,noexec,noatime" in mounted
    written = sorted(path.stat().st_mtime for path in recorders[0].folder.rglob("*.MP4"))
    assert [float(time) for time in times] == written
    assert image.read_bytes() == before
    station.machine.until("! grep -q bayward-mount/bays/1/ /proc/mounts")


def test_a_recorder_with_exfat(
    station: Station, recorders: list[UsbRecorder], tmp_path: Path
) -> None:
    """The same with the file system of larger cards, which the guest's own kernel fills first."""
    image, machine = blank_exfat(tmp_path / "card"), station.machine
    stick = machine.plug(image, FREE_PORT)
    found = machine.until(f"ls -d /sys/bus/usb/devices/[12]-{FREE_PORT}/*/host*/t*/*/block/sd*")
    machine.sh(
        f"mkdir -p /tmp/fill; mount -t exfat /dev/{Path(found.strip()).name} /tmp/fill;"
        f" cp -a {recorders[1].folder}/DCIM /tmp/fill; umount /tmp/fill"
    )
    machine.pull(stick)

    stick = machine.plug(image, "2")
    shown = station.until_state(2, BayState.RELEASABLE)
    mounted = machine.sh("grep bayward-mount /proc/mounts")
    machine.pull(stick)

    assert shown["recorder"] == "R-0002"
    assert " exfat ro,nosuid,nodev,noexec,noatime" in mounted
    assert_archived(station, recorders[1])


def test_pulled_in_mid_copy_and_docked_in_another_bay(
    station: Station, recorders: list[UsbRecorder], tmp_path: Path
) -> None:
    """What was read before is not read again, and everything is archived once."""
    image, machine = recorders[2].image(tmp_path / "card"), station.machine
    stick = machine.plug(image, "3")
    station.until(3, "bay['bytes_done'] > 4 << 20")
    machine.pull(stick)
    station.until_state(3, BayState.EMPTY)
    machine.plug(image, "4")
    shown = station.until_state(4, BayState.RELEASABLE)

    assert shown["recorder"] == "R-0003"
    assert_archived(station, recorders[2])


def test_a_recorder_behind_a_hub(
    station: Station, recorders: list[UsbRecorder], tmp_path: Path
) -> None:
    """What hangs on a hub in the bay is in the bay; an ext4 is read without its journal."""
    station.machine.plug_device("usb-hub", "5")
    station.machine.plug(recorders[3].ext4_image(tmp_path / "card"), "5.2")
    station.until_state(5, BayState.RELEASABLE)

    assert "norecovery" in station.machine.sh("grep bayward-mount/bays/5 /proc/mounts")
    assert_archived(station, recorders[3])


def test_what_is_no_recorder(station: Station, tmp_path: Path) -> None:
    """A keyboard leaves its bay empty; a disk without a file system asks for a person."""
    blank = tmp_path / "blank"
    blank.write_bytes(bytes(1 << 20))
    station.machine.plug_device("usb-kbd", "6")
    station.machine.plug(blank, "7")

    shown = station.until_state(7, BayState.ATTENTION)

    assert shown["problem"] == "E-MNT-101"
    assert station.bay(6)["state"] == "empty"


def test_a_file_that_hides_behind_another(
    station: Station, recorders: list[UsbRecorder], tmp_path: Path
) -> None:
    """Of two names that are one to the kernel one clip is never read: it is not released."""
    image = recorders[7].image(tmp_path / "card")
    hide_second_clip(image)
    station.machine.plug(image, "8")

    shown = station.until_state(8, BayState.ATTENTION)
    listed = station.machine.sh("ls /run/bayward-mount/bays/8/1/DCIM/100MEDIA")

    assert shown["problem"] == "F-INV-007"
    assert len({name.casefold() for name in listed.split()}) == 1
    assert len(listed.split()) == 2
