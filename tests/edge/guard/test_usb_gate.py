"""The door at work, on a sysfs of files that answers as the kernel does."""

import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge_agent.adapters.usb_gate import Looked, UsbGate
from edge_agent.adapters.usb_openings import MOST_MINUTES, Openings
from edge_agent.guard.breaches import Kind
from edge_agent.guard.messages import ToldUsb, encode, parse, word_of
from edge_agent.guard.state import begin
from edge_agent.guard.usb_door import BayPorts, DoorPolicy
from edge_agent.mounting.port_paths import PortPath
from tests.simulators.usb_kernel import (
    ADAPTER,
    DISK,
    DISK_AND_ADAPTER,
    HUB_OF_FOUR,
    KEYBOARD,
    KEYS,
    SERIAL_PORT,
    STORAGE,
    VENDOR,
    FakeUsbKernel,
    descriptors,
)

NOW = datetime(2026, 11, 27, 8, 0, tzinfo=UTC)
POLICY = DoorPolicy(
    bays=(
        BayPorts(bay=1, ports=(PortPath("1-1"), PortPath("2-1"))),
        BayPorts(bay=2, ports=(PortPath("1-2.2"),)),
    ),
    own_ports=(PortPath("1-7"),),
)


@dataclass
class Door:
    """A machine, and what keeps its door; each look is two seconds after the one before."""

    kernel: FakeUsbKernel
    folder: Path
    gate: UsbGate
    now: datetime = NOW

    def look(self, *, enforced: bool = True) -> Looked:
        self.now += timedelta(seconds=2)
        return self.gate.look(self.now, enforced=enforced)

    def settle(self) -> list[Kind]:
        """Look until nothing more comes of it; return what was found."""
        looks = [self.look() for _ in range(6)]
        assert not looks[-1].left
        return [breach.kind for one in looks for breach in one.found]

    def restart(self) -> None:
        """Kill it, and start another one."""
        self.gate = UsbGate(
            POLICY, Openings(self.folder), root=self.kernel.root, write=self.kernel.write
        )

    def told(self, port: str) -> ToldUsb:
        [found] = [one for one in self.gate.told.present if one.port == port]
        return found

    def open(self, port: str, minutes: int) -> None:
        Openings(self.folder).open(PortPath(port), minutes=minutes, by="root", now=self.now)


@pytest.fixture
def door(tmp_path: Path) -> Door:
    kernel = FakeUsbKernel(tmp_path / "sys")
    gate = UsbGate(POLICY, Openings(tmp_path / "open"), root=kernel.root, write=kernel.write)
    return Door(kernel=kernel, folder=tmp_path / "open", gate=gate)


def test_a_disk_in_a_bay(door: Door) -> None:
    """It is let in, and driven as a disk; that is no breach."""
    door.settle()
    door.kernel.plug("1-1")
    found = door.settle()

    assert (found, door.kernel.drivers("1-1")) == ([], ["usb-storage"])
    assert door.told("1-1").because == "it fits any mass storage"
    assert door.kernel.defaults() == {"0"}


@pytest.mark.parametrize("said", [ADAPTER, KEYS, DISK_AND_ADAPTER, DISK[:-3], b""])
def test_a_stranger_in_a_bay(door: Door, said: bytes) -> None:
    """It is never used, not for a moment; it is told and counted; nothing was broken."""
    door.settle()
    let_in: list[str] = []
    door.kernel.on_authorized = let_in.append
    door.kernel.plug("1-1", said, name="\x1b[2J\n✗", serial="x" * 200)
    found = door.settle()

    assert (found, let_in, door.kernel.is_authorized("1-1")) == ([], [], False)
    told = door.told("1-1")
    assert (told.let_in, told.bay, told.name.isprintable()) == (False, 1, True)
    assert [one.device for one in door.gate.told.refused] == [told]
    assert door.gate.told.refusals == 1
    word = word_of(begin(NOW), enforced=True, table_sha256=None, door=door.gate.told)
    assert parse(encode(word).rstrip(b"\n")) == word


def test_what_was_in_before_is_shut_out(door: Door) -> None:
    """Whatever came before the guard: it is a breach, and shut. What may be in stays in."""
    door.kernel.plug("1-1", DISK)
    door.kernel.plug("1-3", KEYS)
    door.kernel.plug("1-7", KEYS)
    found = door.look()

    assert [one.kind for one in found.found] == [Kind.FOREIGN_USB]
    assert found.left == ()
    assert "0627:0001" in found.found[0].text
    assert [door.kernel.is_authorized(port) for port in ("1-1", "1-3", "1-7")] == [
        True,
        False,
        True,
    ]
    assert door.kernel.drivers("1-1") == ["usb-storage"]


