"""edge-mount's command line: the one small program of a dock that may mount."""

import argparse
import pwd
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from edge_agent.adapters.bay_mounts import BayMounts, Reader
from edge_agent.adapters.mount_service import MountService
from edge_agent.adapters.usb_tree import UsbTree
from edge_agent.mount_config import MountConfig
from runtime.errors import RuntimeFault, SettingsError
from runtime.logs import configure
from runtime.service import notify
from runtime.settings import load_toml

_DEFAULT_CONFIG: Final = Path("/etc/bayward/edge.toml")
_PROBLEM: Final = 1
_EXAMPLES: Final = """\
examples:
  edge-mount                              with /etc/bayward/edge.toml, as the systemd unit does
  edge-mount --config edge.toml           until Ctrl-C or SIGTERM

It mounts what is in a bay of the source "usb", read-only, when edge-agent's user asks for that bay
by its number. It takes no path and no device from anybody. To be run as root.

exit status:
  0  it was told to stop
  1  it cannot do its work; the reason is the last line
  2  the command line is wrong
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run edge-mount; see ``--help``."""
    parser = argparse.ArgumentParser(
        prog="edge-mount",
        description="Mounts the volumes of docked recorders, read-only, for edge-agent.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EXAMPLES,
    )
    parser.add_argument("--config", type=Path, default=_DEFAULT_CONFIG, help="default: %(default)s")
    options = parser.parse_args(arguments)
    try:
        config = load_toml(options.config, MountConfig)
        _serve(config)
    except (SettingsError, RuntimeFault) as error:
        print(f"edge-mount: {error.code}: {error}", file=sys.stderr)
        return _PROBLEM
    except (KeyError, ZoneInfoNotFoundError, OSError, ValueError) as error:
        print(f"edge-mount: {error}", file=sys.stderr)
        return _PROBLEM
    return 0


def _serve(config: MountConfig) -> None:
    configure(json=True, level="info")
    user = pwd.getpwnam(config.mount.user)
    mounts = BayMounts(
        {bay.number: bay.ports for bay in config.bays if bay.ports is not None},
        tree=UsbTree(),
        folder=config.mount.folder,
        reader=Reader(uid=user.pw_uid, gid=user.pw_gid, zone=ZoneInfo(config.timezone)),
        clock=lambda: datetime.now(UTC),
    )
    mounts.detach_all()
    config.mount.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    service = MountService(
        config.mount.socket,
        client_uid=user.pw_uid,
        client_gid=user.pw_gid,
        mount=mounts.mount,
        detach=mounts.detach,
    )

    def stop(_number: int, _frame: FrameType | None) -> None:
        service.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    notify("READY=1")
    service.serve()
    notify("STOPPING=1")
    mounts.detach_all()


if __name__ == "__main__":
    sys.exit(main())
