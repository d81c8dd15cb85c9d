"""What every recorder driver keeps, as tests for a vendor to run on his own.

Inherit `DriverContract` in a test module, give it the driver and a link to a recorder, simulated or
real, and run pytest. docs/recorder-drivers.md has an example. Hostile ports are in here: they need
no recorder and no time.
"""

import errno
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from edge_agent.drivers.driver import (
    HIGHEST_BATTERY_PERCENT,
    MAX_LOG_BYTES,
    Battery,
    ClockReading,
    DevicePassword,
    Link,
    NetworkSettings,
    RecorderDriver,
    RecorderIdentity,
    RecorderLog,
    RecorderSession,
    Resolution,
    SerialPort,
    Unsupported,
    Verb,
)
from edge_agent.drivers.user_information import UserInformation
from edge_agent.errors import DriverError, NoAnswerError, PortFailedError

_NAME: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_NOON: Final = datetime(2026, 11, 21, 12, 0)  # noqa: DTZ001 - a recorder's clock has no zone
_SECRET: Final = b"contract-secret"
# A verb may take several answers, each within its time; a log takes the longest.
_LONGEST_S: Final = 600.0
_BYTE_S: Final = 10 / 115_200

ASK: Final[Mapping[Verb, Callable[[RecorderSession], object]]] = MappingProxyType(
    {
        Verb.IDENTIFY: lambda session: session.identify(),
        Verb.READ_USER_INFORMATION: lambda session: session.read_user_information(),
        Verb.READ_CLOCK: lambda session: session.read_clock(),
        Verb.SET_CLOCK: lambda session: session.set_clock(_NOON),
        Verb.READ_BATTERY: lambda session: session.read_battery(),
        Verb.READ_RESOLUTION: lambda session: session.read_resolution(),
        Verb.SET_INDICATOR: lambda session: session.set_indicator(on=True),
        Verb.READ_NETWORK_SETTINGS: lambda session: session.read_network_settings(),
        Verb.EXPORT_LOG: lambda session: session.export_log(),
        Verb.ENTER_DISK_MODE: lambda session: session.enter_disk_mode(),
        Verb.LEAVE_DISK_MODE: lambda session: session.leave_disk_mode(),
    }
)
TYPES: Final[Mapping[Verb, type]] = MappingProxyType(
    {
        Verb.IDENTIFY: RecorderIdentity,
        Verb.READ_USER_INFORMATION: UserInformation,
        Verb.READ_CLOCK: ClockReading,
        Verb.SET_CLOCK: type(None),
        Verb.READ_BATTERY: Battery,
        Verb.READ_RESOLUTION: Resolution,
        Verb.SET_INDICATOR: type(None),
        Verb.READ_NETWORK_SETTINGS: NetworkSettings,
        Verb.EXPORT_LOG: RecorderLog,
        Verb.ENTER_DISK_MODE: type(None),
        Verb.LEAVE_DISK_MODE: type(None),
    }
)


class _HostilePort:
    """A port with nothing good behind it, on a time of its own.

    Attributes:
        elapsed_s: How long was waited so far.
    """

    def __init__(self, answer: Callable[[bytes, int], bytes]) -> None:
        """Answer each read with what *answer* makes of the last request and the size."""
        self.elapsed_s = 0.0
        self._answer = answer
        self._request = b""

    def monotonic_s(self) -> float:
        return self.elapsed_s

    def read(self, size: int, timeout_s: float) -> bytes:
        data = self._answer(self._request, size)
        self.elapsed_s += len(data) * _BYTE_S if data else timeout_s
        return data

    def write(self, data: bytes) -> None:
        self._request = data

    def close(self) -> None:
        pass


class _GonePort(_HostilePort):
    """A port that is gone, at once or after a request was written."""

    def __init__(self, *, on_write: bool) -> None:
        super().__init__(_always(b""))
        self._on_write = on_write
        self._is_gone = False

    def read(self, size: int, timeout_s: float) -> bytes:
        if self._is_gone:
            raise OSError(errno.EIO, "gone")
        return super().read(size, timeout_s)

    def write(self, data: bytes) -> None:
        self._is_gone = True
        if self._on_write:
            raise OSError(errno.EIO, "gone")
        super().write(data)


class _OneByteReads:
    """A port as it is, read a byte at a time."""

    def __init__(self, port: SerialPort) -> None:
        self._port = port

    def read(self, size: int, timeout_s: float) -> bytes:
        return self._port.read(min(size, 1), timeout_s)

    def write(self, data: bytes) -> None:
        self._port.write(data)

    def close(self) -> None:
        self._port.close()