def test_a_wrong_driver_is_shut_out(door: Door) -> None:
    """Drivers of network adapters go by numbers, too: a disk that one of them has is none."""
    door.kernel.plug("1-1", DISK)
    driver = door.kernel.devices / "1-1/1-1:1.0/driver"
    driver.unlink()
    driver.symlink_to(door.kernel.bus / "drivers/r8152")
    found = door.settle()

    assert found == [Kind.FOREIGN_USB]
    assert not door.kernel.is_authorized("1-1")
    assert door.told("1-1").because == "interface 08/06/50 has the driver r8152"


def test_swapped_while_it_is_let_in(door: Door) -> None:
    """What comes in a device's place is another device; it is not let in for it."""
    door.settle()
    door.kernel.plug("1-1", DISK)
    door.kernel.on_authorized = lambda port: door.kernel.swap(port, ADAPTER)
    door.look()
    door.kernel.on_authorized = lambda _port: None
    found = door.settle()

    assert (found, door.kernel.is_authorized("1-1")) == ([], False)
    assert door.told("1-1").ids == "0525:a4a2"


def test_changed_while_it_is_let_in(door: Door) -> None:
    """The same device that says something else now is put out, and stays out until it is pulled."""

    def change(port: str) -> None:
        (door.kernel.devices / port / "descriptors").write_bytes(DISK_AND_ADAPTER)

    door.settle()
    door.kernel.plug("1-1", DISK)
    door.kernel.on_authorized = change
    door.look()
    assert not door.kernel.is_authorized("1-1")
    assert not [name for name in door.kernel.asked if "drivers" in name or ":" in name]
    (door.kernel.devices / "1-1/descriptors").write_bytes(DISK)
    door.kernel.on_authorized = lambda _port: None
    door.settle()

    assert not door.kernel.is_authorized("1-1")
    assert door.told("1-1").because == "it changed while it was let in"
    door.kernel.swap("1-1", DISK)
    door.settle()
    assert door.kernel.drivers("1-1") == ["usb-storage"]


@pytest.mark.parametrize("name", ["serial", "product"])
def test_another_name_while_it_is_let_in(door: Door, name: str) -> None:
    """A serial number that was right until then is no better than other descriptors."""
    door.settle()
    door.kernel.plug("1-1", DISK)

    def change(port: str) -> None:
        (door.kernel.devices / port / name).write_text("another\n")

    door.kernel.on_authorized = change
    door.look()

    assert not door.kernel.is_authorized("1-1")
    assert door.told("1-1").because == "it changed while it was let in"


def test_killed_it_leaves_the_door_shut(door: Door) -> None:
    """What comes meanwhile waits; the next one lets it in or not, and what is in stays in."""
    door.settle()
    door.kernel.plug("1-1", DISK)
    door.settle()
    door.kernel.plug("1-2", HUB_OF_FOUR)
    door.kernel.plug("1-3", KEYS)
    assert [door.kernel.is_authorized(one) for one in ("1-1", "1-2", "1-3")] == [True, False, False]
    door.restart()

    assert door.settle() == []
    assert [door.kernel.is_authorized(one) for one in ("1-1", "1-2", "1-3")] == [True, True, False]
    assert door.kernel.drivers("1-1") == ["usb-storage"]


def test_killed_while_it_let_something_in(door: Door) -> None:
    """A device that is in and has no driver yet gets it from the next one."""
    door.settle()
    door.kernel.plug("1-1", SERIAL_PORT)
    door.kernel.authorize("1-1")
    assert door.kernel.drivers("1-1") == [None]
    door.restart()
    door.settle()

    assert door.kernel.drivers("1-1") == ["ftdi_sio"]


def test_a_driver_that_comes_late(door: Door) -> None:
    """An interface without a driver stays shut; it is tried again when the driver is there."""
    bind = door.kernel.bus / "drivers/ftdi_sio/bind"
    bind.rename(bind.with_name("later"))
    door.settle()
    door.kernel.plug("1-1", SERIAL_PORT)
    door.look()
    door.look()
    assert door.kernel.drivers("1-1") == [None]
    assert (door.kernel.devices / "1-1/1-1:1.0/authorized").read_text() == "0\n"
    bind.with_name("later").rename(bind)
    door.look()

    assert door.kernel.drivers("1-1") == ["ftdi_sio"]


