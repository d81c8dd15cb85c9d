"""The talk that the dock has with a recorder before its footage is read, step by step.

Its order matters: how far the clock is off is noted before the clock is set, because afterwards
nobody can find out. Diagram: docs/recorder-protocol.md, "The docking dialog".
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, tzinfo
from enum import Enum, unique
from typing import Final, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception
from tenacity.wait import wait_fixed

from edge_agent.drivers.drift import ClockDrift, drift_of
from edge_agent.drivers.driver import (
    Battery,
    NetworkSettings,
    RecorderIdentity,
    RecorderLog,
    RecorderSession,
    Told,
    Unsupported,
)
from edge_agent.drivers.user_information import UserInformation
from edge_agent.errors import DriverError, NoAnswerError, PortFailedError

T = TypeVar("T")

CLOCK_NOT_KEPT: Final = "E-DRV-109"
OUT_OF_TIME: Final = "E-DRV-111"
# The word for "soon"; the core does not import the package that it is from.
_SOON: Final = NoAnswerError.retry


@unique
class Step(Enum):
    """The steps, in their order."""

    IDENTIFY = "identify"
    READ_USER_INFORMATION = "read-user-information"
    READ_CLOCK = "read-clock"
    NOTE_DRIFT = "note-drift"
    SET_CLOCK = "set-clock"
    CHECK_CLOCK = "check-clock"
    READ_BATTERY = "read-battery"
    READ_NETWORK_SETTINGS = "read-network-settings"
    SET_INDICATOR = "set-indicator"
    EXPORT_LOG = "export-log"
    ENTER_DISK_MODE = "enter-disk-mode"


# Without these there is nothing to read; whatever else fails, the footage is taken.
ESSENTIAL: Final = frozenset({Step.IDENTIFY, Step.ENTER_DISK_MODE})


@unique
class Outcome(Enum):
    """How a step went.

    UNCONFIRMED: the recorder left while it was asked for disk mode; whether it obeyed, its volume
    will show. SKIPPED: a step before it makes it impossible, or the time is used up.
    """

    DONE = "done"
    UNSUPPORTED = "unsupported"
    UNCONFIRMED = "unconfirmed"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """One step, over.

    Attributes:
        code: The E-code of a step that failed, is unconfirmed, or was skipped for want of time.
        duration_s: All tries, and the pauses between them.
        tries: 0 if it was skipped.
    """

    step: Step
    outcome: Outcome
    code: str | None
    duration_s: float
    tries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How patient the dock is.

    Attributes:
        tries: Of each step, at least 1; only errors that may pass by themselves are tried again.
        pause_s: Between two tries.
        total_s: No optional step begins later than this; disk mode is entered still.
        kept_clock_s: A clock that was set may be off by this much.
    """

    tries: int = 3
    pause_s: float = 0.5
    total_s: float = 60.0
    kept_clock_s: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The world that the dialog is held in.

    Attributes:
        utc: The dock's clock, with its zone.
        monotonic_s: A clock that only goes forward.
        sleep: Waits for so many seconds.
        zone: Where recorders are worn.
        report: Is told each step when it is over.
        note_drift: Keeps the drift of the recorder that was identified, if it was, durably, before
            the clock is set. What it raises ends the dialog, and the clock stays as it was.
    """

    utc: Callable[[], datetime]
    monotonic_s: Callable[[], float]
    sleep: Callable[[float], None]
    zone: tzinfo
    report: Callable[[StepReport], None]
    note_drift: Callable[[RecorderIdentity | None, ClockDrift], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DialogResult:
    """What was found out; None is what was not.

    Attributes:
        stopped: The essential step that failed: there will be no volume to read.
        drift: Before the clock was set.
        drift_after: After it.
    """

    steps: tuple[StepReport, ...]
    stopped: StepReport | None
    identity: RecorderIdentity | None = None
    user_information: UserInformation | None = None
    drift: ClockDrift | None = None
    drift_after: ClockDrift | None = None
    battery: Battery | None = None
    network_settings: NetworkSettings | None = None
    log: RecorderLog | None = None


def hold_dialog(
    session: RecorderSession,
    around: Surroundings,
    *,
    is_log_wanted: bool = False,
    limits: Limits | None = None,
) -> DialogResult:
    """Ask a recorder all that the dock wants to know, and have it become a disk; blocking.

    A step that fails stops nothing but what depends on it; identify and disk mode stop the dialog.
    A clock that could not be read is not set: how far it was off would be lost.

    Raises:
        Exception: What `report` or `note_drift` raised; no error of the recorder's.
    """
    talk = _Talk(session, around, limits or Limits())
    identity = talk.take(Step.IDENTIFY, session.identify)
    if talk.stopped is not None:
        return DialogResult(steps=tuple(talk.reports), stopped=talk.stopped)
    user_information = talk.take(Step.READ_USER_INFORMATION, session.read_user_information)
    drift, drift_after = _settle_clock(talk, identity)
    battery = talk.take(Step.READ_BATTERY, session.read_battery)
    network_settings = talk.take(Step.READ_NETWORK_SETTINGS, session.read_network_settings)
    talk.take(Step.SET_INDICATOR, lambda: session.set_indicator(on=True))
    log = talk.take(Step.EXPORT_LOG, session.export_log) if is_log_wanted else None
    talk.take(Step.ENTER_DISK_MODE, session.enter_disk_mode)
    return DialogResult(
        steps=tuple(talk.reports),
        stopped=talk.stopped,
        identity=identity,
        user_information=user_information,
        drift=drift,
        drift_after=drift_after,
        battery=battery,
        network_settings=network_settings,
        log=log,
    )


class _Talk:
    """Takes steps and keeps their reports."""

    def __init__(self, session: RecorderSession, around: Surroundings, limits: Limits) -> None:
        self.session = session
        self.around = around
        self.limits = limits
        self.reports: list[StepReport] = []
        self._began_s = around.monotonic_s()

    @property
    def is_last_done(self) -> bool:
        """Whether the step that was taken last did what it should."""
        return self.reports[-1].outcome is Outcome.DONE

    @property
    def stopped(self) -> StepReport | None:
        """The essential step that failed."""
        failed = (one for one in self.reports if one.outcome is Outcome.FAILED)
        return next((one for one in failed if one.step in ESSENTIAL), None)

    def take(
        self,
        step: Step,
        ask: Callable[[], Told[T]],
        *,
        doubt: Callable[[T], str | None] = lambda _: None,
    ) -> T | None:
        """Ask as often as it helps, report, and return the answer; None if there is none.

        An answer that *doubt* has a code for is returned, and the step failed.
        """
        began_s = self.around.monotonic_s()
        if step not in ESSENTIAL and began_s - self._began_s > self.limits.total_s:
            self.skip(step, code=OUT_OF_TIME)
            return None
        retrying = self._retrying()
        answer: T | None = None
        code: str | None = None
        try:
            told = retrying(ask)
        except DriverError as error:
            outcome, code = _failure(step, error, tries=_tries(retrying)), error.code
        except OSError:
            # A driver talks to nothing but its port: this is never the dock's own disk.
            outcome, code = Outcome.FAILED, PortFailedError.code
        else:
            if isinstance(told, Unsupported):
                outcome = Outcome.UNSUPPORTED
            else:
                answer, code = told, doubt(told)
                outcome = Outcome.DONE if code is None else Outcome.FAILED
        self._report(
            step,
            outcome,
            code=code,
            duration_s=self.around.monotonic_s() - began_s,
            tries=_tries(retrying),
        )
        return answer

    def skip(self, step: Step, *, code: str | None = None) -> None:
        """Report that a step was not taken."""
        self._report(step, Outcome.SKIPPED, code=code, duration_s=0.0, tries=0)

    def note(self, identity: RecorderIdentity | None, drift: ClockDrift) -> None:
        """Have the drift kept, and report that it is."""
        began_s = self.around.monotonic_s()
        self.around.note_drift(identity, drift)
        duration_s = self.around.monotonic_s() - began_s
        self._report(Step.NOTE_DRIFT, Outcome.DONE, code=None, duration_s=duration_s, tries=1)

    def _report(
        self, step: Step, outcome: Outcome, *, code: str | None, duration_s: float, tries: int
    ) -> None:
        report = StepReport(
            step=step, outcome=outcome, code=code, duration_s=duration_s, tries=tries
        )
        self.reports.append(report)
        self.around.report(report)

    def _retrying(self) -> Retrying:
        def is_enough(state: RetryCallState) -> bool:
            spent_s = self.around.monotonic_s() - self._began_s
            return state.attempt_number >= self.limits.tries or spent_s > self.limits.total_s

        return Retrying(
            stop=is_enough,
            wait=wait_fixed(self.limits.pause_s),
            retry=retry_if_exception(_may_pass),
            sleep=self.around.sleep,
            reraise=True,
        )


def _settle_clock(
    talk: _Talk, identity: RecorderIdentity | None
) -> tuple[ClockDrift | None, ClockDrift | None]:
    """Read the clock, note how far it is off, set it, and read it again."""
    drift = talk.take(Step.READ_CLOCK, lambda: _read_drift(talk))
    if drift is None:
        for step in (Step.NOTE_DRIFT, Step.SET_CLOCK, Step.CHECK_CLOCK):
            talk.skip(step)
        return None, None
    talk.note(identity, drift)
    # Each try takes the time anew: a pause lies between them.
    talk.take(Step.SET_CLOCK, lambda: talk.session.set_clock(_now_local(talk.around)))
    if not talk.is_last_done:
        talk.skip(Step.CHECK_CLOCK)
        return drift, None
    return drift, talk.take(
        Step.CHECK_CLOCK,
        lambda: _read_drift(talk),
        doubt=lambda after: None if _is_kept(after, talk.limits) else CLOCK_NOT_KEPT,
    )


def _read_drift(talk: _Talk) -> Told[ClockDrift]:
    asked_at_utc, asked_s = talk.around.utc(), talk.around.monotonic_s()
    reading = talk.session.read_clock()
    if isinstance(reading, Unsupported):
        return reading
    return drift_of(
        reading,
        asked_at_utc=asked_at_utc,
        elapsed_s=talk.around.monotonic_s() - asked_s,
        zone=talk.around.zone,
    )


def _is_kept(after: ClockDrift, limits: Limits) -> bool:
    allowed_s = limits.kept_clock_s + after.uncertainty_s
    return after.drift_s is not None and abs(after.drift_s) <= allowed_s


def _now_local(around: Surroundings) -> datetime:
    return around.utc().astimezone(around.zone).replace(tzinfo=None, microsecond=0)


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, DriverError) and error.retry is _SOON


def _tries(retrying: Retrying) -> int:
    return int(retrying.statistics["attempt_number"])


def _failure(step: Step, error: DriverError, *, tries: int) -> Outcome:
    # If there was a try before, that one was sent.
    is_gone = isinstance(error, PortFailedError) and (error.request_sent or tries > 1)
    return Outcome.UNCONFIRMED if is_gone and step is Step.ENTER_DISK_MODE else Outcome.FAILED
