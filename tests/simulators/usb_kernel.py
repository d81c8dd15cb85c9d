"""USB devices in a sysfs of files, and what the kernel does when one of its files is written."""

import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from edge_agent.adapters.usb_gate import write_setting
from edge_agent.guard.usb_descriptors import Function
from edge_agent.guard.usb_door import drivers_for
from edge_agent.mounting.port_paths import is_below

STORAGE: Final = Function(0x08, 0x06, 0x50)
UAS: Final = Function(0x08, 0x06, 0x62)
KEYBOARD: Final = Function(0x03, 0x01, 0x01)
NETWORK: Final = Function(0x02, 0x06, 0x00)
NETWORK_DATA: Final = Function(0x0A, 0x00, 0x00)
MODEM: Final = Function(0x02, 0x02, 0x01)
TELEPHONE: Final = Function(0x06, 0x01, 0x01)
VENDOR: Final = Function(0xFF, 0xFF, 0xFF)
HUB: Final = Function(0x09, 0x00, 0x00)

_DRIVERS: Final = {KEYBOARD: "usbhid", NETWORK: "cdc_ether"}
_ALL_DRIVERS: Final = ("hub", "uas", "usb-storage", "ftdi_sio", "cdc_acm", "usbhid", "cdc_ether")


def descriptors(
    vendor: int,
    product: int,
    *configurations: Sequence[Function],
    device_class: int = 0,
) -> bytes:
    """Return what sysfs has of a device; each interface with an endpoint, as real ones have."""
    device = struct.pack(
        "<BBHBBBBHHHBBBB",
        *(18, 1, 0x0200, device_class, 0, 0, 64, vendor, product, 0x0100, 1, 2, 3),
        len(configurations),
    )
    return device + b"".join(
        _configuration(number, functions) for number, functions in enumerate(configurations, 1)
    )


def _configuration(number: int, functions: Sequence[Function]) -> bytes:
    inner = b"".join(
        struct.pack("<9B", 9, 4, index, 0, 1, one.number, one.subclass, one.protocol, 0)
        + struct.pack("<BBBBHB", 7, 5, 0x81 + index, 2, 512, 0)
        for index, one in enumerate(functions)
    )
    return (
        struct.pack("<BBHBBBBB", 9, 2, 9 + len(inner), len(functions), number, 0, 0x80, 50) + inner
    )


DISK: Final = descriptors(0x46F4, 0x0001, [STORAGE])
SERIAL_PORT: Final = descriptors(0x0403, 0x6001, [VENDOR])
ADAPTER: Final = descriptors(0x0525, 0xA4A2, [NETWORK, NETWORK_DATA], device_class=2)
HUB_OF_FOUR: Final = descriptors(0x0409, 0x55AA, [HUB], device_class=9)
KEYS: Final = descriptors(0x0627, 0x0001, [KEYBOARD])
DISK_AND_ADAPTER: Final = descriptors(0x1D6B, 0x0104, [STORAGE, NETWORK, NETWORK_DATA])


