"""What every step of the bundle shares: where things are, how tools are run, what went wrong."""

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
# As Debian's packages have it; wheels of another Python do not load.
PYTHON: Final = "3.11"
DEBIAN: Final = "bookworm"
ARCHITECTURES: Final = ("amd64", "arm64")
_VERSION: Final = re.compile(r"[0-9][0-9A-Za-z.+~]{0,63}")


class BundleError(Exception):
    """A step that failed, and what to do about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What is being made.

    Attributes:
        version: Of the Debian packages; pyproject.toml's unless another was asked for.
        work: For what is kept between runs and what is thrown away.
        made_at_s: Unix time that every file in a package gets, so that two runs make the same.
    """

    version: str
    work: Path
    made_at_s: int


def new_bundle(version: str | None) -> Bundle:
    """Look at this machine and the clone.

    Raises:
        BundleError: It cannot be made here.
    """
    told = Path("/etc/os-release").read_text(encoding="utf-8")
    if f"VERSION_CODENAME={DEBIAN}" not in told.splitlines():
        raise BundleError(f"the bundle is for Debian 12 ({DEBIAN}) and is made on it")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: str = version or project["version"]
    if _VERSION.fullmatch(found) is None:
        raise BundleError(f"{found!r} is no version of a Debian package")
    return Bundle(version=found, work=ROOT / "build/bundle", made_at_s=_made_at_s())


def run(command: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> str:
    """Run a tool to its end and return what it printed.

    Raises:
        BundleError: It is not there or failed; its last lines are quoted.
    """
    try:
        done = subprocess.run(
            list(map(str, command)),
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
            env=os.environ | dict(env or {}),
        )
    except FileNotFoundError:
        raise BundleError(f"{command[0]} is missing: scripts/system-packages bundle") from None
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines()[-15:]
        raise BundleError("\n".join([f"failed: {' '.join(map(str, command[:6]))} …", *said]))
    return done.stdout


def empty_folder(path: Path) -> Path:
    """Return a folder that is there and has nothing in it."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def _made_at_s() -> int:
    if told := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(told)
    return int(run(["git", "log", "-1", "--format=%ct"]))
