"""The program edge-mount itself: the real kernel, a mount namespace of its own.

What it sees of USB is a folder in place of /sys: this kernel has no USB.
"""

import contextlib
import json
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from demo.programs import Program
from edge_agent.adapters.mount_client import MountClient
from edge_agent.adapters.usb_tree import BlockDevice
from protocol.identifiers import BayNumber
from tests.simulators.sysfs import FakeSysfs

_PROGRAM = "edge_agent.mount_cli"
_MEDDLED = "tests.simulators.meddled_edge_mount"
_CONFIG = """
timezone = "Asia/Shanghai"
dock = "edge-mount does not look at this"
bays = [
    {{ number = 1, source = "usb", ports = ["1-1", "2-1"] }},
    {{ number = 2, source = "usb", ports = ["1-2"] }},
    {{ number = 3, source = "directory", path = "bay-3" }},
]
mount = {{ socket = "{socket}", folder = "{bays}", user = "root" }}
{archive}
"""


@dataclass(kw_only=True)
class Mounting:
    """edge-mount, and what it is shown."""

    program: Program
    sysfs: FakeSysfs
    socket: Path
    bays: Path

    def client(self, bay: int) -> MountClient:
        """Return what edge-agent would ask with."""
        return MountClient(self.socket, BayNumber(bay))

    def plug(self, port: str, *disks: BlockDevice) -> None:
        """Show a recorder with these disks at a port."""
        self.sysfs.plug(port)
        for disk in disks:
            self.sysfs.add_disk(port, disk)

    def seen(self, path: Path) -> Path:
        """Return where the program sees a path, from outside of its namespace."""
        return Path(f"/proc/{self.program.pid}/root{path}")

    def mounts(self) -> list[list[str]]:
        """Return device, type and options of what is mounted for bays."""
        return self._mounted_below(self.bays)

    def writable_mounts(self) -> list[list[str]]:
        """Return the same of what is mounted to be erased."""
        return self._mounted_below(self.bays.with_name("erasing"))

    def _mounted_below(self, folder: Path) -> list[list[str]]:
        lines = Path(f"/proc/{self.program.pid}/mounts").read_text().splitlines()
        words = [line.split(" ") for line in lines]
        return [[word[0], word[2], word[3]] for word in words if word[1].startswith(str(folder))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What is there when edge-mount starts.

    Attributes:
        plug: Plugs recorders in.
        shell: Commands of a shell in edge-mount's mount namespace.
        meddling: By a moment of edge-mount's work, what somebody does then: see meddled_edge_mount.

    In all commands ``$EDGE_MOUNT_FOLDER`` is where it has its folders, ``bays`` and ``erasing``.
    """

    plug: Callable[[FakeSysfs], None] | None = None
    shell: str = ":"
    meddling: Mapping[str, str] | None = None


@contextlib.contextmanager
def running_edge_mount(
    *options: str, certificate: Path | None = None, before: Before | None = None
) -> Iterator[Mounting]:
    """Run it, with more options than its configuration; *certificate* is the archive's."""
    before = before or Before()
    with tempfile.TemporaryDirectory(prefix="mount-") as name:
        root = Path(name)
        sysfs = FakeSysfs(root / "sys")
        if before.plug is not None:
            before.plug(sysfs)
        socket_path, bays, config = root / "sock", root / "bays", root / "edge.toml"
        archive = f'[archive]\nsigning_certificate = "{certificate}"' if certificate else ""
        config.write_text(_CONFIG.format(socket=socket_path, bays=bays, archive=archive))
        start = (
            f"mount --bind {sysfs.root} /sys && export EDGE_MOUNT_FOLDER={root}"
            f' && (set -e; {before.shell}) && exec "$@"'
        )
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", start, "sh"]
        module = [_PROGRAM] if before.meddling is None else [_MEDDLED, json.dumps(before.meddling)]
        edge_mount = [sys.executable, "-m", *module, "--config", str(config)]
        program = Program("edge-mount", [*command, *edge_mount, *options], root / "log")
        program.start()
        try:
            program.wait_until(lambda: _answers(socket_path))
            yield Mounting(program=program, sysfs=sysfs, socket=socket_path, bays=bays)
        finally:
            program.stop()


def _answers(path: Path) -> bool:
    """Whether somebody listens there: the name stands before that."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True
