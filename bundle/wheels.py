"""Wheels: our own, and those of others for each architecture, by the digests that we pinned."""

import hashlib
import shutil
import sys
from pathlib import Path
from typing import Final

from bundle.steps import PYTHON, ROOT, Bundle, empty_folder, run

# In the order of what a dock and an archive need.
PROGRAMS: Final = ("edge", "server")

_MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64"}
_GLIBC: Final = 36  # Debian 12 has 2.36; a wheel for an older one runs with it
_PIP: Final = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")


def own_wheel(bundle: Bundle) -> Path:
    """Build our wheel, browser files included, and return it."""
    folder = empty_folder(bundle.work / "own")
    epoch = {"SOURCE_DATE_EPOCH": str(bundle.made_at_s)}
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", folder, ROOT], env=epoch)
    [wheel] = folder.glob("*.whl")
    return wheel


def requirements(program: str) -> Path:
    """Return the file that names each package a program needs, with its digests."""
    return ROOT / f"requirements/{program}.txt"


def fetched_wheels(bundle: Bundle, program: str, architecture: str) -> Path:
    """Return a folder with all wheels that a program needs; fetched once and kept.

    Raises:
        BundleError: One is not to be had for this architecture, or is not what was pinned.
    """
    wanted = requirements(program)
    digest = hashlib.sha256(wanted.read_bytes()).hexdigest()
    folder = bundle.work / "wheels" / f"{program}-{architecture}-{digest[:16]}"
    if folder.exists():
        return folder
    making = empty_folder(folder.with_name(f"{folder.name}.making"))
    run([*_PIP, "download", *_for(architecture), "--require-hashes", "-d", making, "-r", wanted])
    making.rename(folder)
    return folder


def unpack_wheels(wheels: list[Path], tree: Path, architecture: str) -> None:
    """Install wheels into a folder, for a machine that need not be this one."""
    common = ("--no-index", "--no-compile", "--quiet", "--target", tree)
    run([*_PIP, "install", *_for(architecture), *common, *wheels])
    # Programs that name the Python of this machine.
    shutil.rmtree(tree / "bin", ignore_errors=True)


def _for(architecture: str) -> list[str]:
    machine = _MACHINES[architecture]
    platforms = [
        *(f"manylinux_2_{minor}_{machine}" for minor in range(_GLIBC, 4, -1)),
        *(f"manylinux{year}_{machine}" for year in ("2014", "2010", "1")),
        f"linux_{machine}",
    ]
    return [
        "--only-binary=:all:",
        "--no-deps",
        *("--python-version", PYTHON, "--implementation", "cp"),
        *(word for abi in ("cp311", "abi3", "none") for word in ("--abi", abi)),
        *(word for platform in platforms for word in ("--platform", platform)),
    ]
