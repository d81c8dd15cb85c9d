"""`make bundle`: one file that installs Bayward on Debian 12 without any network."""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Final

from bundle.debian_packages import fetched_packages
from bundle.packages import PACKAGES, build_package
from bundle.packing import pack, sha256_of
from bundle.steps import (
    ARCHITECTURES,
    DEBIAN,
    ROOT,
    Bundle,
    BundleError,
    empty_folder,
    new_bundle,
)
from bundle.wheels import PROGRAMS, fetched_wheels, own_wheel, requirements

_MIB: Final = 1 << 20
_ABOUT: Final = """\
Make dist/bayward-VERSION.tar: our packages, those of Debian that they need, wheels, and `install`.
"""
_EXAMPLES: Final = """\
examples:
  make bundle
  make bundle ARGS='--arch amd64'
then, on a machine without network:
  tar -xf bayward-0.1.0.tar && cd bayward-0.1.0
  ./install edge          a dock
  ./install server        the archive and its console
"""


def main() -> int:
    """Make it; return 0, or 1 after a line that says what went wrong."""
    asked = _parser().parse_args()
    try:
        bundle = new_bundle(asked.version)
        made = _make(bundle, tuple(asked.arch or ARCHITECTURES), asked.out)
    except BundleError as error:
        print(f"make bundle: {error}", file=sys.stderr)
        return 1
    size_mib = made.stat().st_size / _MIB
    print(f"{made}: {size_mib:.0f} MiB, SHA-256 {sha256_of(made)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make bundle ARGS=…",
        description=_ABOUT,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--arch", action="append", choices=ARCHITECTURES, help="only for this one (all)"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="the folder (dist)")
    parser.add_argument("--version", help="of the packages (that of pyproject.toml)")
    return parser


def _make(bundle: Bundle, architectures: tuple[str, ...], out: Path) -> Path:
    folder = empty_folder(bundle.work / f"bayward-{bundle.version}")
    print("bundle: our wheel", flush=True)
    own = own_wheel(bundle)
    for architecture in architectures:
        _add_architecture(bundle, architecture, own, folder)
    for program in PROGRAMS:
        target = folder / "requirements" / f"{program}.txt"
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(requirements(program), target)
    shutil.copytree(ROOT / "docs", folder / "docs")
    shutil.copyfile(ROOT / "bundle/install", folder / "install")
    (folder / "install").chmod(0o755)
    return pack(folder, out, bundle.made_at_s)


def _add_architecture(bundle: Bundle, architecture: str, own: Path, folder: Path) -> None:
    debs = folder / "deb" / architecture
    debs.mkdir(parents=True)
    print(f"bundle: {architecture}: Debian's packages ({DEBIAN})", flush=True)
    for package in fetched_packages(bundle, architecture).iterdir():
        shutil.copyfile(package, debs / package.name)
    wheels = folder / "wheels" / architecture
    wheels.mkdir(parents=True)
    shutil.copyfile(own, wheels / own.name)
    for ours in PACKAGES:
        print(f"bundle: {architecture}: {ours.name}", flush=True)
        built = build_package(bundle, ours, architecture, own)
        shutil.copyfile(built, debs / built.name)
        for wheel in fetched_wheels(bundle, ours.program, architecture).glob("*.whl"):
            shutil.copyfile(wheel, wheels / wheel.name)


if __name__ == "__main__":
    raise SystemExit(main())
