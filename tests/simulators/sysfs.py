"""The part of sysfs that tells which disk is at which USB port, as files; with its links."""

import os
import shutil
from itertools import count
from pathlib import Path

from edge_agent.adapters.usb_tree import BlockDevice

_FOLDER = "devices/pci0000:00/0000:00:14.0"


class FakeSysfs:
    """A folder that looks as /sys does; only what is plugged in is there."""

    def __init__(self, root: Path) -> None:
        """Make a machine with two buses, one for each speed, and nothing plugged in."""
        self.root = root
        self._sequences = count(1)
        self._buses = root / "bus/usb/devices"
        self._buses.mkdir(parents=True)
        for bus in (1, 2):
            self._link(self._folder(f"usb{bus}"))

    def plug(self, port: str, *, product: str = "DSJ-A8", serial: str = "17") -> Path:
        """Plug in a device that has no disk; return its folder."""
        folder = self._folder(port)
        (folder / f"{port}:1.0").mkdir(parents=True)
        for name, text in {
            "bDeviceClass": "00",
            "product": product,
            "serial": serial,
        }.items():
            (folder / name).write_text(f"{text}\n")
        self._link(folder)
        return folder

    def plug_hub(self, port: str) -> None:
        """Plug in a hub."""
        (self.plug(port, product="Hub", serial="") / "bDeviceClass").write_text("09\n")

    def add_disk(self, port: str, disk: BlockDevice, *partitions: BlockDevice) -> Path:
        """Let what is plugged in show a disk; return the disk's folder."""
        scsi = f"host0/target0:0:0/0:0:0:{disk.number[1]}"
        block = self._folder(port) / f"{port}:1.0" / scsi / "block"
        folder = block / disk.name
        folder.mkdir(parents=True)
        (folder / "diskseq").write_text(f"{next(self._sequences)}\n")
        _describe(folder, disk)
        for number, partition in enumerate(partitions, start=1):
            inner = folder / partition.name
            inner.mkdir()
            (inner / "partition").write_text(f"{number}\n")
            _describe(inner, partition)
        return folder

    def pull(self, port: str) -> None:
        """Take a device away, and all that hangs on it."""
        for link in self._buses.iterdir():
            if link.name == port or link.name.startswith(f"{port}."):
                link.unlink()
        shutil.rmtree(self._folder(port))

    def pair(self, port: str, peer: str) -> None:
        """Make two root ports the two speeds of one connector."""
        for one, other in ((port, peer), (peer, port)):
            folder, target = self._port_folder(one), self._port_folder(other)
            folder.mkdir(parents=True, exist_ok=True)
            target.mkdir(parents=True, exist_ok=True)
            (folder / "peer").symlink_to(os.path.relpath(target, folder))

    def _port_folder(self, port: str) -> Path:
        bus, _, number = port.partition("-")
        return self._folder(f"usb{bus}") / f"{bus}-0:1.0" / f"usb{bus}-port{number}"

    def _folder(self, name: str) -> Path:
        if name.startswith("usb"):
            return self.root / _FOLDER / name
        bus, _, numbers = name.partition("-")
        folder = self.root / _FOLDER / f"usb{bus}"
        parts = numbers.split(".")
        for end in range(1, len(parts) + 1):
            folder /= f"{bus}-{'.'.join(parts[:end])}"
        return folder

    def _link(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (self._buses / folder.name).symlink_to(os.path.relpath(folder, self._buses))


def _describe(folder: Path, device: BlockDevice) -> None:
    (folder / "dev").write_text(f"{device.number[0]}:{device.number[1]}\n")
    (folder / "size").write_text(f"{device.size_bytes // 512}\n")
