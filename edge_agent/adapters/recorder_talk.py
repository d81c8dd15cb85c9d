"""The talk with the recorder in one bay, over its serial port, in the bay's own thread."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol
from zoneinfo import ZoneInfo

import structlog

from edge_agent.adapters.clock_store import ClockStore, NotedClock
from edge_agent.adapters.installed_drivers import load_driver
from edge_agent.adapters.pyserial_port import PyserialPort
from edge_agent.drivers.device_text import DeviceText
from edge_agent.drivers.dialog import (
    DialogResult,
    Limits,
    Outcome,
    Step,
    StepReport,
    Surroundings,
    hold_dialog,
)
from edge_agent.drivers.drift import ClockDrift
from edge_agent.drivers.driver import (
    HIGHEST_SESSION_NUMBER,
    DevicePassword,
    Link,
    NetworkSettings,
    RecorderIdentity,
    RecorderLog,
)
from edge_agent.errors import DialogStoppedError, PortFailedError
from edge_agent.ingest.told import Told
from edge_agent.one_thread import OneThread

_MAX_TEXT: Final = 256

_log = structlog.get_logger(__name__)


class KeepLog(Protocol):
    """As `edge_agent.adapters.recorder_logs.RecorderLogs.keep`, of one bay."""

    def __call__(self, log: RecorderLog, *, serial: str, at: datetime) -> Path:
        """Keep it; OSError if our disk failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TalkSettings:
    """How recorders in a bay are talked to.

    Attributes:
        driver: By name; one that needs a port.
        limits: How patient the dialog is.
        keep_log: Keeps a recorder's own log; None where nobody wants it.
    """

    driver: str
    zone: ZoneInfo
    password: DevicePassword | None = None
    limits: Limits | None = None
    keep_log: KeepLog | None = None


class RecorderTalk:
    """Holds the docking dialog of `edge_agent.drivers.dialog`."""

    def __init__(
        self,
        settings: TalkSettings,
        thread: OneThread,
        clocks: ClockStore,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        """Say nothing yet.

        Args:
            settings: Of the bay.
            thread: The bay's own.
            clocks: Where a clock is noted before it is set.
            clock: The dock's; aware.
        """
        self._settings = settings
        self._thread = thread
        self._clocks = clocks
        self._clock = clock

    async def hold(self, port: Path, report: Callable[[StepReport], None]) -> Told:
        """Talk until the recorder has been told to become a disk.

        Args:
            port: Its serial port.
            report: Called in the event loop for each step that is over.

        Raises:
            DriverError: The driver cannot be loaded, or the port not opened.
            DialogStoppedError: A step failed without which there is no volume.
            sqlite3.Error: The journal failed; the clock was not set.
        """
        return await self._thread.run(lambda: self._hold(port, report))

    def _hold(self, path: Path, report: Callable[[StepReport], None]) -> Told:
        settings, driver = self._settings, load_driver(self._settings.driver)
        if driver.baud is None:
            raise PortFailedError(f"{driver.name} talks over no port", request_sent=False)
        noted: list[NotedClock] = []

        def tell(step: StepReport) -> None:
            self._thread.stop_if_asked()
            self._thread.tell(lambda: report(step))

        def note(identity: RecorderIdentity | None, drift: ClockDrift) -> None:
            noted.append(self._note(identity, drift))

        around = Surroundings(
            utc=self._clock,
            monotonic_s=time.monotonic,
            sleep=time.sleep,
            zone=settings.zone,
            report=tell,
            note_drift=note,
        )
        with PyserialPort.open(path, baud=driver.baud) as port:
            link = Link(
                port=port,
                monotonic_s=time.monotonic,
                session_number=secrets.randbelow(HIGHEST_SESSION_NUMBER + 1),
                password=settings.password,
            )
            result = hold_dialog(
                driver.open(link),
                around,
                is_log_wanted=settings.keep_log is not None,
                limits=settings.limits,
            )
        self._keep_log(result)
        if result.stopped is not None:
            stopped = result.stopped
            raise DialogStoppedError(f"{stopped.step.value}: {stopped.code}")
        return _told(driver.name, result, noted[0] if noted else None)

    def _keep_log(self, result: DialogResult) -> None:
        """Keep what the recorder logged; our disk, failing at it, keeps no footage from us."""
        if self._settings.keep_log is None or result.log is None:
            return
        serial = "" if result.identity is None else result.identity.serial.text
        try:
            path = self._settings.keep_log(result.log, serial=serial, at=self._clock())
        except OSError as error:
            _log.warning("a recorder's log was not kept", serial=repr(serial), reason=str(error))
        else:
            _log.info("a recorder's log was kept", file=path.name, bytes=len(result.log.content))

    def _note(self, identity: RecorderIdentity | None, drift: ClockDrift) -> NotedClock:
        """Keep durably how far the clock is off; of one without a serial number, under none."""
        drift_ms = None if drift.drift_s is None else round(drift.drift_s * 1000)
        reading = NotedClock(recorder_time=drift.local, drift_ms=drift_ms)
        serial = "" if identity is None else identity.serial.text
        at_ms = int(drift.at_utc.timestamp() * 1000)
        return self._thread.wait_for(self._clocks.note(serial, reading, at_ms=at_ms))


def _told(driver: str, result: DialogResult, clock: NotedClock | None) -> Told:
    done = {one.step for one in result.steps if one.outcome is Outcome.DONE}
    failed = (one for one in result.steps if one.outcome is Outcome.FAILED)
    user = result.user_information
    return Told(
        driver=driver,
        serial=None if result.identity is None else _text(result.identity.serial),
        officer=None if user is None else _text(user.user_number),
        recorder_time=None if clock is None else clock.recorder_time,
        drift_ms=None if clock is None else clock.drift_ms,
        is_clock_set={Step.SET_CLOCK, Step.CHECK_CLOCK} <= done,
        battery_percent=None if result.battery is None else result.battery.charge_percent,
        networks=_networks(result.network_settings),
        failed=tuple(f"{one.step.value}: {one.code}" for one in failed),
    )


def _networks(settings: NetworkSettings | None) -> tuple[str, ...]:
    if settings is None:
        return ()
    named = {
        "Wi-Fi": settings.wifi_name,
        "access point": settings.access_point_name,
        "server": settings.server,
    }
    return tuple(f"{name} {one.text[:100]!r}" for name, one in named.items() if not one.is_blank)


def _text(said: DeviceText) -> str | None:
    """Return what can be compared: printable and not blank."""
    return said.text[:_MAX_TEXT] if said.is_printable and said.text.strip() else None
