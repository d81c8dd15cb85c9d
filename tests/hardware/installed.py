"""A station as an installer makes it: bare Debian, our packages, a USB key, and no network."""

import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bundle.packing import pack
from tests.hardware.bays import Bays
from tests.hardware.debian import bare_debian
from tests.hardware.kernel import BootFiles
from tests.hardware.machine import Machine

ROOT: Final = Path(__file__).resolve().parents[2]
DATA: Final = Path("/var/lib/bayward")
AGENTS: Final = ("mosquitto", "server-agent", "server-console", "edge-mount", "edge-agent")
OLD: Final = "0.0.9"
NEW: Final = "0.9.9"

_MIB: Final = 1 << 20
_TOOLS: Final = {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}


def make_bundles(folder: Path) -> Path:
    """Make a bundle as `make bundle` does, and a newer one; return a disk that holds both."""
    bundles = folder / "bundles"
    command = (sys.executable, "-m", "bundle", "--arch", "amd64", "--version", OLD)
    done = subprocess.run(
        [*command, "--out", str(bundles)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    _add_newer(bundles, folder / "newer")
    disk = folder / "bundles.img"
    with disk.open("wb") as file:
        file.truncate(512 * _MIB)
    _run("mkfs.ext4", "-q", "-F", "-d", str(bundles), str(disk))
    return disk


def _add_newer(bundles: Path, work: Path) -> None:
    """Make the same bundle under a newer version, without compiling and compressing it again."""
    with tarfile.open(bundles / f"bayward-{OLD}.tar") as archive:
        archive.extractall(work, filter="data")
    folder = (work / f"bayward-{OLD}").rename(work / f"bayward-{NEW}")
    for package in folder.glob("deb/*/bayward-*.deb"):
        tree = work / package.stem
        _run("dpkg-deb", "--raw-extract", str(package), str(tree))
        control = tree / "DEBIAN/control"
        control.write_text(control.read_text().replace(f"Version: {OLD}", f"Version: {NEW}"))
        package.unlink()
        fast = ("--root-owner-group", "-Zzstd", "-z1", "--build")
        _run("dpkg-deb", *fast, str(tree), str(package.with_name(package.name.replace(OLD, NEW))))
    pack(folder, bundles, made_at_s=0)


def usb_key(path: Path) -> Path:
    """Make an empty USB key by whose label a dock knows it."""
    with path.open("wb") as file:
        file.truncate(64 * _MIB)
    _run("mkfs.vfat", "-n", "BAYWARD", str(path))
    return path


def on_key(key: Path) -> dict[str, str]:
    """Return the files on a USB key that is not plugged in."""
    names = _run("mdir", "-b", "-i", str(key), "::").split()
    return {name.removeprefix("::/"): _run("mtype", "-i", str(key), name) for name in names}


@dataclass(kw_only=True)
class Station:
    """One machine that is archive and dock; off until `power_on` or `go_on`.

    Attributes:
        disk: What outlives it.
        bundles: A disk with the bundles.
    """

    disk: Path
    bundles: Path
    boot: BootFiles
    folder: Path
    machine: Machine = field(init=False)

    def power_on(self, *, wire: Path | None = None) -> Machine:
        """Boot, perhaps at a *wire*; whoever calls it switches it off."""
        self._start(saved=None, wire=wire)
        self.machine.sh("mkdir -p /media/bundles; mount -o ro /dev/vdb /media/bundles")
        return self.machine

    def go_on(self, saved: Path) -> Machine:
        """Go on from where a machine with such a disk was saved."""
        self._start(saved=saved)
        return self.machine

    def _start(self, *, saved: Path | None, wire: Path | None = None) -> None:
        disks = [self.disk, self.bundles]
        self.machine = Machine(
            self.boot, self.folder, disks=disks, shares=False, saved=saved, wire=wire
        )

    def do(self, script: str, *, version: str) -> str:
        """Run commands of docs/operations.md beside a version's bundle; return what was said."""
        beside = f"mkdir -p /root/{version}; cd /root/{version};"
        tar = f"ln -sf /media/bundles/bayward-{version}.tar .;"
        ran = self.machine.run("bash", "-ec", f"{beside} {tar} {script}", timeout_s=900)
        assert ran.status == 0, f"{script}\n{ran.out}{ran.err}"
        return ran.out

    def until_active(self, units: Sequence[str] = AGENTS) -> None:
        """Wait until units run."""
        told = f"systemctl is-active {' '.join(units)}"
        script = f"! {told} | grep --quiet --invert-match --line-regexp active"
        try:
            self.machine.until(script)
        except AssertionError as error:
            why = "systemctl status --no-pager --lines=30 --full"
            raise AssertionError(self.machine.run(*why.split(), *units).out) from error

    @property
    def bays(self) -> Bays:
        """What the bays show."""
        return Bays(self.machine, Path("/run/bayward/edge.sock"), python="python3.11")


def bare_station(bundles: Path, boot: BootFiles, folder: Path) -> Station:
    """Return a machine that has a bare Debian and nothing else."""
    return Station(disk=bare_debian(folder), bundles=bundles, boot=boot, folder=folder)


def _run(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=_TOOLS)
    return done.stdout
