"""The two Debian packages: what is in each, and how it is put together."""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bundle.steps import PYTHON, ROOT, Bundle, BundleError, empty_folder, run
from bundle.wheels import fetched_wheels, unpack_wheels

PREFIX: Final = Path("/opt/bayward")

_SYSTEMD: Final = ROOT / "systemd"
_SCRIPTS: Final = ROOT / "bundle/debian"
_UNITS: Final = Path("usr/lib/systemd/system")
# -I: nothing of the environment, the caller's folder or a user's own packages is looked at.
_START: Final = """\
#!/usr/bin/python{python} -I
import sys

sys.path[:0] = ["{library}"]
sys.path.append("{drivers}")

from {module} import main

sys.exit(main())
"""
_CONTROL: Final = """\
Package: {name}
Version: {version}
Architecture: {architecture}
Maintainer: Bayward <bayward@localhost>
Installed-Size: {kib}
Depends: {depends}
{recommends}Section: admin
Priority: optional
Description: {summary}
{description}
"""
_COPYRIGHT: Final = """\
Bayward: Apache License 2.0, /usr/share/common-licenses/Apache-2.0.
The packages that it brings along are below {library};
the licence of each stands in its .dist-info folder.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One of the two.

    Attributes:
        program: "edge" or "server"; the folder of its libraries is called so.
        entries: Its commands and where their main functions are.
        without: Packages of our wheel that it has no use for.
        units: Files of systemd/ that go where units are.
        files: Other files of the clone, and where they go.
    """

    program: str
    entries: dict[str, str]
    without: tuple[str, ...]
    depends: tuple[str, ...]
    recommends: tuple[str, ...] = ()
    units: tuple[str, ...]
    files: dict[str, str]
    summary: str
    description: str

    @property
    def name(self) -> str:
        """Its name for dpkg."""
        return f"bayward-{self.program}"


_COMMON: Final = (f"python{PYTHON}", "libstdc++6", "systemd (>= 252)")
_ABOUT: Final = (
    " Takes the footage off law-enforcement recorders the moment they are docked, proves\n"
    " that nothing was lost or changed, and keeps it in one archive on an isolated network.\n"
)
PACKAGES: Final = (
    Package(
        program="edge",
        entries={
            "edge-agent": "edge_agent.cli",
            "edge-mount": "edge_agent.mount_cli",
            "edge-guard": "edge_agent.guard_cli",
            "recorder-simulator": "recorder_simulator.cli",
            "charger-simulator": "recorder_simulator.charger_cli",
        },
        without=("server_agent",),
        depends=(*_COMMON, "libudev1", "nftables", "udev", "util-linux"),
        recommends=("smartmontools",),
        units=(
            "edge-agent.service",
            "edge-guard.service",
            "edge-mount.service",
            "bayward-provision@.service",
        ),
        files={
            "systemd/59-bayward.rules": "usr/lib/udev/rules.d/59-bayward.rules",
            "systemd/bayward-edge.sysusers.conf": "usr/lib/sysusers.d/bayward-edge.conf",
            "systemd/bayward-edge.modules.conf": "usr/lib/modules-load.d/bayward-edge.conf",
            "systemd/bayward-edge.tmpfiles.conf": "usr/lib/tmpfiles.d/bayward-edge.conf",
            "systemd/edge-mount-erasing.conf": "opt/bayward/erasing.conf",
            "profiles": "opt/bayward/profiles",
        },
        summary="Bayward on a dock",
        description=_ABOUT + " .\n This package is what runs on a multi-bay dock.",
    ),
    Package(
        program="server",
        entries={
            "server-agent": "server_agent.cli",
            "server-console": "server_agent.console.cli",
        },
        without=("edge_agent", "recorder_simulator"),
        depends=(*_COMMON, "mosquitto"),
        units=("server-agent.service", "server-console.service", "mosquitto.service.d"),
        files={
            "systemd/bayward-server.sysusers.conf": "usr/lib/sysusers.d/bayward-server.conf",
            "systemd/bayward-server.tmpfiles.conf": "usr/lib/tmpfiles.d/bayward-server.conf",
        },
        summary="Bayward's archive and console",
        description=_ABOUT + " .\n This package is what runs on the archive's machine.",
    ),
)


