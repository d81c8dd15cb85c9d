"""The driver of recorders that are a disk at once and have no control channel: the default."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from edge_agent.drivers.driver import Link, Unsupported, Verb


@dataclass(frozen=True, slots=True)
class MassStorageDriver:
    """Recorders that only their volume tells about."""

    name: str = "mass-storage"
    baud: int | None = None

    def open(self, link: Link) -> "MassStorageSession":  # noqa: ARG002 - there is nothing to talk over
        """Begin a conversation in which nothing is ever sent."""
        return MassStorageSession()


class MassStorageSession:
    """Tells of each verb that there is none."""

    def identify(self) -> Unsupported:
        """The volume identifies it: see edge_agent.ingest.identity."""
        return Unsupported(verb=Verb.IDENTIFY)

    def read_user_information(self) -> Unsupported:
        """The profile of its volume may."""
        return Unsupported(verb=Verb.READ_USER_INFORMATION)

    def read_clock(self) -> Unsupported:
        """File times are all there is."""
        return Unsupported(verb=Verb.READ_CLOCK)

    def set_clock(self, local: datetime) -> Unsupported:  # noqa: ARG002 - RecorderSession's signature
        """A person sets it."""
        return Unsupported(verb=Verb.SET_CLOCK)

    def read_battery(self) -> Unsupported:
        """Nothing tells."""
        return Unsupported(verb=Verb.READ_BATTERY)

    def read_resolution(self) -> Unsupported:
        """The footage tells, at the archive."""
        return Unsupported(verb=Verb.READ_RESOLUTION)

    def enter_disk_mode(self) -> Unsupported:
        """It is a disk at once."""
        return Unsupported(verb=Verb.ENTER_DISK_MODE)

    def leave_disk_mode(self) -> Unsupported:
        """It is a disk until it is taken out."""
        return Unsupported(verb=Verb.LEAVE_DISK_MODE)

    def set_indicator(self, *, on: bool) -> Unsupported:  # noqa: ARG002 - RecorderSession's signature
        """It has its own idea of its lamp."""
        return Unsupported(verb=Verb.SET_INDICATOR)

    def read_network_settings(self) -> Unsupported:
        """Nothing tells."""
        return Unsupported(verb=Verb.READ_NETWORK_SETTINGS)

    def export_log(self) -> Unsupported:
        """If it has one, it is a file on its volume."""
        return Unsupported(verb=Verb.EXPORT_LOG)


DRIVER: Final = MassStorageDriver()
