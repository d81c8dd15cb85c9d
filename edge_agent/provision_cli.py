"""`edge-agent provision`: from a bare machine to a dock, by a USB key of the archive."""

import argparse
import contextlib
import pwd
from pathlib import Path
from typing import Final

from edge_agent.adapters.provisioning import Place, mounted_key, provision

EXAMPLES: Final = """\
examples:
  edge-agent provision --device /dev/sdb1     as bayward-provision@.service does when a key comes
  edge-agent provision --folder /mnt          a key that is mounted already
The key is what `server-agent dock-key` wrote. It is emptied when this machine has taken it in, and
what came of it stands on it in bayward-dock.result.txt. To be run as root.
"""
_MOUNT_AT: Final = Path("/run/bayward-provision/key")
_USER: Final = "bayward-edge"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let *parser* read what provision takes."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--device", type=Path, help="the key's partition")
    source.add_argument("--folder", type=Path, help="where the key is mounted")


def provision_from(options: argparse.Namespace) -> int:
    """Take in a key; return the exit status.

    Raises:
        EdgeError, ProtocolError, RuntimeFault: It cannot be used; nothing was changed.
        OSError: A disk failed, or the user of the agent is missing.
    """
    user = _user()
    place = Place(
        etc=Path("/etc/bayward"),
        units=Path("/etc/systemd/system"),
        uid=user.pw_uid,
        gid=user.pw_gid,
    )
    with contextlib.ExitStack() as stack:
        folder: Path = options.folder or stack.enter_context(mounted_key(options.device, _MOUNT_AT))
        name = provision(folder, place)
    print(f"this machine is {name} now; next: systemctl restart edge-mount edge-agent")
    return 0


def _user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(_USER)
    except KeyError:
        raise FileNotFoundError(f"no user {_USER}: the package bayward-edge makes it") from None
