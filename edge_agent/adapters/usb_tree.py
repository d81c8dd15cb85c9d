"""The USB devices of this machine, as the kernel shows them under /sys; blocking, anyone may look.

Anything may vanish between two looks: what cannot be read is not there.
"""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_agent.mounting.port_paths import PortPath, order_of, parse_port

_NAME: Final = re.compile(r"[a-z]{2,8}[0-9a-z]{0,24}")
_SERIAL: Final = re.compile(r"tty(USB|ACM)[0-9]{1,3}")
_NUMBER: Final = re.compile(r"([0-9]{1,7}):([0-9]{1,7})")
_SECTOR_BYTES: Final = 512  # whatever the device's own is: Documentation/ABI/stable/sysfs-block
_MAX_TEXT: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockDevice:
    """A disk or a partition.

    Attributes:
        number: Major and minor.
    """

    name: str
    number: tuple[int, int]
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A disk with its partitions; one that holds no medium is none.

    Attributes:
        sequence: The kernel gives each disk another one, however often names are used again; 0
            before Linux 5.15.
    """

    device: BlockDevice
    sequence: int
    partitions: tuple[BlockDevice, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UsbDevice:
    """A device, or a hub, with what it says of itself."""

    port: PortPath
    is_hub: bool
    untrusted_product: str
    untrusted_serial: str


class UsbTree:
    """What is plugged in where; *root* is where sysfs is mounted."""

    def __init__(self, root: Path = Path("/sys")) -> None:
        self._devices = root / "bus" / "usb" / "devices"
        self._top = os.path.realpath(root / "devices")

    def disks_at(self, ports: Iterable[str]) -> tuple[Disk, ...]:
        """Return the disks of what is plugged in at *ports*, or behind a hub there."""
        found = {disk.device.number: disk for port in ports for disk in self._disks_below(port)}
        return tuple(found[number] for number in sorted(found))

    def serial_ports_at(self, ports: Iterable[str]) -> tuple[str, ...]:
        """Return the names of serial ports of what is plugged in at *ports*, or behind a hub."""
        return tuple(sorted({name for port in ports for name in self._ttys_below(port)}))

    def devices(self) -> tuple[UsbDevice, ...]:
        """Return all devices that are plugged in, in order of their ports."""
        ports = [port for name in _names(self._devices) if (port := parse_port(name)) is not None]
        return tuple(self._device(port) for port in sorted(ports, key=order_of))

    def has_hub_of(self, port: PortPath) -> bool:
        """Return whether the bus or hub is there that a port is one of."""
        parent, dot, _ = port.rpartition(".")
        return (self._devices / (parent if dot else f"usb{port.partition('-')[0]}")).exists()

    def peer_of(self, port: PortPath) -> PortPath | None:
        """Return the other path of the same connector, if it has one for each speed."""
        parent, _, number = port.rpartition("." if "." in port else "-")
        hub = self._devices / (parent if "." in port else f"usb{parent}")
        interface = f"{parent}:1.0" if "." in port else f"{parent}-0:1.0"
        name = f"{parent}-port{number}" if "." in port else f"usb{parent}-port{number}"
        peer = Path(os.path.realpath(hub / interface / name / "peer")).name
        bus, _, peer_number = peer.removeprefix("usb").rpartition("-port")
        return parse_port(f"{bus}{'.' if '-' in bus else '-'}{peer_number}")

    def _device(self, port: PortPath) -> UsbDevice:
        folder = self._devices / port
        return UsbDevice(
            port=port,
            is_hub=_read(folder / "bDeviceClass") == "09",
            untrusted_product=_read(folder / "product"),
            untrusted_serial=_read(folder / "serial"),
        )

    def _disks_below(self, port: str) -> Iterator[Disk]:
        for folder in self._below(port, "block"):
            with contextlib.suppress(OSError, ValueError):
                yield _disk(folder)

    def _ttys_below(self, port: str) -> Iterator[str]:
        for folder in self._below(port, "tty"):
            # Below a USB serial adapter's own folder, also called tty…, stands the port's.
            if (folder / "dev").exists() and _SERIAL.fullmatch(folder.name):
                yield folder.name

    def _below(self, port: str, kind: str) -> Iterator[Path]:
        """Yield the folders of a port's devices of one class of the kernel's."""
        top = os.path.realpath(self._devices / port)
        if not top.startswith(f"{self._top}{os.sep}"):
            return
        for folder, inside, _ in os.walk(top):
            if Path(folder).name == kind:
                yield from (Path(folder) / name for name in sorted(inside))
                inside.clear()


def _disk(folder: Path) -> Disk:
    """Return the disk that a folder is about; ValueError if it is none to be read."""
    device = _block_device(folder)
    if device.size_bytes == 0:
        raise ValueError("no medium")
    partitions = []
    for name in _names(folder):
        if (folder / name / "partition").exists():
            with contextlib.suppress(OSError, ValueError):
                partitions.append(_block_device(folder / name))
    sequence = _read(folder / "diskseq")
    return Disk(
        device=device,
        sequence=int(sequence) if sequence.isascii() and sequence.isdigit() else 0,
        partitions=tuple(sorted(partitions, key=lambda one: one.number)),
    )


def _block_device(folder: Path) -> BlockDevice:
    number = _NUMBER.fullmatch((folder / "dev").read_text("ascii").strip())
    size = (folder / "size").read_text("ascii").strip()
    if number is None or _NAME.fullmatch(folder.name) is None or not size.isdigit():
        raise ValueError("not a block device")
    return BlockDevice(
        name=folder.name,
        number=(int(number[1]), int(number[2])),
        size_bytes=int(size) * _SECTOR_BYTES,
    )


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - names are wanted
    except OSError:
        return []


def _read(path: Path) -> str:
    try:
        text = path.read_bytes()[: 4 * _MAX_TEXT].decode(errors="replace")
    except OSError:
        return ""
    return text.strip()[:_MAX_TEXT]