def test_behind_a_hub(door: Door) -> None:
    """The hub is let in first; then what hangs on it is looked at."""
    door.settle()
    door.kernel.plug("1-2", HUB_OF_FOUR)
    door.settle()
    door.kernel.plug("1-2.1", DISK)
    door.kernel.plug("1-2.2", DISK)
    door.settle()

    assert door.kernel.drivers("1-2") == ["hub"]
    assert [door.kernel.is_authorized(one) for one in ("1-2.1", "1-2.2")] == [False, True]


def test_one_disk_a_bay(door: Door) -> None:
    """A second one waits, refused, until the first one has left."""
    door.settle()
    door.kernel.plug("2-1", DISK)
    door.settle()
    door.kernel.plug("1-1", DISK)
    door.settle()
    assert not door.kernel.is_authorized("1-1")
    door.kernel.pull("2-1")
    door.settle()

    assert door.kernel.is_authorized("1-1")


def test_one_device_a_look(door: Door) -> None:
    """One that does not answer holds up no more than one look."""
    door.settle()
    door.kernel.plug("1-2", HUB_OF_FOUR)
    door.kernel.plug("1-1", DISK)
    door.look()

    assert [door.kernel.is_authorized(one) for one in ("1-1", "1-2")] == [True, False]


def test_ports_that_are_opened_behind_our_back(door: Door) -> None:
    """They are shut again, and what came in meanwhile with them."""
    door.settle()
    (door.kernel.devices / "usb1/authorized_default").write_text("1\n")
    door.kernel.plug("1-5", ADAPTER)
    found = door.settle()

    assert set(found) == {Kind.USB_OPEN, Kind.FOREIGN_USB}
    assert door.kernel.defaults() == {"0"}
    assert not door.kernel.is_authorized("1-5")


def test_what_cannot_be_shut_is_left(door: Door) -> None:
    """A kernel that does not take the word leaves a breach open."""
    door.settle()
    (door.kernel.devices / "usb2/authorized_default").write_text("2\n")
    door.kernel.plug("2-4", KEYS)
    door.kernel.refuses = OSError(5, "Input/output error")
    looked = door.look()

    assert {one.kind for one in looked.left} == {Kind.USB_OPEN, Kind.FOREIGN_USB}


def test_a_kernel_that_lets_nothing_in(door: Door) -> None:
    """The device is told as refused, and tried again, not for ever."""
    door.settle()
    door.kernel.refuses = OSError(71, "Protocol error")
    door.kernel.plug("1-1", DISK)
    door.look()
    assert door.told("1-1").because == "the kernel does not let it in: Protocol error"
    for _ in range(30):
        door.look()

    assert door.kernel.asked.count("authorized") == 20  # ten tries, and ten times shut again
    assert (door.gate.told.refusals, door.told("1-1").let_in) == (1, False)


def test_a_kernel_that_lets_it_in_later(door: Door) -> None:
    """A device that the kernel did not take at first is in as soon as it does."""
    door.settle()
    door.kernel.refuses = OSError(71, "Protocol error")
    door.kernel.plug("1-1", DISK)
    door.look()
    door.kernel.refuses = None
    door.look()

    assert door.told("1-1").let_in
    assert door.kernel.drivers("1-1") == ["usb-storage"]


def test_a_clock_that_is_set_back(door: Door) -> None:
    """A device that was tried a moment ago does not wait for a year."""
    door.settle()
    door.kernel.refuses = OSError(71, "Protocol error")
    door.kernel.plug("1-1", DISK)
    door.look()
    door.kernel.refuses = None
    door.now -= timedelta(days=365)
    door.look()

    assert door.told("1-1").let_in


def test_a_look_that_changes_nothing(door: Door) -> None:
    """It says what it would do."""
    door.kernel.plug("1-1", DISK)
    door.kernel.plug("1-3", KEYS)
    looked = door.look(enforced=False)

    assert {one.kind for one in looked.left} == {Kind.USB_OPEN, Kind.FOREIGN_USB}
    assert door.kernel.is_authorized("1-3")
    assert door.kernel.defaults() == {"1"}


def test_a_port_that_is_opened_for_a_while(door: Door) -> None:
    """Everything comes in there until the time is up; then it is shut, which is no breach."""
    door.settle()
    door.kernel.plug("1-3", KEYS)
    door.settle()
    assert not door.kernel.is_authorized("1-3")
    door.open("1-3", 30)
    door.settle()
    assert door.kernel.drivers("1-3") == ["usbhid"]
    assert [one.port for one in door.gate.told.open_ports] == ["1-3"]
    door.open("1-3", 0)
    found = door.settle()

    assert (found, door.kernel.is_authorized("1-3")) == ([], False)
    assert (door.gate.told.open_ports, list(door.folder.iterdir())) == ((), [])


