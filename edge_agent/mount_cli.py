"""edge-mount's command line: the one small program of a dock that may mount."""

import argparse
import os
import pwd
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import structlog

from edge_agent.adapters.bay_erasing import BayErasing, settle_bay_folder
from edge_agent.adapters.bay_mounts import BayMounts, Reader
from edge_agent.adapters.mount_service import MountService
from edge_agent.adapters.usb_tree import UsbTree
from edge_agent.mount_config import MountConfig
from protocol.envelope import keyring
from protocol.keys import KeyId, VerifyingKey
from runtime.errors import RuntimeFault, SettingsError
from runtime.keys import load_certificate_key
from runtime.logs import configure
from runtime.service import notify
from runtime.settings import load_toml

_DEFAULT_CONFIG: Final = Path("/etc/bayward/edge.toml")
_PROBLEM: Final = 1
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
# What hangs keeps its own bay, and is not waited for: systemd waits 90 s until this program ends.
_SETTLE_S: Final = 5.0
_ENDING_S: Final = 60.0

_log = structlog.get_logger(__name__)

_EXAMPLES: Final = """\
examples:
  edge-mount                              with /etc/bayward/edge.toml, as the systemd unit does
  edge-mount --config edge.toml           until Ctrl-C or SIGTERM
  edge-mount --may-erase                  also erases what the archive has receipts for

It mounts what is in a bay of the source "usb", read-only, when edge-agent's user asks for that bay
by its number. It takes no path and no device from anybody. To be run as root.

With --may-erase, and only where the site's registry says so, it erases footage from a recorder
that the archive has given signed receipts for: docs/erasing.md.

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
    parser.add_argument(
        "--may-erase", action="store_true", help="let archived footage be erased from recorders"
    )
    options = parser.parse_args(arguments)
    try:
        config = load_toml(options.config, MountConfig)
        _serve(config, options.config, may_erase=options.may_erase)
    except (SettingsError, RuntimeFault) as error:
        print(f"edge-mount: {error.code}: {error}", file=sys.stderr)
        return _PROBLEM
    except (KeyError, ZoneInfoNotFoundError, OSError, ValueError) as error:
        print(f"edge-mount: {error}", file=sys.stderr)
        return _PROBLEM
    return 0


def _serve(config: MountConfig, path: Path, *, may_erase: bool) -> None:
    configure(json=True, level="info")
    user = pwd.getpwnam(config.mount.user)
    zone = ZoneInfo(config.timezone)
    usb_bays = {bay.number: bay.ports for bay in config.bays if bay.ports is not None}
    mounts = BayMounts(
        usb_bays,
        tree=UsbTree(),
        folder=config.mount.folder,
        reader=Reader(uid=user.pw_uid, gid=user.pw_gid, zone=zone),
        clock=_utc_now,
    )
    folder = config.mount.folder.with_name("erasing")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    # First of all: nothing that an earlier run left can be written to, whatever else is wrong.
    settle_erasing = [partial(settle_bay_folder, one) for one in folder.iterdir()]
    settle_mounts = [partial(mounts.settle, bay) for bay in usb_bays]
    each_by_itself(settle_erasing, patience_s=_SETTLE_S)
    each_by_itself(settle_mounts, patience_s=_SETTLE_S)
    erasing = BayErasing(
        mounts,
        folder,
        owner=Reader(uid=os.geteuid(), gid=os.getegid(), zone=zone),
        archive_keys=_archive_keys(config, path) if may_erase else {},
        clock=_utc_now,
    )
    config.mount.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    service = MountService(
        config.mount.socket,
        client_uid=user.pw_uid,
        client_gid=user.pw_gid,
        mount=mounts.mount,
        detach=mounts.detach,
        erase=erasing.erase if may_erase else None,
    )

    def stop(_number: int, _frame: FrameType | None) -> None:
        erasing.stop()
        service.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    notify("READY=1")
    service.serve()
    notify("STOPPING=1")
    # Each bay is settled when what goes on in it has ended.
    each_by_itself(settle_mounts, patience_s=_ENDING_S)
    each_by_itself(
        [partial(settle_bay_folder, one) for one in folder.iterdir()], patience_s=_SETTLE_S
    )


def each_by_itself(acts: Iterable[Callable[[], None]], *, patience_s: float) -> None:
    """Do things side by side; return when all have ended, or what hangs has been waited for.

    Args:
        acts: One for each bay; what one of them cannot do to its bay is logged.
        patience_s: For all of them together. What hangs goes on, and keeps its own bay.
    """
    threads = [threading.Thread(target=_try, args=(act,), daemon=True) for act in acts]
    for thread in threads:
        thread.start()
    deadline_s = time.monotonic() + patience_s
    for thread in threads:
        thread.join(timeout=max(0.0, deadline_s - time.monotonic()))
    hanging = sum(thread.is_alive() for thread in threads)
    if hanging:
        _log.error("not waited for any longer", bays=hanging)


def _try(act: Callable[[], None]) -> None:
    try:
        act()
    except OSError as error:
        _log.error("a bay is not settled", reason=str(error))


def _archive_keys(config: MountConfig, path: Path) -> Mapping[KeyId, VerifyingKey]:
    """Return the key that signs receipts; it must be the machine's, not edge-agent's own.

    Raises:
        SettingsError: There is none, or others may replace it.
    """
    if config.archive is None:
        raise SettingsError(path, key_path="$.archive", problem="with --may-erase it is needed")
    certificate = config.archive.signing_certificate
    found = certificate.stat()
    if found.st_uid != os.geteuid() or found.st_mode & _OTHERS_WRITE:
        problem = f"{certificate} has to belong to root, and nobody else may write to it"
        raise SettingsError(path, key_path="$.archive.signing_certificate", problem=problem)
    return keyring(load_certificate_key(certificate))


def _utc_now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    sys.exit(main())
