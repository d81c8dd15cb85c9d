"""A device's descriptors are a stranger's bytes: read whole, or not believed."""

import contextlib
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import UsbDescriptorsError
from edge_agent.guard.usb_descriptors import (
    MAX_DESCRIPTORS_BYTES,
    Descriptors,
    Function,
    parse_descriptors,
)
from tests.simulators.usb_kernel import (
    DISK,
    DISK_AND_ADAPTER,
    KEYBOARD,
    NETWORK,
    NETWORK_DATA,
    STORAGE,
    UAS,
    descriptors,
)

_FUNCTIONS = st.builds(Function, st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
_DEVICES = st.builds(
    lambda vendor, product, configurations: (
        descriptors(vendor, product, *configurations),
        {one for configuration in configurations for one in configuration},
    ),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF),
    st.lists(st.lists(_FUNCTIONS, max_size=4), max_size=4),
)


def test_a_stick() -> None:
    """It says who it is, and that it is a disk."""
    assert parse_descriptors(DISK) == Descriptors(
        vendor=0x46F4, product=0x0001, device_class=0, functions=(STORAGE,)
    )


# As Linux 6.1 shows them below /sys before they are let in: what they are, then the bytes.
REAL: Final = """\
QEMU's disk at SuperSpeed: 08/06/50
  1201000300000009f446010000000102030109022c00010106c00009040000020806500007058102
  00040006300f0000000705020200040006300f000000
QEMU's keyboard: 03/01/01
  120100020000000827060100000001040b0109022200010108a03209040000010301010009211101
  0001223f000705810308000a
QEMU's hub: 09/00/00
  12011001090000080904aa5501010102030109021900010100e00009040000010900000007058103
  0200ff
a gadget of Linux, disk and network adapter: 02/06/00 08/06/50 0a/00/00
  12010002000000406b1d040101060102030109026f00030100800109040000020806500407058102
  00020007050202000201080b010202060009090401000102060006052400100105240601020d240f
  0700000000ea050000000705850310000909040200000a00000009040201020a0000080705860200
  020007050702000200
"""


def _real() -> list[tuple[str, bytes]]:
    """Return what each of them has, and what it says."""
    found: list[tuple[str, bytes]] = []
    for line in REAL.splitlines():
        if line.startswith("  "):
            found[-1] = (found[-1][0], found[-1][1] + bytes.fromhex(line))
        else:
            found.append((line.partition(": ")[2], b""))
    return found


@pytest.mark.parametrize(("functions", "said"), _real())
def test_what_real_devices_say(functions: str, said: bytes) -> None:
    """Each of their interfaces, and the endpoints and other parts passed over."""
    assert " ".join(map(str, parse_descriptors(said).functions)) == functions


def test_all_interfaces_of_all_configurations() -> None:
    """Whatever it might become by another configuration is known before it is let in."""
    two = descriptors(1, 2, [STORAGE, UAS], [STORAGE, KEYBOARD])

    assert set(parse_descriptors(two).functions) == {STORAGE, UAS, KEYBOARD}
    assert set(parse_descriptors(DISK_AND_ADAPTER).functions) == {STORAGE, NETWORK, NETWORK_DATA}


@given(_DEVICES)
def test_what_a_device_says_is_read(device: tuple[bytes, set[Function]]) -> None:
    """All of it, whatever it has."""
    said, functions = device

    assert set(parse_descriptors(said).functions) == functions


@given(st.binary(max_size=300))
def test_any_bytes(untrusted: bytes) -> None:
    """They are read, or refused by one error and no other."""
    with contextlib.suppress(UsbDescriptorsError):
        parse_descriptors(untrusted)


@given(_DEVICES, st.data())
def test_a_changed_byte(device: tuple[bytes, set[Function]], data: st.DataObject) -> None:
    """Lengths that lie are refused; no interface vanishes from sight."""
    said = bytearray(device[0])
    at = data.draw(st.integers(0, len(said) - 1))
    said[at] = data.draw(st.integers(0, 255))
    try:
        found = parse_descriptors(bytes(said))
    except UsbDescriptorsError:
        return

    # Each byte was accounted for: a walk over all of them meets as many interfaces.
    assert set(found.functions) == set(_walked(bytes(said)))


def _walked(said: bytes) -> list[Function]:
    """Return the interfaces that a walk over all descriptors meets, configurations or not."""
    found, at = [], 18
    while at < len(said):
        if said[at + 1] == 4:
            found.append(Function(*said[at + 5 : at + 8]))
        at += said[at]
    return found


@pytest.mark.parametrize("cut", range(len(DISK)))
def test_cut_off(cut: int) -> None:
    """A part of it is nothing."""
    with pytest.raises(UsbDescriptorsError):
        parse_descriptors(DISK[:cut])


@pytest.mark.parametrize(
    "untrusted",
    [
        DISK + b"\x00",
        DISK + DISK[18:],  # one configuration more than it says
        DISK[:17] + b"\x02" + DISK[18:],  # one less
        DISK[:20] + (len(DISK) - 18 + 1).to_bytes(2, "little") + DISK[22:],
        DISK[:20] + (9).to_bytes(2, "little") + DISK[22:],
        DISK[:27] + b"\x00" + DISK[28:],  # a descriptor without length
        DISK[:28] + b"\x02" + DISK[29:],  # a configuration within one
        DISK[:27] + b"\x08" + DISK[28:],  # an interface that is too short
        bytes(MAX_DESCRIPTORS_BYTES + 1),
    ],
)
def test_what_does_not_add_up(untrusted: bytes) -> None:
    """Where the kernel would pass over something, this refuses."""
    with pytest.raises(UsbDescriptorsError):
        parse_descriptors(untrusted)


def test_what_stands_in_a_configurations_place() -> None:
    """One for another speed is none that the kernel uses."""
    with pytest.raises(UsbDescriptorsError, match="is none"):
        parse_descriptors(DISK[:19] + b"\x07" + DISK[20:])


def test_more_than_the_kernel_gives() -> None:
    """However well it fits together."""
    configuration = b"\x09\x02\xff\xff\x00\x01\x00\x80\x32" + b"\x02\x24" * 32_763
    with pytest.raises(UsbDescriptorsError, match="more than the kernel gives"):
        parse_descriptors(DISK[:17] + b"\x02" + 2 * configuration)
