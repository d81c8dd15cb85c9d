"""A whole site in the guest: broker, archive, dock and edge-mount, on a disk that outlives it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, Self

from demo.programs import ours
from demo.site import Site
from protocol.messages import BayState
from tests.hardware.kernel import BootFiles
from tests.hardware.machine import Machine

_DISK_BYTES: Final = 2 << 30


class Station:
    """The site's folders are on /dev/vda; where they are is the same in the guest."""

    def __init__(self, site: Site, boot: BootFiles, folder: Path) -> None:
        """Prepare the site on this machine, and make its disk; nothing is started."""
        site.prepare()
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
        mount = ours("edge-mount", "--config", site.config("edge"))
        machine.start(*mount, log="/run/mount.log")
        machine.until("test -S /run/bayward-mount/edge-mount.sock")
        machine.start(*site.edge.arguments, log="/run/edge.log")
        machine.until(f"test -S {site.control_socket}")

    def bay(self, number: int) -> dict[str, Any]:
        """Return what a bay shows."""
        command = [sys.executable, "-c", _ASK, str(self.site.control_socket)]
        ran = self.machine.run(*command)
        assert ran.out, f"{ran.err}\n{self.logs()}"
        bays = json.loads(ran.out.splitlines()[-1])["bays"]
        found: dict[str, Any] = next(one for one in bays if one["bay"] == number)
        return found

    def until_state(
        self, number: int, state: BayState, *, timeout_s: float = 400.0
    ) -> dict[str, Any]:
        """Return what a bay shows as soon as it is in a state."""
        return self.until(number, f"bay['state'] == {state.value!r}", timeout_s=timeout_s)

    def until(self, number: int, condition: str, *, timeout_s: float = 400.0) -> dict[str, Any]:
        """Return what a bay shows as soon as a condition holds, in Python and about ``bay``."""
        command = [sys.executable, "-c", _WAIT, str(self.site.control_socket), str(number)]
        ran = self.machine.run(*command, condition, timeout_s=timeout_s)
        assert ran.status == 0, f"bay {number}: {condition}: {ran.out}{ran.err}\n{self.logs()}"
        found: dict[str, Any] = json.loads(ran.out.splitlines()[-1])
        return found

    def archived(self) -> dict[str, int]:
        """Return the SHA-256 of all files in bags, each with how often it is there."""
        out = self.machine.sh(
            f"cd {self.site.archive} && find . -path ./.incoming -prune -o -path '*/data/*' -type f"
            " -print0 | xargs -0 -r sha256sum"
        )
        found: dict[str, int] = {}
        for line in out.splitlines():
            digest = line.split()[0]
            found[digest] = found.get(digest, 0) + 1
        return found

    def logs(self) -> str:
        """Return the ends of all logs."""
        return self.machine.sh("tail -n 15 /run/*.log; dmesg | tail -n 20")


_READ: Final = """
import json, socket, sys
def snapshots(command):
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(sys.argv[1])
        line.sendall(json.dumps({"command": command}).encode() + b"\\n")
        with line.makefile("rb") as file:
            for one in file:
                yield json.loads(one)
"""
_ASK: Final = _READ + "print(json.dumps(next(snapshots('status'))))"
_WAIT: Final = (
    _READ
    + """
import collections
number, condition = int(sys.argv[2]), compile(sys.argv[3], "condition", "eval")
for snapshot in snapshots("watch"):
    bay = next(one for one in snapshot["bays"] if one["bay"] == number)
    bay = collections.defaultdict(int, bay)  # what is 0 is not told
    if eval(condition):
        print(json.dumps(bay), flush=True)
        break
"""
)
