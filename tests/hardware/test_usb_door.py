"""The USB door at a real kernel: rogue devices, recorders, and devices that change their word."""

import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.site import Site, SiteOptions
from protocol.messages import BayState
from tests.hardware.kernel import BootFiles, module_files
from tests.hardware.machine import Machine
from tests.hardware.recorders import UsbRecorder, recorder
from tests.hardware.station import GUARD_SOCKET, Station

pytestmark = pytest.mark.timeout(1_200)

MIB = 1 << 20
# One connector a bay, a path for each speed; the last one is where the kernel's own gadget is.
GADGET = "3-1"
PORTS = (*((f"1-{number}", f"2-{number}") for number in range(1, 6)), (GADGET,))
GUARD = """
[guard]
interfaces = ["eth0"]
networks = ["192.168.10.0/24"]
socket = "/run/bayward-guard/guard.sock"

[[guard.usb.models]]
name = "recorder"
vendor = "46f4"
product = "0001"
serials = ["A8-*"]

[[guard.usb.models]]
name = "recorder's serial port"
vendor = "0403"
product = "6001"
interfaces = ["serial"]
"""
# What an installed Debian loads by itself; and a device that is made of software.
MODULES = ("nf_tables", "nft_objref", "nft_ct")
GADGET_MODULES = ("dummy_hcd", "libcomposite", "usb_f_mass_storage", "usb_f_ecm")


@pytest.fixture(scope="module")
def recorders(tmp_path_factory: pytest.TempPathFactory) -> list[UsbRecorder]:
    root = tmp_path_factory.mktemp("recorders")
    return [recorder(root / str(number), number, clip_bytes=MIB) for number in (1, 2)]


@pytest.fixture(scope="module")
def station(
    boot: BootFiles,
    folder: Path,
    recorders: list[UsbRecorder],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Station]:
    """Return a dock that was switched on with a keyboard and a stranger's stick plugged in."""
    options = SiteOptions(bays=len(PORTS), usb_ports=PORTS, reconcile_s=5)
    site = Site(folder / "site", [one.registered for one in recorders], options)
    with Station(site, boot, folder, guard=GUARD) as made:
        machine = made.machine
        machine.plug_device("usb-kbd", "6")
        machine.plug(_blank(tmp_path_factory.mktemp("blank")), "5", serial="stranger")
        machine.until("ls -d /sys/bus/usb/devices/1-6:1.0/driver && ls -d /sys/block/sd*")
        _load(machine, *MODULES)
        # The machine whose files these are may ask whom it likes.
        machine.sh("echo >/etc/resolv.conf; mkdir -p /run/bayward-guard")
        made.start()
        made.start_edge_guard()
        yield made


def _blank(folder: Path) -> Path:
    image = folder / "blank"
    image.write_bytes(bytes(MIB))
    return image


def _load(machine: Machine, *names: str) -> None:
    machine.sh("; ".join(f"busybox insmod {file} || true" for file in module_files(*names)))


def until_word(station: Station, condition: str) -> dict[str, Any]:
    """Return what edge-guard says as soon as a condition holds: in Python, of ``word`` and ``usb``.

    ``usb`` has what is plugged in, by its port.
    """
    ran = station.machine.run(sys.executable, "-c", _WAIT, GUARD_SOCKET, condition)
    assert ran.status == 0, f"{condition}: {ran.out}{ran.err}\n{station.logs()}"
    found: dict[str, Any] = json.loads(ran.out)
    return found


_WAIT = """
import json, socket, sys
with socket.socket(socket.AF_UNIX) as line:
    line.connect(sys.argv[1])
    with line.makefile("rb") as file:
        for told in file:
            word = json.loads(told)
            usb = {one["port"]: one for one in word["door"].get("present", [])}
            if eval(sys.argv[2]):
                print(told.decode())
                break
        else:
            sys.exit("edge-guard has gone")
"""


def until_refused(station: Station, port: str) -> str:
    """Return why what is plugged in at a port is refused, when it is."""
    word = until_word(station, f"{port!r} in usb and not usb[{port!r}]['let_in']")
    [because] = [one["because"] for one in word["door"]["present"] if one["port"] == port]
    return str(because)