def test_a_hub_at_a_port_that_is_opened_for_a_while(door: Door) -> None:
    """What hangs on it is shut out with it, and is no breach either."""
    door.settle()
    door.open("1-3", 30)
    door.kernel.plug("1-3", HUB_OF_FOUR)
    door.settle()
    door.kernel.plug("1-3.2", KEYS)
    door.settle()
    assert door.kernel.drivers("1-3.2") == ["usbhid"]
    door.open("1-3", 0)

    assert door.settle() == []
    assert not door.kernel.is_authorized("1-3")


def test_who_only_looks_takes_no_opening_away(door: Door) -> None:
    """That a port was opened is still to be known by who keeps the door."""
    door.open("1-3", 0)
    door.look(enforced=False)

    assert [one.port for one in Openings(door.folder).read()] == ["1-3"]


def test_an_opening_lasts_by_the_clock_of_the_machines_start(door: Door) -> None:
    """The one that nobody sets."""
    door.open("1-3", 30)
    [opening] = Openings(door.folder).read()

    assert opening.until_boot_s <= time.clock_gettime(time.CLOCK_BOOTTIME) + 30 * 60


def test_anothers_file_opens_nothing(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is believed if it is the own user's."""
    door.open("1-3", 30)
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)

    assert Openings(door.folder).read() == ()


def test_a_port_closes_while_nobody_keeps_the_door(door: Door) -> None:
    """The next one knows that it was opened, and that the time is up."""
    door.settle()
    door.open("1-3", 30)
    door.kernel.plug("1-3", KEYS)
    door.settle()
    door.open("1-3", 0)
    door.restart()

    assert door.settle() == []
    assert not door.kernel.is_authorized("1-3")


def test_an_opening_outlives_the_guard(door: Door) -> None:
    """Its time is not begun anew, and not cut."""
    door.settle()
    door.open("1-3", 30)
    door.look()
    before = door.gate.told.open_ports
    door.restart()
    door.look()

    assert door.gate.told.open_ports == before


def test_a_port_that_is_opened_again_while_its_time_runs_out(door: Door) -> None:
    """What a technician asked for a moment ago is not taken away with what was over."""
    door.settle()
    door.open("1-3", 30)
    door.look()
    door.open("1-3", 0)
    door.kernel.plug("1-1")
    door.kernel.on_authorized = lambda _port: door.open("1-3", 30)
    door.look()
    door.look()

    assert [one.port for one in door.gate.told.open_ports] == ["1-3"]


def test_what_is_no_opening_hides_none(door: Door) -> None:
    """However much of it stands in the folder, such as what a killed program left."""
    door.open("1-3", 30)
    for number in range(1, 33):
        (door.folder / f".1-{number}").touch()

    assert [one.port for one in Openings(door.folder).read()] == ["1-3"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("1-3", b"{}"),
        ("1-3", b"\xff" * 10_000),
        ("usb1", b'{"port":"1-3","until_boot_s":0,"until":"2026-11-27T08:00:00Z","by":"x"}'),
        ("1-3", b'{"port":"1-4","until_boot_s":9,"until":"2026-11-27T08:00:00Z","by":"x"}'),
    ],
)
def test_what_is_no_opening_opens_nothing(door: Door, name: str, content: bytes) -> None:
    """Whatever stands in the folder."""
    door.folder.mkdir()
    (door.folder / name).write_bytes(content)

    assert Openings(door.folder).read() == ()


def test_nobody_opens_for_longer_than_may_be(door: Door) -> None:
    """A file that says a year is over."""
    door.open("1-3", MOST_MINUTES + 1)
    [opening] = Openings(door.folder).read()

    assert Openings(door.folder).is_over(opening)


def test_own_ports_are_let_alone(door: Door) -> None:
    """Whatever comes there, with whatever driver the kernel has."""
    door.settle()
    door.kernel.plug("1-7", descriptors(1, 2, [KEYBOARD, STORAGE, VENDOR]))
    door.settle()

    assert door.kernel.drivers("1-7") == ["usbhid", "usb-storage", "ftdi_sio"]


def test_pulled_while_it_is_looked_at(door: Door) -> None:
    """What is gone is no fault."""
    door.settle()
    door.kernel.plug("1-1", DISK)
    door.kernel.on_authorized = door.kernel.pull
    looked = door.look()

    assert (looked.found, looked.left) == ((), ())
    door.look()
    assert door.gate.told.present == ()
