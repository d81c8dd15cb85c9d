"""What a recorder driver is, and what it may be asked.

A driver knows one control protocol. It gets a `Link`, never a path or a device, and gives typed
values. What a driver or a recorder cannot do is told with `Unsupported`, which is no error.
docs/recorder-drivers.md says how to add one.
"""

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, unique
from typing import Final, NoReturn, Protocol, TypeAlias, TypeVar, final, runtime_checkable

from edge_agent.drivers.device_text import DeviceText
from edge_agent.drivers.user_information import UserInformation

T = TypeVar("T")

HIGHEST_BATTERY_PERCENT: Final = 100
# A choice: a recorder's log is some hundred KB of text; a dock keeps one in memory.
MAX_LOG_BYTES: Final = 1 << 20
HIGHEST_SESSION_NUMBER: Final = 0xFFFF


@unique
class Verb(Enum):
    """What a recorder can be asked."""

    IDENTIFY = "identify"
    READ_USER_INFORMATION = "read-user-information"
    READ_CLOCK = "read-clock"
    SET_CLOCK = "set-clock"
    READ_BATTERY = "read-battery"
    READ_RESOLUTION = "read-resolution"
    ENTER_DISK_MODE = "enter-disk-mode"
    LEAVE_DISK_MODE = "leave-disk-mode"
    SET_INDICATOR = "set-indicator"
    READ_NETWORK_SETTINGS = "read-network-settings"
    EXPORT_LOG = "export-log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsupported:
    """This driver, or this recorder, does not have the verb."""

    verb: Verb


Told: TypeAlias = T | Unsupported


@final
class DevicePassword:
    """A recorder's password; whatever prints it shows that there is one, not which."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def reveal(self) -> bytes:
        """Return the password: for the one place that computes or sends what proves it."""
        return self._secret

    def __repr__(self) -> str:
        return "DevicePassword(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a device password is not copied or pickled")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderIdentity:
    """Which recorder answers, by its own word; whether the site knows it is another question.

    Attributes:
        serial: Printable and not blank: an answer without is none.
        type_code: Names the type (IDCode), not the unit; blank where the protocol has none.
    """

    serial: DeviceText
    type_code: DeviceText
    model: DeviceText
    firmware: DeviceText


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockReading:
    """A recorder's clock.

    Attributes:
        untrusted_text: As it came.
        local: What it says: local time, no zone. None if there is no such time.
    """

    untrusted_text: bytes
    local: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Battery:
    """How full the battery is: 0 to 100."""

    charge_percent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """The size of the picture that is recorded; both at least 1."""

    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """The recorder's own way to a network; on a recorder that obeys the rules all are blank."""

    wifi_name: DeviceText
    access_point_name: DeviceText
    server: DeviceText

    @property
    def is_blank(self) -> bool:
        """Whether it could reach nothing by itself."""
        return all(one.is_blank for one in (self.wifi_name, self.access_point_name, self.server))


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderLog:
    """The recorder's own log, exact bytes.

    Attributes:
        content: At most MAX_LOG_BYTES, from the beginning.
        is_complete: False if there was more, or it stopped coming.
    """

    content: bytes
    is_complete: bool


class SerialPort(Protocol):
    """An open serial port, used by one thread."""

    def read(self, size: int, timeout_s: float) -> bytes:
        """Return 1 to *size* bytes as soon as there are any; b"" when the time is up.

        Raises:
            OSError: The port failed or is gone.
        """

    def write(self, data: bytes) -> None:
        """Write all of *data*.

        Raises:
            OSError: The port failed, is gone, or takes nothing.
        """

    def close(self) -> None:
        """Let go of the port; again is harmless."""


@final
class NoPort:
    """The port of a recorder that has none."""

    def read(self, size: int, timeout_s: float) -> bytes:  # noqa: ARG002 - SerialPort's signature
        """There is nothing to read from."""
        raise OSError(errno.ENODEV, "no serial port")

    def write(self, data: bytes) -> None:  # noqa: ARG002 - SerialPort's signature
        """There is nothing to write to."""
        raise OSError(errno.ENODEV, "no serial port")

    def close(self) -> None:
        """There is nothing to close."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What a driver gets to talk over.

    Attributes:
        port: Open; whoever opened it closes it.
        monotonic_s: A clock for timeouts.
        session_number: 0 to 65,535, another one each time: by it a late answer is known.
        password: The recorder's, if it has one.
        answer_timeout_s: How long one answer may take, from the request to its last byte.
    """

    port: SerialPort
    monotonic_s: Callable[[], float]
    session_number: int
    password: DevicePassword | None = field(default=None)
    answer_timeout_s: float = 2.0


class RecorderSession(Protocol):
    """A conversation with one recorder. Every verb blocks for a bounded time.

    Each raises `edge_agent.errors.DriverError` if it could not be finished, and nothing else.
    """

    def identify(self) -> Told[RecorderIdentity]:
        """Ask which recorder this is."""

    def read_user_information(self) -> Told[UserInformation]:
        """Ask whose it is."""

    def read_clock(self) -> Told[ClockReading]:
        """Ask what time it has."""

    def set_clock(self, local: datetime) -> Told[None]:
        """Set its clock to *local*: no zone, whole seconds count."""

    def read_battery(self) -> Told[Battery]:
        """Ask how full its battery is."""

    def read_resolution(self) -> Told[Resolution]:
        """Ask what it records at."""

    def enter_disk_mode(self) -> Told[None]:
        """Have it appear as a disk, soon; again is harmless."""

    def leave_disk_mode(self) -> Told[None]:
        """Have its disk go away; again is harmless."""

    def set_indicator(self, *, on: bool) -> Told[None]:
        """Light the lamp by which a person finds it, or put it out."""

    def read_network_settings(self) -> Told[NetworkSettings]:
        """Ask by which networks it would connect by itself."""

    def export_log(self) -> Told[RecorderLog]:
        """Take its log."""


@runtime_checkable
class RecorderDriver(Protocol):
    """One control protocol, by the name under which it is installed."""

    @property
    def name(self) -> str:
        """Lower case, digits and hyphens."""

    @property
    def baud(self) -> int | None:
        """The port's speed in bit/s, 8N1; None: no port, it gets `NoPort`."""

    def open(self, link: Link) -> RecorderSession:
        """Begin a conversation; nothing is sent yet."""
