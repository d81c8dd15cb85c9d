"""A whole site in the guest: broker, archive, dock and edge-mount, on a disk that outlives it."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, Self

from demo.programs import ours
from demo.site import Site
from protocol.messages import BayState
from tests.hardware.bays import Bays, archived
from tests.hardware.kernel import BootFiles
from tests.hardware.machine import ANSWER_TIMEOUT_S, Machine

GUARD_SOCKET: Final = "/run/bayward-guard/guard.sock"
_DISK_BYTES: Final = 2 << 30


class Station:
    """The site's folders are on /dev/vda; where they are is the same in the guest."""

    def __init__(self, site: Site, boot: BootFiles, folder: Path, *, guard: str = "") -> None:
        """Prepare the site on this machine, and make its disk; nothing is started.

        Args:
            site: With USB bays.
            boot: What QEMU boots.
            folder: For the disk and QEMU's sockets.
            guard: The part of edge.toml that is edge-guard's, if there is one.
        """
        site.prepare()
        with Path(site.config("edge")).open("a", encoding="utf-8") as file:
            file.write(guard)
        self.site = site
        self._boot = boot
        self._folder = folder
        self._disk = folder / "site.img"
        with self._disk.open("wb") as file:
            file.truncate(_DISK_BYTES)
        subprocess.run(
            ["mkfs.ext4", "-q", "-F", "-d", str(site.root), str(self._disk)],
            check=True,
            capture_output=True,
            env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"},
        )
        # In the guest the disk is mounted over it; here it must not be taken for the truth.
        shutil.rmtree(site.root)
        site.root.mkdir()
        self.machine: Machine

    def __enter__(self) -> Self:
        self.machine = Machine(self._boot, self._folder, disks=[self._disk])
        return self

    def __exit__(self, *_: object) -> None:
        self.machine.cut_power()

    def start(self) -> None:
        """Start all programs, as a machine does that was switched on."""
        machine, site = self.machine, self.site
        machine.sh(f"mount -t ext4 /dev/vda {site.root}; mkdir -p /run/bayward-mount")
        machine.sh(f"rm -f {site.control_socket}")
        machine.start(*site.broker.arguments, log="/run/broker.log")
        machine.start(*site.server.arguments, log="/run/server.log")
        self.start_edge_mount()
        machine.start(*site.edge.arguments, log="/run/edge.log")
        machine.until(f"test -S {site.control_socket}")

    def start_edge_mount(self) -> None:
        """Start this one program."""
        erases = ("--may-erase",) if self.site.options.erases else ()
        mount = ours("edge-mount", "--config", self.site.config("edge"), *erases)
        self.machine.sh("rm -f /run/bayward-mount/edge-mount.sock")
        self.machine.start(*mount, log="/run/mount.log")
        self.machine.until("test -S /run/bayward-mount/edge-mount.sock")

    def start_edge_guard(self) -> None:
        """Start this one program, and wait until it has looked."""
        self.machine.sh(f"rm -f {GUARD_SOCKET}")
        self.machine.start(*self.guard("run"), log="/run/guard.log")
        # It listens when it has looked.
        self.machine.until(f"test -S {GUARD_SOCKET}", timeout_s=400.0)

    def guard(self, *words: str) -> list[str]:
        """Return how edge-guard is run."""
        return ours("edge-guard", "--config", self.site.config("edge"), *words)

    @property
    def bays(self) -> Bays:
        """What the bays show."""
        return Bays(self.machine, self.site.control_socket, python=sys.executable)

    def bay(self, number: int) -> dict[str, Any]:
        """Return what a bay shows."""
        return self.bays.now(number)

    def until_state(
        self, number: int, state: BayState, *, timeout_s: float = ANSWER_TIMEOUT_S
    ) -> dict[str, Any]:
        """Return what a bay shows as soon as it is in a state."""
        return self.until(number, f"bay['state'] == {state.value!r}", timeout_s=timeout_s)

    def until(
        self, number: int, condition: str, *, timeout_s: float = ANSWER_TIMEOUT_S
    ) -> dict[str, Any]:
        """Return what a bay shows as soon as a condition holds: see `Bays.until`."""
        return self.bays.until(number, condition, timeout_s=timeout_s)

    def archived(self) -> dict[str, int]:
        """Return the SHA-256 of all files in bags, each with how often it is there."""
        return archived(self.machine, self.site.archive)

    def logs(self) -> str:
        """Return the ends of all logs."""
        return self.machine.sh("tail -n 15 /run/*.log; dmesg | tail -n 20")
