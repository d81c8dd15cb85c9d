"""One virtual machine: started, asked to run programs, given USB devices, and cut off."""

import base64
import json
import shlex
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final, Self

from tests.hardware.kernel import BootFiles

# Everything is emulated, on a machine that has other things to do.
BOOT_TIMEOUT_S: Final = 600.0
ANSWER_TIMEOUT_S: Final = 600.0
_QMP_TIMEOUT_S: Final = 120.0
_UNLIMITED: Final = 1 << 40
# What a network adapter may be plugged into: a switch that leads nowhere.
_SWITCH: Final = ("-netdev", "hubport,id=rogue,hubid=1")
_SHARE: Final = (
    *("-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"),
    *("-device", "virtio-9p-pci,fsdev=host,mount_tag=host"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What came of a command in the guest."""

    status: int
    out: str
    err: str


class _Lines:
    """Lines over a socket, JSON objects unless it is said otherwise."""

    def __init__(self, path: Path, *, patience_s: float) -> None:
        deadline_s = time.monotonic() + patience_s
        while True:
            self._socket = socket.socket(socket.AF_UNIX)
            try:
                self._socket.connect(str(path))
                break
            except OSError:
                self._socket.close()
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.05)  # QEMU makes its sockets when it starts: nothing tells when
        self._held = b""

    def send(self, message: dict[str, Any]) -> None:
        self.send_line(json.dumps(message).encode())

    def send_line(self, line: bytes) -> None:
        # A guest that is not there yet takes nothing; one that is slow takes it in pieces.
        self._socket.settimeout(ANSWER_TIMEOUT_S)
        self._socket.sendall(line + b"\n")

    def receive(self, *, timeout_s: float) -> dict[str, Any]:
        self._socket.settimeout(timeout_s)
        while b"\n" not in self._held:
            more = self._socket.recv(65_536)
            if not more:
                raise EOFError("the machine is gone")
            self._held += more
        line, _, self._held = self._held.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        self._socket.close()


def _wire(frames: Path | None) -> tuple[str, ...]:
    if frames is None:
        return ()
    return (
        # A switch with one port takes nothing.
        *("-netdev", "hubport,id=lan,hubid=2", "-netdev", "hubport,id=beyond,hubid=2"),
        *("-device", "virtio-net-pci,netdev=lan"),
        *("-object", f"filter-dump,id=frames,netdev=lan,file={frames}"),
    )


def frames_on(wire: Path) -> list[bytes]:
    """Return the frames that were written down of a wire (libpcap's format)."""
    written, at, found = wire.read_bytes(), 24, list[bytes]()
    while at + 16 <= len(written):
        begin, length = at + 16, int.from_bytes(written[at + 8 : at + 12], "little")
        found.append(written[begin : begin + length])
        at = begin + length
    return found


def _drives(disks: Sequence[Path]) -> list[str]:
    return [
        word
        for number, disk in enumerate(disks)
        for word in (
            *("-blockdev", f"raw,node-name=disk{number},file.driver=file,file.filename={disk}"),
            *("-device", f"virtio-blk-pci,drive=disk{number}"),
        )
    ]


class Machine:
    """A guest: what it boots decides what it is."""

    def __init__(
        self,
        boot: BootFiles,
        folder: Path,
        *,
        disks: Sequence[Path] = (),
        shares: bool = True,
        saved: Path | None = None,
        wire: Path | None = None,
    ) -> None:
        """Boot, or go on from where another one was saved.

        Args:
            boot: What QEMU boots.
            folder: For sockets and logs; its path is short.
            disks: Raw images that the guest has as /dev/vda and so on; they outlive it.
            shares: Whether it may read this machine's root. It has no network beyond *wire*.
            saved: What `save` wrote; the disks are as they were then.
            wire: The guest gets a network adapter, eth0, at a wire that leads nowhere; every frame
                on it is written to this file.
        """
        self._folder = folder
        self._numbers = count(1)
        self.console = folder / "console.log"
        qmp, line = folder / "qmp", folder / "line"
        for path in (qmp, line):
            path.unlink(missing_ok=True)
        command = [
            *("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"),
            *("-m", "3072", "-display", "none", "-nodefaults", "-no-reboot"),
            *("-kernel", str(boot.kernel), "-initrd", str(boot.initrd)),
            *("-append", "console=ttyS0 panic=-1 quiet mitigations=off net.ifnames=0"),
            *("-serial", f"file:{self.console}"),
            *("-qmp", f"unix:{qmp},server=on,wait=off"),
            *(_SHARE if shares else ()),
            *("-device", "virtio-serial-pci"),
            *("-chardev", f"socket,id=line,path={line},server=on,wait=off"),
            *("-device", "virtserialport,chardev=line,name=line"),
            *("-device", "qemu-xhci,id=usb,p2=10,p3=10"),
            *_SWITCH,
            *_drives(disks),
            *_wire(wire),
            *(("-incoming", f"exec:cat {shlex.quote(str(saved))}") if saved else ()),
        ]
        self._log = (folder / "qemu.log").open("ab")
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        try:
            self._qmp = _Lines(qmp, patience_s=_QMP_TIMEOUT_S)
            self._qmp.receive(timeout_s=_QMP_TIMEOUT_S)
            self._qmp_ask("qmp_capabilities")
            self._line = _Lines(line, patience_s=_QMP_TIMEOUT_S)
            if saved is None:
                self.release = str(self._line.receive(timeout_s=BOOT_TIMEOUT_S)["ready"])
            else:
                self._await_status(leaving="inmigrate")
                self._qmp_ask("cont")
                self.release = self.run("uname", "-r", timeout_s=BOOT_TIMEOUT_S).out.strip()
        except BaseException:
            self.cut_power()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut_power()

    def run(self, *command: str, timeout_s: float = ANSWER_TIMEOUT_S) -> Ran:
        """Run a command in the guest to its end."""
        return self._ask(f"exec timeout {timeout_s} {shlex.join(command)}", timeout_s=timeout_s)

    def sh(self, script: str, *, timeout_s: float = ANSWER_TIMEOUT_S) -> str:
        """Run a shell script that must succeed, and return what it printed."""
        ran = self.run("sh", "-ec", script, timeout_s=timeout_s)
        assert ran.status == 0, f"{script}\n{ran.out}{ran.err}"
        return ran.out

    def start(self, *command: str, log: str) -> None:
        """Begin a command in the guest that goes on."""
        ran = self._ask(
            f"setsid {shlex.join(command)} >{log} 2>&1 </dev/null &", timeout_s=ANSWER_TIMEOUT_S
        )
        assert ran.status == 0, ran.err

    def _ask(self, script: str, *, timeout_s: float) -> Ran:
        self._line.send_line(base64.b64encode(script.encode()))
        told = self._line.receive(timeout_s=timeout_s + 60)
        out, err = (
            base64.b64decode(told[name]).decode(errors="replace") for name in ("out", "err")
        )
        return Ran(status=told["status"], out=out, err=err)

    def until(self, script: str, *, timeout_s: float = ANSWER_TIMEOUT_S) -> str:
        """Return what a shell script prints as soon as it succeeds, tried again and again there."""
        loop = f"until {{ {script}; }} 2>/dev/null; do sleep 0.2; done"
        return self.sh(loop, timeout_s=timeout_s)

    def plug(self, image: Path, port: str, *, serial: str = "17") -> str:
        """Plug in a USB disk; return its name for `pull`."""
        name = f"stick{next(self._numbers)}"
        self._qmp_ask(
            "blockdev-add",
            {
                "driver": "raw",
                "node-name": f"{name}-image",
                "file": {"driver": "file", "filename": str(image)},
            },
        )
        self._qmp_ask(
            "device_add",
            {
                "driver": "usb-storage",
                "id": name,
                "bus": "usb.0",
                "port": port,
                "serial": serial,
                "drive": f"{name}-image",
            },
        )
        return name

    def plug_device(self, driver: str, port: str, **facts: str) -> str:
        """Plug in another USB device."""
        name = f"device{next(self._numbers)}"
        self._qmp_ask(
            "device_add", {"driver": driver, "id": name, "bus": "usb.0", "port": port} | facts
        )
        return name

    def plug_serial(self, terminal: Path, port: str) -> str:
        """Plug in a USB serial adapter whose other end is a terminal of this machine."""
        chardev = f"terminal{next(self._numbers)}"
        backend = {"type": "serial", "data": {"device": str(terminal)}}
        self._qmp_ask("chardev-add", {"id": chardev, "backend": backend})
        return self.plug_device("usb-serial", port, chardev=chardev)

    def pull(self, name: str) -> None:
        """Pull a device out, whoever uses it."""
        self._qmp_ask("device_del", {"id": name})
        if name.startswith("stick"):
            self._forget_image(f"{name}-image")

    def save(self, path: Path) -> None:
        """Write down all that is in memory, and end; nothing is plugged in."""
        self._qmp_ask("stop")
        self._qmp_ask("migrate-set-parameters", {"max-bandwidth": _UNLIMITED})
        self._qmp_ask("migrate", {"uri": f"exec:cat >{shlex.quote(str(path))}"})
        self._await_status(leaving="paused")
        told = self._qmp_ask("query-migrate")
        assert told["status"] == "completed", told
        self.cut_power()

    def _await_status(self, *, leaving: str) -> None:
        deadline_s = time.monotonic() + BOOT_TIMEOUT_S
        while self._qmp_ask("query-status")["status"] in {leaving, "finish-migrate"}:
            assert time.monotonic() < deadline_s, self._qmp_ask("query-migrate")
            time.sleep(0.1)  # its events are not kept while an answer is waited for

    def switch_off(self) -> None:
        """Have a guest with systemd end everything in good order, and wait for it."""
        # A moment later: the answer to this has to come through.
        self.start("sh", "-c", "sleep 1; systemctl poweroff", log="/dev/null")
        self._process.wait(timeout=BOOT_TIMEOUT_S)
        self.cut_power()

    def cut_power(self) -> None:
        """End the machine as a power cut does: nothing is written any more."""
        self._process.kill()
        self._process.wait()
        self._log.close()
        for line in (getattr(self, "_qmp", None), getattr(self, "_line", None)):
            if line is not None:
                line.close()

    def _forget_image(self, node: str) -> None:
        # It is in use until the guest has let go of the device.
        deadline_s = time.monotonic() + 60
        while True:
            told = self._qmp_tell("blockdev-del", {"node-name": node})
            if "error" not in told or time.monotonic() > deadline_s:
                assert "error" not in told, told
                return
            time.sleep(0.05)

    def _qmp_ask(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        told = self._qmp_tell(command, arguments or {})
        assert "error" not in told, f"{command}: {told}"
        return told["return"]

    def _qmp_tell(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        self._qmp.send({"execute": command, "arguments": arguments})
        while True:
            told = self._qmp.receive(timeout_s=_QMP_TIMEOUT_S)
            if "event" not in told:
                return told
