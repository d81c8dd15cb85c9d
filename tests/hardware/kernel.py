"""Debian's kernel and a small initial file system, made once and kept."""

import contextlib
import fcntl
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
exec switch_root /new /bin/sh {root}/tests/hardware/guest.sh
"""
# A Debian of its own on /dev/vda, whose first program is its own, too.
_INIT_DISK: Final = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in {modules}; do insmod /modules/$module || echo "no $module"; done
mkdir -p /new
mount -t ext4 /dev/vda /new || sh
for folder in proc sys dev; do mount --move /$folder /new/$folder; done
exec switch_root /new /sbin/init
"""
_DISK_MODULES: Final = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4")


@dataclass(frozen=True, slots=True, kw_only=True)
class BootFiles:
    """What QEMU boots."""

    kernel: Path
    initrd: Path


@contextlib.contextmanager
def one_at_a_time(what: str) -> Iterator[None]:
    """Wait while another run makes the same thing for `CACHE`."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def boot_files() -> BootFiles:
    """Return the kernel and an initial file system that makes this machine's root the guest's."""
    tree = kernel_tree()
    return BootFiles(kernel=_kernel(tree), initrd=_initrd(modules(tree), _MODULES, _INIT))


def disk_boot_files() -> BootFiles:
    """Return the kernel and an initial file system that starts the Debian on the first disk."""
    tree = kernel_tree()
    return BootFiles(kernel=_kernel(tree), initrd=_initrd(modules(tree), _DISK_MODULES, _INIT_DISK))


def module_files(*names: str) -> list[Path]:
    """Return what ``insmod`` needs for modules that are not loaded at boot, in order."""
    folder = modules(kernel_tree())
    return list(dict.fromkeys(_with_needs(folder, names)))


def kernel_tree() -> Path:
    """Return the folder into which Debian's newest kernel was unpacked."""
    with one_at_a_time("kernel"):
        package = _package()
        tree = CACHE / package.stem
        if not tree.exists():
            _extract(package, tree)
    return tree


def modules(tree: Path) -> Path:
    """Return the folder of the kernel's modules."""
    [found] = (tree / "lib/modules").iterdir()
    return found


def _kernel(tree: Path) -> Path:
    [kernel] = (tree / "boot").glob("vmlinuz-*")
    return kernel


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
    _run("busybox", "depmod", "-b", str(making), modules(making).name)
    making.rename(tree)


def _initrd(folder_of_modules: Path, names: Iterable[str], script: str) -> Path:
    files = list(dict.fromkeys(_with_needs(folder_of_modules, names)))
    init = script.format(modules=" ".join(file.name for file in files), root=_ROOT)
    key = hashlib.sha256("\n".join([init, *map(str, files)]).encode()).hexdigest()
    image = CACHE / f"initrd-{key[:16]}.cpio"
    with one_at_a_time("initrd"):
        if not image.exists():
            _make_initrd(image, files, init)
    return image


def _make_initrd(image: Path, files: Iterable[Path], init: str) -> None:
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
    making.rename(image)


def _with_needs(folder: Path, names: Iterable[str]) -> Iterator[Path]:
    """Yield the files of modules, each after those that it needs."""
    needs: dict[str, tuple[str, list[str]]] = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        file, _, others = line.partition(":")
        needs[_name(file)] = (file, others.split())
    built_in = {_name(line) for line in (folder / "modules.builtin").read_text().splitlines()}
    for name in names:
        if name in built_in:
            continue
        path, needed = needs[name]
        yield from _with_needs(folder, map(_name, needed))
        yield folder / path


def _name(file: str) -> str:
    return Path(file).name.removesuffix(".ko").replace("-", "_")


def _busybox() -> str:
    found = shutil.which("busybox")
    assert found is not None, "busybox is missing: make test-hardware installs it"
    return found


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=cwd)
    return done.stdout
