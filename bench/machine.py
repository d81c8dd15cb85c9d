"""What it is measured on, and with which tools."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Final

from bench.contenders import OCOPY
from bench.figures import MIB
from bench.results import Machine
from demo.programs import find_tool, run_tool

_ROOT: Final = Path(__file__).resolve().parent.parent


def machine(work: Path) -> Machine:
    """Return this machine; *work* is on the disk that staging uses."""
    return Machine(
        cores=os.cpu_count() or 1,
        memory_mib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MIB,
        processor=_processor(),
        system=platform.platform(),
        python=platform.python_version(),
        file_system=run_tool(["findmnt", "-no", "FSTYPE", "-T", str(work)]).strip(),
    )


def tools() -> dict[str, str]:
    """Return the versions of the peers."""
    asked = {
        "cp, sha256sum": ["cp", "--version"],
        "openssl": ["openssl", "version"],
        "rsync": [find_tool("rsync"), "--version"],
        "rclone": [find_tool("rclone"), "--version"],
        "ocopy": [str(OCOPY), "--version"],
        "fio": [find_tool("fio"), "--version"],
    }
    return {name: run_tool(command).splitlines()[0].strip() for name, command in asked.items()}


def revision() -> str:
    """Return which state of the source is measured; empty where there is no Git."""
    command = ["git", "-C", str(_ROOT), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
