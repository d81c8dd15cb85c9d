"""Debian's kernel and a small initial file system, made once and kept."""

import hashlib
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parents[2]
CACHE: Final = _ROOT / ".hardware"

# In the order in which they are loaded; what each needs comes before it by itself.
_MODULES: Final = (
    *("virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_console", "virtio_blk"),
    *("xhci_pci", "usb_storage", "uas", "sd_mod", "ftdi_sio", "usbhid", "cdc_ether"),
    *(
        "crc32c_generic",
        "vfat",
        "exfat",
        "ext4",
        "nls_cp437",
        "nls_ascii",
        "nls_iso8859_1",
        "nls_utf8",
    ),
)

# The machine's own root is the guest's: read-only, over 9p, beneath a file system in memory.
_INIT: Final = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in {modules}; do insmod /modules/$module || echo "no $module"; done
mkdir -p /host /over /new
mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=524288,cache=loose host /host || sh
mount -t tmpfs -o size=1g tmpfs /over
mkdir /over/upper /over/work
mount -t overlay -o lowerdir=/host,upperdir=/over/upper,workdir=/over/work overlay /new || sh
for folder in proc sys dev; do mount --move /$folder /new/$folder; done
mount -t tmpfs tmpfs /new/run
mkdir -p /new/dev/pts /new/dev/shm
mount -t devpts devpts /new/dev/pts
mount -t tmpfs tmpfs /new/dev/shm
ip link set lo up
cd {root}
exec switch_root /new /bin/sh -c 'cd {root} && exec {python} -m tests.hardware.guest'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootFiles:
    """What QEMU boots."""

    kernel: Path
    initrd: Path


def boot_files(python: Path) -> BootFiles:
    """Return the kernel and an initial file system that starts our guest.

    Args:
        python: Of the environment that has our programs; at the same place in the guest.
    """
    CACHE.mkdir(exist_ok=True)
    package = _package()
    tree = CACHE / package.stem
    if not tree.exists():
        _extract(package, tree)
    [kernel] = (tree / "boot").glob("vmlinuz-*")
    [modules] = (tree / "lib/modules").iterdir()
    return BootFiles(kernel=kernel, initrd=_initrd(modules, python))


def _package() -> Path:
    """Return Debian's package of the newest kernel, downloaded and not installed."""
    found = sorted(CACHE.glob("linux-image-*.deb"))
    if found:
        return found[-1]
    told = _run("apt-cache", "depends", "linux-image-amd64")
    name = next(word for word in told.split() if word.startswith("linux-image-6"))
    _run("apt-get", "download", name, cwd=CACHE)
    return next(CACHE.glob("linux-image-*.deb"))


def _extract(package: Path, tree: Path) -> None:
    making = tree.with_name(f"{tree.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    _run("dpkg-deb", "-x", str(package), str(making))
    [modules] = (making / "lib/modules").iterdir()
    _run("busybox", "depmod", "-b", str(making), modules.name)
    making.rename(tree)


def _initrd(modules: Path, python: Path) -> Path:
    files = list(dict.fromkeys(_with_needs(modules, _MODULES)))
    init = _INIT.format(modules=" ".join(file.name for file in files), root=_ROOT, python=python)
    key = hashlib.sha256("\n".join([init, str(modules), *map(str, files)]).encode()).hexdigest()
    image = CACHE / f"initrd-{key[:16]}.cpio"
    if image.exists():
        return image
    folder = CACHE / "initrd.making"
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("bin", "modules", "proc", "sys", "dev"):
        (folder / name).mkdir(parents=True)
    shutil.copy(_busybox(), folder / "bin/busybox")
    for file in files:
        shutil.copy(file, folder / "modules")
    (folder / "init").write_text(init)
    (folder / "init").chmod(0o755)
    making = image.with_suffix(".making")
    listing = "\n".join(str(path.relative_to(folder)) for path in sorted(folder.rglob("*")))
    with making.open("wb") as output:
        subprocess.run(
            ["cpio", "--quiet", "-o", "-H", "newc"],
            input=listing.encode(),
            stdout=output,
            cwd=folder,
            check=True,
        )
    return making.rename(image)


def _with_needs(modules: Path, names: Iterable[str]) -> Iterator[Path]:
    """Yield the files of modules, each after those that it needs."""
    needs: dict[str, tuple[str, list[str]]] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        file, _, others = line.partition(":")
        needs[_name(file)] = (file, others.split())
    built_in = {_name(line) for line in (modules / "modules.builtin").read_text().splitlines()}
    for name in names:
        if name in built_in:
            continue
        path, needed = needs[name]
        yield from _with_needs(modules, map(_name, needed))
        yield modules / path


def _name(file: str) -> str:
    return Path(file).name.removesuffix(".ko").replace("-", "_")


def _busybox() -> str:
    found = shutil.which("busybox")
    assert found is not None, "busybox is missing: make test-hardware installs it"
    return found


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=cwd)
    return done.stdout
