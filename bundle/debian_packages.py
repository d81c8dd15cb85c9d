"""Debian's own packages that ours depend on, for a machine that has only the least of Debian."""

import re
import shutil
from pathlib import Path
from typing import Final

from bundle.steps import Bundle, empty_folder, run

# As apt tells what it would do.
_INSTALLED: Final = re.compile(r"^Inst (\S+) \((\S+) ", re.MULTILINE)
# What ours depend on and recommend; apt finds what those need in turn.
_WANTED: Final = (
    "python3.11",
    "libstdc++6",
    "libudev1",
    "mosquitto",
    "nftables",
    "smartmontools",
)


def fetched_packages(bundle: Bundle, architecture: str) -> Path:
    """Return a folder with all packages, as if nothing were installed yet.

    They come from where this machine has its own from, checked by the same signatures.

    Raises:
        BundleError: apt cannot find or fetch one.
    """
    root = bundle.work / "apt" / architecture
    archives = root / "cache/archives"
    for folder in (root / "state/lists/partial", archives / "partial"):
        folder.mkdir(parents=True, exist_ok=True)
    (root / "status").write_text("")
    options = [
        f"Dir::State={root}/state",
        f"Dir::State::status={root}/status",
        f"Dir::Cache={root}/cache",
        f"APT::Architecture={architecture}",
        f"APT::Architectures={architecture}",
        "APT::Install-Recommends=false",
        "APT::Sandbox::User=root",
        "Debug::NoLocking=1",
        "Acquire::Retries=3",
    ]
    apt = ["apt-get", "--yes", *(word for one in options for word in ("-o", one))]
    run([*apt, "update"])
    run([*apt, "install", "--download-only", *_WANTED])
    chosen = empty_folder(root / "chosen")
    # What was fetched for an earlier bundle is there as well.
    for name, version in _INSTALLED.findall(run([*apt, "install", "-s", *_WANTED])):
        [package] = archives.glob(f"{name}_{version.replace(':', '%3a')}_*.deb")
        shutil.copy(package, chosen)
    return chosen
