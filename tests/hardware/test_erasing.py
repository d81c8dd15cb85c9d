"""Footage that is archived leaves recorders at real USB, with the file systems that they have."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.site import Site, SiteOptions
from protocol.messages import BayState
from tests.hardware.kernel import BootFiles
from tests.hardware.recorders import UsbRecorder, blank_exfat, names_on, recorder
from tests.hardware.station import Station

pytestmark = pytest.mark.timeout(2_400)

PORTS = tuple((f"1-{number}", f"2-{number}") for number in range(1, 5))
FREE_PORT = "8"
MIB = 1 << 20
LOG = "LOG/20261120.log"


@pytest.fixture(scope="module")
def recorders(tmp_path_factory: pytest.TempPathFactory) -> list[UsbRecorder]:
    root = tmp_path_factory.mktemp("recorders")
    sizes = {3: 24 * MIB, 4: 24 * MIB}
    made = [
        recorder(root / str(number), number, clip_bytes=sizes.get(number, MIB))
        for number in range(1, 5)
    ]
    for one in made:
        (one.folder / "LOG").mkdir()
        (one.folder / LOG).write_text("switched on\n")
    return made


@pytest.fixture(scope="module")
def station(boot: BootFiles, folder: Path, recorders: list[UsbRecorder]) -> Iterator[Station]:
    options = SiteOptions(bays=len(PORTS), usb_ports=PORTS, reconcile_s=5, erases=True)
    site = Site(folder / "site", [one.registered for one in recorders], options)
    with Station(site, boot, folder) as made:
        made.start()
        yield made


def until_erased(station: Station, bay: int, files: int) -> None:
    station.until(bay, f"bay['state'] == 'releasable' and bay['erased_files'] == {files}")


def assert_archived(station: Station, one: UsbRecorder) -> None:
    """Each clip is in the archive, once."""
    archived = station.archived()
    assert {digest: archived.get(digest) for digest in one.digests.values()} == dict.fromkeys(
        one.digests.values(), 1
    )


def test_a_recorder_with_fat32(
    station: Station, recorders: list[UsbRecorder], tmp_path: Path
) -> None:
    """Its clips are gone and in the archive, its log is there; nothing more can be written."""
    image = recorders[0].image(tmp_path / "card")
    stick = station.machine.plug(image, "1")
    until_erased(station, 1, 2)
    mounted = station.machine.sh("grep bayward-mount/ /proc/mounts; cat /sys/block/sda/ro")
    station.machine.pull(stick)
    station.until_state(1, BayState.EMPTY)

    assert_archived(station, recorders[0])
    assert names_on(image) == [LOG]
    assert " vfat ro,nosuid,nodev,noexec,noatime" in mounted
    assert "/erasing/" not in mounted
    assert mounted.splitlines()[-1] == "1"


def test_a_recorder_with_exfat(
    station: Station, recorders: list[UsbRecorder], tmp_path: Path
) -> None:
    """The same, on a file system that the guest's own kernel made its files on."""
    image, machine = blank_exfat(tmp_path / "card"), station.machine
    stick = machine.plug(image, FREE_PORT)
    found = machine.until(f"ls -d /sys/bus/usb/devices/[12]-{FREE_PORT}/*/host*/t*/*/block/sd*")
    machine.sh(
        f"mkdir -p /tmp/fill; mount -t exfat /dev/{Path(found.strip()).name} /tmp/fill;"
        f" cp -a {recorders[1].folder}/DCIM {recorders[1].folder}/LOG /tmp/fill; umount /tmp/fill"
    )
    machine.pull(stick)

    stick = machine.plug(image, "2")
    until_erased(station, 2, 2)
    left = machine.sh("cd /run/bayward-mount/bays/2/1; find . -type f")
    machine.pull(stick)

    assert left.split() == [f"./{LOG}"]
    assert_archived(station, recorders[1])


def test_pulled_while_it_is_erased(
    station: Station, recorders: list[UsbRecorder], tmp_path: Path
) -> None:
    """Each clip is there whole or gone; docked again, the rest goes."""
    one, image = recorders[2], recorders[2].image(tmp_path / "card")
    stick = station.machine.plug(image, "3")
    station.until(3, "bay['state'] == 'erasing'")
    station.machine.pull(stick)
    station.until_state(3, BayState.EMPTY)
    left = names_on(image)
    stick = station.machine.plug(image, "3")
    until_erased(station, 3, len(left) - 1)
    station.machine.pull(stick)
    station.until_state(3, BayState.EMPTY)

    assert LOG in left
    assert names_on(image) == [LOG]
    assert_archived(station, one)


def test_edge_mount_killed_while_it_erases(
    station: Station, recorders: list[UsbRecorder], tmp_path: Path
) -> None:
    """Started anew it leaves nothing that can be written to; the recorder may be taken."""
    image = recorders[3].image(tmp_path / "card")
    stick = station.machine.plug(image, "4")
    station.until(4, "bay['state'] == 'erasing'")
    station.machine.sh("pkill --signal KILL --full bin/[e]dge-mount")
    station.start_edge_mount()
    shown = station.until_state(4, BayState.RELEASABLE)
    left = station.machine.sh("grep bayward-mount/ /proc/mounts || true; cat /sys/block/sda/ro")
    station.machine.pull(stick)
    station.until_state(4, BayState.EMPTY)
    stick = station.machine.plug(image, "4")
    station.until(4, "bay['state'] == 'releasable' and not bay['problem']")
    station.machine.pull(stick)
    station.until_state(4, BayState.EMPTY)

    # A machine that is fast has it erased before the signal comes.
    assert shown.get("problem") in {None, "E-MNT-107"}
    # The agent had it mounted again, to know that nobody can write to it.
    assert " vfat ro,nosuid,nodev,noexec,noatime" in left
    assert "/erasing/" not in left
    assert left.splitlines()[-1] == "1"
    assert names_on(image) == [LOG]
    assert_archived(station, recorders[3])