def until_incident(station: Station, code: str, subject: str) -> str:
    """Return the text of a breach, when there is one of a code about something."""
    known = f"(one['code'], one['subject'].split()[0]) == ({code!r}, {subject!r})"
    word = until_word(station, f"any({known} for one in word.get('incident', []))")
    return str(next(one["text"] for one in word["incident"] if subject in one["subject"]))


def until_driven(station: Station, interface: str) -> str:
    """Return the driver that an interface has, as soon as it has one."""
    path = f"/sys/bus/usb/devices/{interface}/driver"
    return station.machine.until(f"test -e {path} && basename $(readlink {path})").strip()


def pull(station: Station, name: str, port: str) -> None:
    """Pull a device out, and wait until the kernel knows."""
    station.machine.pull(name)
    station.machine.until(f"! test -e /sys/bus/usb/devices/{port}")


def assert_never_let_in(station: Station, port: str) -> None:
    """It is there and is not used, has no interfaces, and the kernel never let it in."""
    machine = station.machine
    assert machine.sh(f"cat /sys/bus/usb/devices/{port}/authorized").strip() == "0"
    assert not machine.sh(f"ls -d /sys/bus/usb/devices/{port}:* 2>/dev/null || true")
    number = machine.sh(f"cat /sys/bus/usb/devices/{port}/devnum").strip()
    seen = machine.sh(f"dmesg | grep -F 'usb {port}:' | tail -n 20")
    since = seen.rpartition(f"device number {number} ")[2]
    assert "authorized to connect" not in since, seen


def test_what_was_there_before_the_guard(station: Station) -> None:
    """A keyboard and a stranger's stick, let in by the kernel at boot, are shut out and told."""
    keyboard = until_incident(station, "E-ISO-122", "1-6")
    stick = until_incident(station, "E-ISO-122", "2-5")

    assert "no bay's port" in keyboard
    assert "is none of recorder" in stick
    for port in ("1-6", "2-5"):
        machine = station.machine
        assert machine.sh(f"cat /sys/bus/usb/devices/{port}/authorized").strip() == "0"
        assert not machine.sh(f"ls -d /sys/bus/usb/devices/{port}:* 2>/dev/null || true")
    assert set(station.machine.sh("cat /sys/bus/usb/devices/usb*/*authorized_default").split()) == {
        "0"
    }


def test_a_recorder(station: Station, recorders: list[UsbRecorder], tmp_path: Path) -> None:
    """It is let in, driven as a disk, read to a receipt, and pulled."""
    stick = station.machine.plug(recorders[0].image(tmp_path / "card"), "1", serial="A8-1")
    station.until_state(1, BayState.RELEASABLE)
    status = station.machine.run(*station.guard("status"))
    driver = until_driven(station, "2-1:1.0")
    explained = station.machine.run(*station.guard("explain", "--usb", "2-1"))
    station.machine.pull(stick)
    station.until_state(1, BayState.EMPTY)

    archived = station.archived()
    assert all(archived.get(digest) == 1 for digest in recorders[0].digests.values())
    assert re.search(r"✓ USB 2-1: 46f4:0001 .*A8-1.* is let in: it fits recorder", status.out)
    assert driver == "usb-storage"
    assert (explained.status, "it fits recorder" in explained.out) == (0, True)


@pytest.mark.parametrize(
    ("driver", "facts"),
    [
        ("usb-net", {"netdev": "rogue"}),
        ("usb-kbd", {}),
        pytest.param("usb-ccid", {}, marks=pytest.mark.beyond_ci),
        pytest.param("usb-mtp", {"rootdir": "/usr/share/doc"}, marks=pytest.mark.beyond_ci),
        pytest.param("usb-wacom-tablet", {}, marks=pytest.mark.beyond_ci),
    ],
)
def test_a_rogue_in_a_bay(station: Station, driver: str, facts: dict[str, str]) -> None:
    """A network adapter, a keyboard, a card reader, a telephone: seen, told and never used."""
    rogue = station.machine.plug_device(driver, "2", **facts)
    because = until_refused(station, "1-2")
    explained = station.machine.run(*station.guard("explain", "--usb", "1-2"))
    assert_never_let_in(station, "1-2")
    pull(station, rogue, "1-2")

    assert "no model that may come in is" in because
    assert (explained.status, "is refused" in explained.out) == (3, True)


