"""What tells whether a recorder is in a bay, as the configuration has it, and what that needs."""

import os
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from edge_agent.adapters.clock_store import ClockStore
from edge_agent.adapters.directory_presence import DirectoryPresence
from edge_agent.adapters.installed_drivers import load_driver
from edge_agent.adapters.mount_client import MountClient
from edge_agent.adapters.presence import Presence
from edge_agent.adapters.recorder_logs import RecorderLogs
from edge_agent.adapters.recorder_talk import RecorderTalk, TalkSettings
from edge_agent.adapters.talking_presence import TalkingPresence
from edge_agent.adapters.usb_presence import UsbPresence
from edge_agent.adapters.usb_tree import UsbTree
from edge_agent.config import Bay, Check, EdgeConfig
from edge_agent.drivers.driver import DevicePassword
from edge_agent.errors import DriverError
from edge_agent.one_thread import OneThread

MakePresence = Callable[[OneThread, Callable[[], bool]], Presence]

# Of a file of systemd's that may end with the newline that an editor adds.
_LINE_END: Final = b"\r\n"


def presence_maker(
    config: EdgeConfig, bay: Bay, clocks: ClockStore, clock: Callable[[], datetime]
) -> MakePresence:
    """Return what makes the bay's presence, given its thread and whether it is relied on.

    Raises:
        DriverError: The bay's driver cannot be loaded.
        OSError: Its password cannot be read.
    """
    tree = UsbTree()
    volumes = partial(_volumes, config, bay, tree)
    if load_driver(bay.driver).baud is None:
        return volumes
    logs = RecorderLogs(logs_folder(config))
    settings = TalkSettings(
        driver=bay.driver,
        zone=ZoneInfo(config.timezone),
        password=_password(bay),
        keep_log=partial(logs.keep, bay=bay.number) if bay.recorder_log else None,
    )

    def make(thread: OneThread, is_relied_on: Callable[[], bool]) -> Presence:
        return TalkingPresence(
            volumes(thread, is_relied_on),
            partial(_port, bay, tree),
            RecorderTalk(settings, thread, clocks, clock=clock),
            thread,
        )

    return make


def logs_folder(config: EdgeConfig) -> Path:
    """Return where recorders' own logs are kept."""
    return config.storage.journal.parent / "recorder-logs"


def check_drivers(bays: Iterable[Bay]) -> tuple[Check, ...]:
    """Return for each bay whether its recorders can be talked to as the configuration says."""
    return tuple(_checks(bays))


def _checks(bays: Iterable[Bay]) -> Iterator[Check]:
    for bay in bays:
        problem, remedy = _wrong(bay) or (None, None)
        yield Check(name=f"driver of bay {bay.number}", problem=problem, remedy=remedy)


def _wrong(bay: Bay) -> tuple[str, str] | None:
    """Return what is wrong with a bay's driver, and what to do about it."""
    try:
        driver = load_driver(bay.driver)
    except DriverError as error:
        return f"{error.code}: {error}", "correct `driver`, or install the vendor's driver"
    if driver.baud is not None and bay.source == "directory" and bay.control is None:
        return f"{bay.driver} talks over a serial port", "name it with `control`"
    if driver.baud is None and (bay.control or bay.password_credential or bay.recorder_log):
        return f"{bay.driver} talks over no port", "name a `driver`, or drop the other keys"
    try:
        _password(bay)
    except OSError as error:
        return (
            f"the credential {bay.password_credential!r} cannot be read: {error.strerror}",
            "give it to the service with LoadCredential= or LoadCredentialEncrypted=",
        )
    return None


def _password(bay: Bay) -> DevicePassword | None:
    if bay.password_credential is None:
        return None
    folder = Path(os.environ.get("CREDENTIALS_DIRECTORY", "/nonexistent"))
    secret = (folder / bay.password_credential).read_bytes()
    return DevicePassword(secret.rstrip(_LINE_END))


def _volumes(
    config: EdgeConfig,
    bay: Bay,
    tree: UsbTree,
    thread: OneThread,
    is_relied_on: Callable[[], bool],
) -> Presence:
    if bay.path is not None:
        return DirectoryPresence(bay.path, thread, is_relied_on=is_relied_on)
    return UsbPresence(
        bay.ports or (),
        thread,
        tree=tree,
        client=MountClient(config.mount.socket, bay.number),
        folder=config.mount.folder / str(bay.number),
    )


def _port(bay: Bay, tree: UsbTree) -> Path | None:
    if bay.control is not None:
        return bay.control
    names = tree.serial_ports_at(bay.ports or ())
    return Path("/dev") / names[0] if names else None