class DriverContract(ABC):
    """The contract of one driver.

    Attributes:
        driver: The driver.
    """

    driver: RecorderDriver

    @abstractmethod
    def link(self) -> Link:
        """Return a link to a recorder that answers, new for each test, with its password.

        Its port may be a real one. Tests set its clock and have it enter and leave disk mode.
        """

    def test_it_is_a_driver(self) -> None:
        """A driver has a name of lower case letters, digits and hyphens, and a speed or none."""
        assert isinstance(self.driver, RecorderDriver)
        assert _NAME.fullmatch(self.driver.name)
        assert self.driver.baud is None or self.driver.baud > 0

    def test_every_verb_gives_its_type_or_is_unsupported(self) -> None:
        """No verb gives anything else, and what is unsupported names the verb that was asked."""
        session = self.driver.open(self.link())

        for verb, ask in ASK.items():
            _check_told(verb, ask(session))

    def test_answers_in_single_bytes(self) -> None:
        """How the bytes are split changes nothing."""
        link = self.link()
        port = _OneByteReads(link.port)
        session = self.driver.open(
            Link(
                port=port,
                monotonic_s=link.monotonic_s,
                session_number=link.session_number,
                password=link.password,
                answer_timeout_s=link.answer_timeout_s,
            )
        )

        for verb, ask in ASK.items():
            _check_told(verb, ask(session))

    def test_it_stays_the_same_recorder(self) -> None:
        """Asked again, a recorder is the same, and so is its user."""
        session = self.driver.open(self.link())

        assert session.identify() == session.identify()
        assert session.read_user_information() == session.read_user_information()

    def test_the_clock_that_was_set_is_read(self) -> None:
        """A clock that was set tells that time, or a moment later."""
        session = self.driver.open(self.link())

        if isinstance(session.set_clock(_NOON), Unsupported):
            return
        reading = session.read_clock()
        if isinstance(reading, Unsupported):
            return
        assert reading.local is not None
        assert timedelta(0) <= reading.local - _NOON < timedelta(seconds=10)

    def test_disk_mode_twice_is_disk_mode(self) -> None:
        """Entering and leaving again changes nothing and is no error."""
        session = self.driver.open(self.link())

        assert session.enter_disk_mode() == session.enter_disk_mode()
        assert session.leave_disk_mode() == session.leave_disk_mode()

    def test_silence_ends(self) -> None:
        """Of a recorder that says nothing each verb says so, after a while."""
        for verb, ask in ASK.items():
            port = _HostilePort(_always(b""))
            told = _told_by(self.driver, port, ask)
            assert _is_unsupported(told, verb) or isinstance(told, NoAnswerError), (verb, told)
            assert port.elapsed_s < _LONGEST_S, verb

    def test_noise_is_never_an_answer(self) -> None:
        """A line that is nothing but noise ends each verb with a driver's error."""
        for pattern in (b"\0", b"\xff", b"U\xaa", bytes(range(256)), b"\0\1\2\3E12DAT"):
            for verb, ask in ASK.items():
                noise = pattern * (4096 // len(pattern))
                port = _HostilePort(_always(noise))
                told = _told_by(self.driver, port, ask)
                assert _is_unsupported(told, verb) or isinstance(told, DriverError), (verb, told)
                assert port.elapsed_s < _LONGEST_S, verb

    def test_an_echo_is_never_an_answer(self) -> None:
        """A line that sends back what was sent has no recorder on it."""
        for verb, ask in ASK.items():
            port = _HostilePort(lambda request, size: request[:size])
            told = _told_by(self.driver, port, ask)
            assert _is_unsupported(told, verb) or isinstance(told, DriverError), (verb, told)
            assert port.elapsed_s < _LONGEST_S, verb

    def test_a_port_that_is_gone_is_told_so(self) -> None:
        """No OSError comes out of a driver, and it knows whether the request was sent."""
        for on_write in (True, False):
            for verb, ask in ASK.items():
                told = _told_by(self.driver, _GonePort(on_write=on_write), ask)
                if _is_unsupported(told, verb):
                    continue
                assert isinstance(told, PortFailedError), (verb, told)
                assert told.request_sent is not on_write, verb

    def test_no_error_shows_the_password(self) -> None:
        """Whatever goes wrong, no message has the password in it."""
        for answer in (b"", b"\0", b"\xff" * 64):
            for ask in ASK.values():
                port = _HostilePort(_always(answer))
                told = _told_by(self.driver, port, ask)
                assert _SECRET.decode() not in f"{told!r} {told}"


def _always(data: bytes) -> Callable[[bytes, int], bytes]:
    return lambda _request, size: data[:size]


def _told_by(
    driver: RecorderDriver, port: _HostilePort, ask: Callable[[RecorderSession], object]
) -> object:
    """Return what a verb gave, or the driver's error that it raised."""
    link = Link(
        port=port,
        monotonic_s=port.monotonic_s,
        session_number=1,
        password=DevicePassword(_SECRET),
    )
    try:
        return ask(driver.open(link))
    except DriverError as error:
        return error


def _check_told(verb: Verb, told: object) -> None:
    assert _is_unsupported(told, verb) or isinstance(told, TYPES[verb]), (verb, told)
    if isinstance(told, RecorderIdentity):
        assert told.serial.text
        assert told.serial.is_printable
    if isinstance(told, Battery):
        assert 0 <= told.charge_percent <= HIGHEST_BATTERY_PERCENT
    if isinstance(told, Resolution):
        assert min(told.width_px, told.height_px) > 0
    if isinstance(told, RecorderLog):
        assert len(told.content) <= MAX_LOG_BYTES


def _is_unsupported(told: object, verb: Verb) -> bool:
    return isinstance(told, Unsupported) and told.verb is verb