def build_package(bundle: Bundle, package: Package, architecture: str, own_wheel: Path) -> Path:
    """Build one Debian package and return it.

    Raises:
        BundleError: A step failed.
    """
    tree = empty_folder(bundle.work / "trees" / f"{package.name}-{architecture}")
    _fill(bundle, package, architecture, own_wheel, tree)
    control = tree / "DEBIAN"
    control.mkdir()
    (control / "md5sums").write_text(_md5sums(tree))
    (control / "control").write_text(_control(bundle, package, architecture, _kib(tree)))
    for script in ("postinst", "prerm", "postrm"):
        target = control / script
        shutil.copyfile(_SCRIPTS / f"{package.name}.{script}", target)
        target.chmod(0o755)
    out = empty_folder(bundle.work / "debs" / f"{package.name}-{architecture}")
    _settle(tree, bundle.made_at_s)
    epoch = {"SOURCE_DATE_EPOCH": str(bundle.made_at_s)}
    # A dock unpacks it ten times faster than xz, for a fifth more of bytes.
    small = ("-Zzstd", "-z12")
    run(["dpkg-deb", "--root-owner-group", *small, "--build", tree, out], env=epoch)
    [built] = out.glob("*.deb")
    return built


def _fill(bundle: Bundle, package: Package, architecture: str, own_wheel: Path, tree: Path) -> None:
    place = PREFIX / package.program
    library = tree / place.relative_to("/")
    wheels = fetched_wheels(bundle, package.program, architecture)
    unpack_wheels([*sorted(wheels.glob("*.whl")), own_wheel], library, architecture)
    for unwanted in package.without:
        shutil.rmtree(library / unwanted)
    _compile(library, place, bundle.made_at_s)
    for command, module in package.entries.items():
        _add_command(tree, command, module, place)
    for unit in package.units:
        _copy(_SYSTEMD / unit, tree / _UNITS / unit)
    for source, target in package.files.items():
        _copy(ROOT / source, tree / target)
    papers = tree / "usr/share/doc" / package.name
    for page in ("docs", "README.md", "CHANGELOG.md"):
        _copy(ROOT / page, papers / page)
    (papers / "copyright").write_text(_COPYRIGHT.format(library=place))


def _compile(library: Path, place: Path, made_at_s: int) -> None:
    """Compile here, so that the first start is as fast as any and dpkg knows all files."""
    python = shutil.which(f"python{PYTHON}", path="/usr/bin") or shutil.which(f"python{PYTHON}")
    if python is None:
        raise BundleError(f"python{PYTHON} is missing: scripts/system-packages bundle")
    words = ("-q", "--invalidation-mode", "unchecked-hash", "-s", library, "-p", place, library)
    run([python, "-m", "compileall", *words], env={"SOURCE_DATE_EPOCH": str(made_at_s)})


def _add_command(tree: Path, command: str, module: str, library: Path) -> None:
    start = tree / PREFIX.relative_to("/") / "bin" / command
    start.parent.mkdir(parents=True, exist_ok=True)
    drivers = PREFIX / "drivers"
    start.write_text(_START.format(python=PYTHON, library=library, drivers=drivers, module=module))
    start.chmod(0o755)
    link = tree / "usr/bin" / command
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(PREFIX / "bin" / command)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


def _control(bundle: Bundle, package: Package, architecture: str, kib: int) -> str:
    recommends = ", ".join(package.recommends)
    return _CONTROL.format(
        name=package.name,
        version=bundle.version,
        architecture=architecture,
        kib=kib,
        depends=", ".join(package.depends),
        recommends=f"Recommends: {recommends}\n" if recommends else "",
        summary=package.summary,
        description=package.description,
    )


def _files(tree: Path) -> list[Path]:
    return sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())


def _kib(tree: Path) -> int:
    return sum(-(-path.stat().st_size // 1024) for path in _files(tree))


def _md5sums(tree: Path) -> str:
    """Return what `dpkg --verify` compares; it knows no other digest."""
    return "".join(
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}"
        f"  {path.relative_to(tree)}\n"
        for path in _files(tree)
    )


def _settle(tree: Path, made_at_s: int) -> None:
    """Make rights and times the same, whoever builds it and when."""
    for path in [tree, *tree.rglob("*")]:
        if not path.is_symlink():
            executable = path.is_dir() or bool(path.stat().st_mode & 0o100)
            path.chmod(0o755 if executable else 0o644)
        os.utime(path, (made_at_s, made_at_s), follow_symlinks=False)
