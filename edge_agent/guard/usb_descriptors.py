"""What a USB device says that it is: its descriptors, as the kernel keeps them in sysfs.

A device with ``authorized`` 0 has no interfaces below /sys yet, but its file ``descriptors`` is
there: the device descriptor, then each configuration's whole. (Linux,
Documentation/ABI/stable/sysfs-bus-usb; USB 2.0, section 9.6.) All of it is the device's own word.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from edge_agent.errors import UsbDescriptorsError

# sysfs gives 18 bytes and 65,535 more.
MAX_DESCRIPTORS_BYTES: Final = 18 + 65_535
_DEVICE_BYTES: Final = 18
_CONFIGURATION_BYTES: Final = 9
_INTERFACE_BYTES: Final = 9
_HEAD_BYTES: Final = 2
_DEVICE: Final = 1
_CONFIGURATION: Final = 2
_INTERFACE: Final = 4


@dataclass(frozen=True, slots=True, order=True)
class Function:
    """What an interface is for, by the numbers that USB gives: class, subclass and protocol."""

    number: int
    subclass: int
    protocol: int

    def __str__(self) -> str:
        """Return it as ``lsusb`` and sysfs write it."""
        return f"{self.number:02x}/{self.subclass:02x}/{self.protocol:02x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptors:
    """A device's word about itself.

    Attributes:
        functions: Of all interfaces in all settings of all configurations; each once, sorted.
    """

    vendor: int
    product: int
    device_class: int
    functions: tuple[Function, ...]


def parse_descriptors(untrusted: bytes) -> Descriptors:
    """Return what a file ``descriptors`` of sysfs says.

    The kernel passes over what it does not understand. Here each byte has to be accounted for:
    what two readers could take for two different things is taken for nothing.

    Raises:
        UsbDescriptorsError: It is not one device and all of its configurations.
    """
    if len(untrusted) > MAX_DESCRIPTORS_BYTES:
        raise UsbDescriptorsError(f"{len(untrusted)} bytes are more than the kernel gives")
    if len(untrusted) < _DEVICE_BYTES or untrusted[:2] != bytes((_DEVICE_BYTES, _DEVICE)):
        raise UsbDescriptorsError("there is no device descriptor at the beginning")
    functions: set[Function] = set()
    start = _DEVICE_BYTES
    for _ in range(untrusted[17]):  # bNumConfigurations
        end = _end_of_configuration(untrusted, start)
        functions.update(_functions(untrusted[start:end]))
        start = end
    if start != len(untrusted):
        raise UsbDescriptorsError(f"{len(untrusted) - start} bytes belong to no configuration")
    return Descriptors(
        vendor=int.from_bytes(untrusted[8:10], "little"),
        product=int.from_bytes(untrusted[10:12], "little"),
        device_class=untrusted[4],
        functions=tuple(sorted(functions)),
    )


def _end_of_configuration(untrusted: bytes, start: int) -> int:
    head = untrusted[start : start + _CONFIGURATION_BYTES]
    if len(head) < _CONFIGURATION_BYTES or head[0] < _CONFIGURATION_BYTES:
        raise UsbDescriptorsError("a configuration is missing")
    if head[1] != _CONFIGURATION:
        raise UsbDescriptorsError("what stands in a configuration's place is none")
    end = start + int.from_bytes(head[2:4], "little")
    if not start + head[0] <= end <= len(untrusted):
        raise UsbDescriptorsError("a configuration is longer or shorter than it says")
    return end


def _functions(configuration: bytes) -> Iterator[Function]:
    at = configuration[0]
    while at < len(configuration):
        one = configuration[at : at + configuration[at]]
        if len(one) < _HEAD_BYTES or len(one) != configuration[at]:
            raise UsbDescriptorsError("a descriptor is longer or shorter than it says")
        if one[1] in {_DEVICE, _CONFIGURATION}:
            raise UsbDescriptorsError("a configuration holds another one, or a device")
        if one[1] == _INTERFACE:
            if len(one) < _INTERFACE_BYTES:
                raise UsbDescriptorsError("an interface's descriptor is cut off")
            yield Function(one[5], one[6], one[7])
        at += len(one)
