"""edge-guard itself with a USB door: a real network, and USB devices that are files."""

import os
import struct
from collections.abc import Iterator

import pytest

from protocol.manifest import Isolation
from tests.simulators.guarded_lan import CONFIG, Guarded, prepared
from tests.simulators.usb_kernel import ADAPTER, DISK, KEYS, FakeUsbKernel

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root has namespaces of its own"),
]

BAYS = """
[[bays]]
number = 1
source = "usb"
ports = ["1-1", "2-1"]
"""


@pytest.fixture
def guarded() -> Iterator[tuple[Guarded, FakeUsbKernel]]:
    """Return a clean network, and USB ports with a keyboard at one that is no bay; not started."""
    with prepared(default_route=False) as made:
        kernel = FakeUsbKernel(made.folder / "sys")
        kernel.plug("1-3", KEYS)
        made.config.write_text(CONFIG + BAYS)
        made.program.arguments = made.command("--sysfs", str(kernel.root), "run")
        yield made, kernel


def test_what_was_in_use_broke_the_rule(guarded: tuple[Guarded, FakeUsbKernel]) -> None:
    """It is shut out, and the dock says for a day that the rule was broken."""
    made, kernel = guarded
    made.start()
    word = made.until_restored("E-ISO-122")

    assert not kernel.is_authorized("1-3")
    assert kernel.defaults() == {"0"}
    assert word.door is not None
    assert [(one.port, one.let_in) for one in word.door.present] == [("1-3", False)]


def test_what_is_refused_breaks_nothing(guarded: tuple[Guarded, FakeUsbKernel]) -> None:
    """It is told, and the rule holds; a disk beside it is let in."""
    made, kernel = guarded
    kernel.pull("1-3")
    made.start()
    made.until(lambda word: word.isolation is Isolation.HOLDING)
    kernel.plug("1-1", DISK)
    kernel.plug("1-4", ADAPTER)
    word = made.until(lambda word: word.door is not None and len(word.door.present) == 2)

    assert word.isolation is Isolation.HOLDING
    assert word.door is not None
    assert [one.device.port for one in word.door.refused] == ["1-4"]
    made.program.wait_until(lambda: kernel.is_authorized("1-1"))
    assert not kernel.is_authorized("1-4")


def test_a_radio_breaks_the_rule(guarded: tuple[Guarded, FakeUsbKernel]) -> None:
    """It is blocked, and told; a FIFO hands back what is written to it, as the kernel would."""
    made, kernel = guarded
    kernel.pull("1-3")
    path = made.folder / "rfkill"
    os.mkfifo(path)
    made.program.arguments = made.command("--rfkill", str(path), "run")
    line = os.open(path, os.O_RDWR)
    try:
        os.write(line, struct.pack("=IBBBB", 0, 1, 0, 0, 0))
        made.start()
        word = made.until_restored("E-ISO-125")
    finally:
        os.close(line)

    assert [one.text for one in word.incident] == ["radio 0 (Wi-Fi) is on"]
    assert word.open == ()


def test_ended_it_leaves_the_door_shut(guarded: tuple[Guarded, FakeUsbKernel]) -> None:
    """There is no switch that opens the ports by ending the program."""
    made, kernel = guarded
    made.start()
    made.until_restored("E-ISO-122")
    made.program.stop()
    kernel.plug("1-1", DISK)

    assert kernel.defaults() == {"0"}
    assert not kernel.is_authorized("1-1")