@pytest.mark.beyond_ci
def test_a_strangers_stick(station: Station, tmp_path: Path) -> None:
    """The same make as the recorders with a serial number that is none of theirs: no disk of it."""
    stick = station.machine.plug(_blank(tmp_path), "2", serial="B8-1")
    because = until_refused(station, "2-2")
    assert_never_let_in(station, "2-2")
    pull(station, stick, "2-2")

    assert because == "its serial number 'B8-1' is none of recorder"


@pytest.mark.beyond_ci
def test_the_archive_is_told(station: Station) -> None:
    """Of what was refused and of what was shut out, as of any other alert."""
    catalogue = station.site.root / "server/catalogue.sqlite"
    ask = (
        "import sqlite3, sys; rows = sqlite3.connect(sys.argv[1], uri=True).execute("
        "'SELECT code FROM alerts').fetchall(); print(*sorted({code for code, in rows}));"
        " sys.exit(('E-ISO-122',) not in rows)"
    )
    command = shlex.join((sys.executable, "-c", ask, f"file:{catalogue}?mode=ro"))

    assert "E-ISO-122" in station.machine.until(command)


@pytest.mark.beyond_ci
def test_a_serial_port(station: Station) -> None:
    """A recorder's, of a registered number: it is driven, and has a terminal."""
    ours, theirs = os.openpty()
    try:
        station.machine.plug_serial(Path(os.ttyname(theirs)), "4")
        assert until_driven(station, "1-4:1.0") == "ftdi_sio"
        station.machine.until("ls /sys/class/tty/ttyUSB0")
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.beyond_ci
def test_one_disk_a_bay(station: Station, tmp_path: Path) -> None:
    """Behind a hub in a bay the first one is in; the second one, when the first has left."""
    machine = station.machine
    machine.plug_device("usb-hub", "3")
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    first = machine.plug(_blank(tmp_path / "1"), "3.1", serial="A8-31")
    assert until_driven(station, "1-3.1:1.0") == "usb-storage"
    machine.plug(_blank(tmp_path / "2"), "3.2", serial="A8-32")
    because = until_refused(station, "1-3.2")
    assert_never_let_in(station, "1-3.2")
    machine.pull(first)

    assert because == "bay 3 has a disk already, at 1-3.1"
    assert until_driven(station, "1-3.2:1.0") == "usb-storage"


@pytest.mark.beyond_ci
def test_killed_while_things_are_plugged_in(
    station: Station, recorders: list[UsbRecorder], tmp_path: Path
) -> None:
    """The kernel lets nothing in meanwhile; the next guard lets in the recorder, and it alone."""
    machine = station.machine
    machine.sh("kill -9 $(pgrep -f '[e]dge-guard .* run')")
    stick = machine.plug(recorders[1].image(tmp_path / "card"), "1", serial="A8-2")
    rogue = machine.plug_device("usb-kbd", "2")
    for port in ("2-1", "1-2"):
        machine.until(f"grep 0 /sys/bus/usb/devices/{port}/authorized")
    station.start_edge_guard()
    station.until_state(1, BayState.RELEASABLE)
    until_refused(station, "1-2")
    assert_never_let_in(station, "1-2")
    pull(station, stick, "2-1")
    pull(station, rogue, "1-2")
    station.until_state(1, BayState.EMPTY)

    archived = station.archived()
    assert all(archived.get(digest) == 1 for digest in recorders[1].digests.values())


@pytest.mark.beyond_ci
def test_a_technicians_port(station: Station) -> None:
    """Opened for a while a keyboard works there; closed again it does not. Both are shown."""
    machine = station.machine
    machine.plug_device("usb-kbd", "7")
    until_refused(station, "1-7")
    machine.sh(shlex.join(station.guard("open-port", "--minutes", "30", "1-7")))
    driver = until_driven(station, "1-7:1.0")
    shown = until_word(station, "word['door'].get('open_ports')")
    machine.sh(shlex.join(station.guard("open-port", "--minutes", "0", "1-7")))
    machine.until("grep 0 /sys/bus/usb/devices/1-7/authorized")
    until_word(station, "not word['door'].get('open_ports') and not usb['1-7']['let_in']")

    assert driver == "usbhid"
    assert [(one["port"], one["by"]) for one in shown["door"]["open_ports"]] == [("1-7", "root")]


