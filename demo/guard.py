"""edge-guard in the demo: it has a network of its own, so that this machine's stays as it is."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from demo.programs import ours

# It looks at names servers that are configured, and blocks radios: the demo's are none.
_ALONE: Final = """\
for file in /etc/resolv.conf /run/systemd/resolve/resolv.conf; do
    [ ! -e "$file" ] || mount --bind "$0" "$file"
done
exec "$@"
"""
_UNSHARE: Final = ("unshare", "--net", "--mount", "--propagation", "private")


def may_have_own_network() -> bool:
    """Return whether this user may make a network namespace, and nft(8) is there to use in it."""
    try:
        tried = subprocess.run(
            [*_UNSHARE, "nft", "list", "ruleset"], capture_output=True, check=False, timeout=60
        )
    except OSError:
        return False
    return tried.returncode == 0


def guard_toml(socket: str, *, is_alone: bool) -> str:
    """Return ``[guard]`` of edge.toml; where it is not alone, nothing is refused and shut."""
    dry_run = "" if is_alone else "dry_run = true\n"
    return (
        '[guard]\ninterfaces = ["eth0"]\nnetworks = ["192.168.10.0/24"]\n'
        f'socket = "{socket}"\n{dry_run}\n'
    )


def guard_command(config: str, folder: Path, *, is_alone: bool) -> Sequence[str]:
    """Return how edge-guard is started.

    Args:
        config: The dock's edge.toml.
        folder: Where it has an empty resolv.conf.
        is_alone: Whether it gets a network of its own.
    """
    nowhere = folder / "no-radios"
    guard = ours("edge-guard", "--config", config, "--rfkill", str(nowhere), "run")
    if not is_alone:
        return guard
    return [*_UNSHARE, "sh", "-ec", _ALONE, str(folder / "no-name-server"), *guard]