class FakeUsbKernel:
    """Two buses, one for each speed, as they are after boot: whatever comes is let in.

    Attributes:
        on_authorized: Called with a port when a device there was let in, before anybody looks.
        refuses: What it answers to all that is written; None if it takes it.
        asked: All files that were written, or were to be.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bus = root / "bus/usb"
        self.devices = self.bus / "devices"
        self.on_authorized: Callable[[str], None] = lambda _port: None
        self.refuses: OSError | None = None
        self.asked: list[str] = []
        self._numbers = 0
        for bus in ("usb1", "usb2"):
            folder = self.devices / bus
            folder.mkdir(parents=True)
            (folder / "authorized_default").write_text("1\n")
            (folder / "interface_authorized_default").write_text("1\n")
        for driver in _ALL_DRIVERS:
            (self.bus / "drivers" / driver).mkdir(parents=True)
            (self.bus / "drivers" / driver / "bind").touch()
        (self.bus / "drivers_probe").touch()

    def plug(
        self, port: str, said: bytes = DISK, *, serial: str = "17", name: str = "DSJ-A8"
    ) -> None:
        """Plug in a device: it is used if its bus lets in what comes."""
        self._numbers += 1
        folder = self.devices / port
        folder.mkdir()
        (folder / "devnum").write_text(f"{self._numbers}\n")
        (folder / "descriptors").write_bytes(said)
        (folder / "serial").write_text(f"{serial}\n")
        (folder / "product").write_text(f"{name}\n")
        (folder / "authorized").write_text("0\n")
        if self._default(port, "authorized_default"):
            self.authorize(port)

    def pull(self, port: str) -> None:
        """Pull out a device, and all that hangs on it."""
        for folder in list(self.devices.iterdir()):
            if is_below(folder.name, port):
                shutil.rmtree(folder)

    def swap(self, port: str, said: bytes, *, serial: str = "17") -> None:
        """Put another device in the place of one, faster than anybody looks."""
        self.pull(port)
        self.plug(port, said, serial=serial)

    def is_authorized(self, port: str) -> bool:
        """Return whether a device is used."""
        return (self.devices / port / "authorized").read_text().strip() == "1"

    def drivers(self, port: str) -> list[str | None]:
        """Return the driver of each of a device's interfaces."""
        return [
            (one / "driver").readlink().name if (one / "driver").is_symlink() else None
            for one in sorted((self.devices / port).glob(f"{port}:*"))
        ]

    def defaults(self) -> set[str]:
        """Return what all buses do with what comes."""
        return {path.read_text().strip() for path in self.devices.glob("usb*/*authorized_default")}

    def write(self, folder: int, name: str, text: str) -> None:
        """Write as `UsbGate` does, and do what the kernel does."""
        self.asked.append(name)
        if self.refuses is not None:
            raise self.refuses
        path = Path(f"/proc/self/fd/{folder}").readlink() / name
        write_setting(folder, name, text)
        port = path.parent.name
        if path.name == "bind":
            self._bind(text, path.parent.name)
        elif path.name == "drivers_probe":
            self._probe(text)
        elif path.name == "authorized":
            path.write_text(f"{text}\n")
            if ":" not in port and text == "1":
                self.authorize(port)
            elif ":" not in port:
                self._deauthorize(port)
            elif text == "0":
                (path.parent / "driver").unlink(missing_ok=True)
        else:
            path.write_text(f"{text}\n")

    def authorize(self, port: str) -> None:
        """Use a device, as its bus says: with drivers, or without."""
        folder = self.devices / port
        (folder / "authorized").write_text("1\n")
        is_free = self._default(port, "interface_authorized_default")
        said = (folder / "descriptors").read_bytes()
        for number, function in enumerate(_of_first_configuration(said)):
            interface = folder / f"{port}:1.{number}"
            interface.mkdir()
            (interface / "bInterfaceClass").write_text(f"{function.number:02x}\n")
            (interface / "bInterfaceSubClass").write_text(f"{function.subclass:02x}\n")
            (interface / "bInterfaceProtocol").write_text(f"{function.protocol:02x}\n")
            (interface / "authorized").write_text(f"{int(is_free)}\n")
            if is_free:
                self._probe(interface.name)
        self.on_authorized(port)

    def _deauthorize(self, port: str) -> None:
        for interface in (self.devices / port).glob(f"{port}:*"):
            shutil.rmtree(interface)
        for folder in list(self.devices.iterdir()):
            if folder.name.startswith(f"{port}."):
                shutil.rmtree(folder)

    def _default(self, port: str, name: str) -> bool:
        bus = port.partition("-")[0]
        return (self.devices / f"usb{bus}" / name).read_text().strip() != "0"

    def _probe(self, interface: str) -> None:
        for driver in _drivers_of(self._function(interface)):
            try:
                self._bind(interface, driver)
            except OSError:
                continue
            return

    def _bind(self, interface: str, driver: str) -> None:
        folder = self._interface(interface)
        is_free = (folder / "authorized").read_text() == "1\n"
        # uas is for those that speak it alone.
        fits = driver in _drivers_of(self._function(interface)) and (
            driver != "uas" or self._function(interface) == UAS
        )
        if not (is_free and fits) or (folder / "driver").is_symlink():
            raise OSError(19, "No such device")
        (folder / "driver").symlink_to(self.bus / "drivers" / driver)

    def _interface(self, name: str) -> Path:
        return self.devices / name.partition(":")[0] / name

    def _function(self, interface: str) -> Function:
        folder = self._interface(interface)
        parts = ("bInterfaceClass", "bInterfaceSubClass", "bInterfaceProtocol")
        return Function(*(int((folder / part).read_text(), 16) for part in parts))


def _drivers_of(function: Function) -> tuple[str, ...]:
    known = _DRIVERS.get(function)
    return drivers_for(function) if known is None else (known,)


def _of_first_configuration(said: bytes) -> list[Function]:
    end = 18 + int.from_bytes(said[20:22], "little")
    found, at = [], 18
    while at < end:
        if said[at + 1] == 4:
            found.append(Function(*said[at + 5 : at + 8]))
        at += said[at]
    return found