@pytest.fixture(scope="module")
def gadget(station: Station) -> Station:
    """Return the station with a controller that came late, and a device that root makes up."""
    machine = station.machine
    _load(machine, *GADGET_MODULES)
    defaults = "/sys/bus/usb/devices/usb3/*authorized_default"
    machine.until(f"ls {defaults} && ! grep -v 0 {defaults}")
    machine.sh(_MAKE)
    return station


# A recorder by all its numbers; what it has besides is linked and unlinked.
_MAKE = """
mount -t configfs none /sys/kernel/config
g=/sys/kernel/config/usb_gadget/g1; mkdir $g; cd $g
echo 0x46f4 >idVendor; echo 0x0001 >idProduct
mkdir strings/0x409; echo A8-9 >strings/0x409/serialnumber; echo recorder >strings/0x409/product
mkdir functions/mass_storage.0 functions/ecm.0 configs/c.1
truncate -s 1M /run/lun; echo /run/lun >functions/mass_storage.0/lun.0/file
ln -s functions/mass_storage.0 configs/c.1/
"""
_RECORDER = "echo >UDC || true; rm -f configs/c.1/ecm.0; ls /sys/class/udc >UDC;"
_ADAPTER = (
    "echo >UDC || true; rm -f configs/c.1/ecm.0; ln -s functions/ecm.0 configs/c.1/;"
    " ls /sys/class/udc >UDC;"
)


def become(gadget: Station, script: str) -> None:
    """Have the device leave and come back, as another one."""
    gadget.machine.sh(f"cd /sys/kernel/config/usb_gadget/g1; {script}")


@pytest.mark.beyond_ci
def test_a_disk_that_is_a_network_adapter_too(gadget: Station) -> None:
    """It is refused whole: neither its disk nor its network is ever driven."""
    become(gadget, _ADAPTER)
    because = until_refused(gadget, GADGET)
    assert_never_let_in(gadget, GADGET)

    assert because == "interface 02/06/00 (a modem or network adapter) is not for storage"


@pytest.mark.beyond_ci
def test_a_device_that_changes_its_word(gadget: Station) -> None:
    """Again and again a recorder is let in and comes back with a network adapter."""
    # What root let in before, in another test, is said there.
    already = len(gadget.machine.sh("dmesg").splitlines())
    for _ in range(5):
        become(gadget, _RECORDER)
        assert until_driven(gadget, f"{GADGET}:1.0") == "usb-storage"
        become(gadget, _ADAPTER)
    # As fast as it can, whatever the guard is doing.
    become(gadget, f"for n in $(seq 20); do {_RECORDER} {_ADAPTER} done; {_RECORDER}")
    assert until_driven(gadget, f"{GADGET}:1.0") == "usb-storage"
    become(gadget, _ADAPTER)
    until_refused(gadget, GADGET)
    assert_never_let_in(gadget, GADGET)

    said = gadget.machine.sh("dmesg").splitlines()[already:]
    assert [line for line in said if f"cdc_ether {GADGET}" in line] == []


@pytest.mark.beyond_ci
def test_what_root_lets_in(gadget: Station) -> None:
    """A device, or all that come: it is shut out again, and the rule was broken."""
    machine = gadget.machine
    become(gadget, _ADAPTER)
    until_refused(gadget, GADGET)
    machine.sh(f"echo 1 >/sys/bus/usb/devices/{GADGET}/authorized")
    until_incident(gadget, "E-ISO-122", GADGET)
    machine.until(f"grep 0 /sys/bus/usb/devices/{GADGET}/authorized")
    machine.sh("echo 1 >/sys/bus/usb/devices/usb3/authorized_default")
    until_incident(gadget, "E-ISO-123", "usb3/authorized_default")
    machine.until("grep 0 /sys/bus/usb/devices/usb3/authorized_default")

    assert machine.run(*gadget.guard("status")).status == 0
