"""A bare Debian 12 with systemd on a disk of its own, made once and kept."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.hardware.kernel import CACHE, kernel_tree, modules, one_at_a_time

_HERE: Final = Path(__file__).resolve().parent
_DISK_BYTES: Final = 6 << 30
# The least of Debian, what starts it, and what finds its devices. No Python, no network.
_PACKAGES: Final = "systemd,systemd-sysv,udev,kmod,dbus"
_UNIT: Final = """\
[Unit]
Description=The test's end of the line
After=multi-user.target
# What the tests run is not ended with it.
[Service]
ExecStart=/usr/local/lib/guest.sh
Restart=no
KillMode=process
[Install]
WantedBy=multi-user.target
"""


def bare_debian(folder: Path) -> Path:
    """Return a disk image with a bare Debian 12, a copy for this test alone."""
    kept = CACHE / "bare-debian.img"
    with one_at_a_time("bare-debian"):
        if not kept.exists():
            _make(kept)
    copy = folder / "debian.img"
    _run("cp", "--sparse=always", "--reflink=auto", str(kept), str(copy))
    return copy


def _make(image: Path) -> None:
    tree = CACHE / "bare-debian.making"
    shutil.rmtree(tree, ignore_errors=True)
    options = ("--variant=minbase", f"--include={_PACKAGES}")
    _run("debootstrap", *options, "bookworm", str(tree))
    kernel = modules(kernel_tree())
    shutil.copytree(kernel, tree / "usr/lib/modules" / kernel.name)
    _run("chroot", str(tree), "depmod", kernel.name)
    shutil.copy(_HERE / "guest.sh", tree / "usr/local/lib/guest.sh")
    unit = tree / "etc/systemd/system/guest.service"
    unit.write_text(_UNIT)
    wanted = unit.parent / "multi-user.target.wants"
    wanted.mkdir(exist_ok=True)
    (wanted / "guest.service").symlink_to("/etc/systemd/system/guest.service")
    # An installed system's; a clock that nobody sets, as on an isolated network.
    (tree / "etc/hostname").write_text("station\n")
    (tree / "etc/apt/sources.list").write_text("")
    shutil.rmtree(tree / "var/cache/apt/archives", ignore_errors=True)
    making = image.with_suffix(".img.making")
    with making.open("wb") as file:
        file.truncate(_DISK_BYTES)
    _run("mkfs.ext4", "-q", "-F", "-d", str(tree), str(making))
    making.rename(image)
    shutil.rmtree(tree)


def _run(*command: str) -> None:
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"PATH": path}
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
