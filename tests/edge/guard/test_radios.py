"""Radios at a device that speaks as /dev/rfkill does: each that may send is blocked, and told."""

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edge_agent.adapters.radios import RFKILL, Radios
from edge_agent.guard.breaches import Kind

EVENT = struct.Struct("=IBBBB")
WIFI, BLUETOOTH, GPS = 1, 2, 6
ADD, DEL, CHANGE = range(3)


@dataclass
class Kernel:
    """Obeys what is written, unless it is deaf."""

    line: int
    is_deaf: bool = False
    sorts: dict[int, int] = field(default_factory=dict)
    asked: list[tuple[int, ...]] = field(default_factory=list)

    def say(self, number: int, sort: int, what: int, *, soft: int = 0, hard: int = 0) -> None:
        self.sorts[number] = sort
        os.write(self.line, EVENT.pack(number, sort, what, soft, hard))

    def obey(self) -> None:
        with contextlib.suppress(OSError):  # nobody is there any more
            while said := os.read(self.line, EVENT.size):
                number, _, what, soft, _ = event = EVENT.unpack(said)
                self.asked.append(event)
                if not self.is_deaf:
                    self.say(number, self.sorts[number], what, soft=soft)


@pytest.fixture
def made() -> Iterator[tuple[Kernel, Radios]]:
    # Whole events come out of it, as of the device.
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.setblocking(False)  # noqa: FBT003 - socket's own signature
    line = ours.detach()
    kernel, radios = Kernel(line), Radios(RFKILL, lambda _path: os.dup(theirs.fileno()))
    listening = threading.Thread(target=kernel.obey, daemon=True)
    listening.start()
    yield kernel, radios
    radios.close()
    theirs.close()  # whoever listens at the other end hears that nobody is there
    listening.join()
    os.close(line)


def until_off(radios: Radios) -> None:
    deadline_s = time.monotonic() + 60
    while radios.look(enforced=True).left:
        assert time.monotonic() < deadline_s, "it stays on"


def until_found(radios: Radios, number: int, *, enforced: bool) -> list[str]:
    deadline_s = time.monotonic() + 60
    while len(found := radios.look(enforced=enforced).found) < number:
        assert time.monotonic() < deadline_s, f"{found}"
    assert {one.kind for one in found} == {Kind.RADIO_ON}
    return [one.text for one in found]


def test_what_may_send_is_blocked(made: tuple[Kernel, Radios]) -> None:
    """What only receives, and what a switch of the machine keeps off, is left alone."""
    kernel, radios = made
    kernel.say(0, GPS, ADD)
    kernel.say(1, BLUETOOTH, ADD, hard=1)
    kernel.say(2, WIFI, ADD)

    assert until_found(radios, 1, enforced=True) == ["radio 2 (Wi-Fi) is on"]
    until_off(radios)
    assert {one[0] for one in kernel.asked} == {2}
    assert {one[2:4] for one in kernel.asked} == {(CHANGE, 1)}


def test_one_that_somebody_switches_on_is_blocked_again(made: tuple[Kernel, Radios]) -> None:
    """Each time, also where it comes later."""
    kernel, radios = made
    for what in (ADD, CHANGE):
        deadline_s = time.monotonic() + 60
        # Unlike the kernel's, this one's answer to what was asked before may come behind it.
        while not (found := radios.look(enforced=True).found):
            kernel.say(7, BLUETOOTH, what)
            assert time.monotonic() < deadline_s
        assert [one.text for one in found] == ["radio 7 (Bluetooth) is on"]
        until_off(radios)


def test_one_that_stays_on_is_told_until_it_has_gone(made: tuple[Kernel, Radios]) -> None:
    """The kernel's word counts, not what was asked of it."""
    kernel, radios = made
    kernel.is_deaf = True
    kernel.say(3, WIFI, ADD)
    until_found(radios, 1, enforced=True)
    assert len(radios.look(enforced=True).left) == 1
    kernel.say(3, WIFI, DEL)
    until_off(radios)


def test_a_dry_run_switches_nothing(made: tuple[Kernel, Radios]) -> None:
    """It tells what is on."""
    kernel, radios = made
    kernel.say(2, WIFI, ADD)

    until_found(radios, 1, enforced=False)
    assert len(radios.look(enforced=False).left) == 1
    assert kernel.asked == []


def test_a_machine_without_radios(tmp_path: Path) -> None:
    """It has no such file; one that cannot be read is told."""
    assert Radios(tmp_path / "rfkill").look(enforced=True).found == ()
    [unseen] = Radios(tmp_path).look(enforced=True).left
    assert unseen.kind is Kind.CANNOT_LOOK
