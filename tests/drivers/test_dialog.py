"""The docking dialog: its order, and what a failing step stops."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from edge_agent.drivers import mass_storage
from edge_agent.drivers.dialog import (
    CLOCK_NOT_KEPT,
    ESSENTIAL,
    OUT_OF_TIME,
    Limits,
    Outcome,
    Step,
    StepReport,
    Surroundings,
    hold_dialog,
)
from edge_agent.drivers.drift import ClockDrift
from edge_agent.drivers.driver import (
    Battery,
    ClockReading,
    Link,
    NoPort,
    RecorderIdentity,
    Told,
    Verb,
)
from edge_agent.drivers.line_frames import FrameDecoder
from edge_agent.drivers.line_messages import LineVerb
from edge_agent.drivers.line_protocol import LineSession
from edge_agent.errors import (
    NoAnswerError,
    PasswordMissingError,
    PasswordRefusedError,
    PortFailedError,
)
from recorder_simulator.port import SimulatedTime
from recorder_simulator.script import Script
from tests.drivers.talks import SHANGHAI, Fault, FaultKind, Talk, codes, faulty, outcomes

OPTIONAL = {
    Step.READ_USER_INFORMATION: Verb.READ_USER_INFORMATION,
    Step.SET_CLOCK: Verb.SET_CLOCK,
    Step.READ_BATTERY: Verb.READ_BATTERY,
    Step.READ_NETWORK_SETTINGS: Verb.READ_NETWORK_SETTINGS,
    Step.SET_INDICATOR: Verb.SET_INDICATOR,
    Step.EXPORT_LOG: Verb.EXPORT_LOG,
}


def test_a_good_recorder_is_asked_everything_in_order() -> None:
    """Each step is taken once, in the order of the page, and told when it is over."""
    talk = Talk(script=Script())

    result = talk.hold(is_log_wanted=True)

    assert [report.step for report in result.steps] == list(Step)
    assert tuple(talk.told) == result.steps
    assert set(outcomes(result).values()) == {Outcome.DONE}
    assert all(report.tries == 1 and report.duration_s >= 0 for report in result.steps)
    assert result.stopped is None
    assert result.identity is not None
    assert result.identity.serial.text == "0000017"
    assert result.user_information is not None
    assert result.user_information.user_name.text == "王伟"
    assert result.battery is not None
    assert result.battery.charge_percent == 80
    assert result.network_settings is not None
    assert result.network_settings.is_blank
    assert result.log is not None
    assert result.log.content == b"power on\r\n"
    assert talk.port.engine.recorder.is_indicator_on
    assert talk.port.engine.recorder.is_disk


def test_a_log_is_only_taken_when_asked_for() -> None:
    """Without the wish there is no such step."""
    result = Talk(script=Script()).hold()

    assert Step.EXPORT_LOG not in outcomes(result)
    assert result.log is None


@pytest.mark.parametrize(
    "clock",
    [
        datetime(1980, 1, 1),  # noqa: DTZ001 - a recorder's clock has no zone
        datetime(2000, 1, 1),  # noqa: DTZ001 - likewise
        datetime(2107, 12, 31, 23, 59, 59),  # noqa: DTZ001 - likewise
        datetime(9999, 12, 31, 23, 59, 59),  # noqa: DTZ001 - likewise
    ],
)
def test_a_wrong_clock_is_noted_and_then_set(clock: datetime) -> None:
    """How far it was off is noted while it still is."""
    talk = Talk(script=Script(clock=clock))
    at_noting: list[datetime] = []
    around = Surroundings(
        utc=talk.time.utc,
        monotonic_s=talk.time.monotonic_s,
        sleep=talk.time.sleep,
        zone=SHANGHAI,
        report=talk.told.append,
        note_drift=lambda *_: at_noting.append(talk.port.engine.recorder.clock),
    )

    result = hold_dialog(talk.open(), around)

    assert result.drift is not None
    assert result.drift.drift_s is not None
    expected = (clock - datetime(2026, 11, 21, 9, 30)).total_seconds()  # noqa: DTZ001 - likewise
    assert abs(result.drift.drift_s - expected) <= result.drift.uncertainty_s
    assert abs(at_noting[0] - clock) < timedelta(seconds=5)
    assert result.drift_after is not None
    assert result.drift_after.drift_s is not None
    assert abs(result.drift_after.drift_s) < 2


def test_a_clock_that_cannot_be_noted_is_not_set() -> None:
    """The dock's own trouble ends the dialog with its own error, and the clock stays."""
    talk = Talk(script=Script(clock=datetime(1980, 1, 1)))  # noqa: DTZ001 - no zone

    def refuse(_identity: RecorderIdentity | None, _drift: ClockDrift) -> None:
        raise OSError("the dock's disk")

    around = Surroundings(
        utc=talk.time.utc,
        monotonic_s=talk.time.monotonic_s,
        sleep=talk.time.sleep,
        zone=SHANGHAI,
        report=talk.told.append,
        note_drift=refuse,
    )

    with pytest.raises(OSError, match="the dock's disk"):
        hold_dialog(talk.open(), around)
    assert talk.port.engine.recorder.clock.year == 1980


@pytest.mark.parametrize("kind", [FaultKind.SILENCE, FaultKind.UNSUPPORTED, FaultKind.REFUSAL])
def test_a_clock_that_cannot_be_read_is_not_set(kind: FaultKind) -> None:
    """What nobody knows the drift of is left as it is."""
    talk = faulty(Fault(kind=kind, verb=Verb.READ_CLOCK))

    result = talk.hold()

    told = outcomes(result)
    assert {told[step] for step in (Step.NOTE_DRIFT, Step.SET_CLOCK, Step.CHECK_CLOCK)} == {
        Outcome.SKIPPED
    }
    assert not talk.noted
    assert told[Step.ENTER_DISK_MODE] is Outcome.DONE


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (FaultKind.SILENCE, "E-DRV-101"),
        (FaultKind.HALF_FRAME, "E-DRV-102"),
        (FaultKind.REFUSAL, "E-DRV-103"),
        (FaultKind.NOT_READY, "E-DRV-108"),
    ],
)
@pytest.mark.parametrize("step", OPTIONAL)
def test_an_optional_step_never_stops_the_dialog(step: Step, kind: FaultKind, code: str) -> None:
    """Whatever fails, and however, the recorder becomes a disk."""
    talk = faulty(Fault(kind=kind, verb=OPTIONAL[step]))

    result = talk.hold(is_log_wanted=True)

    assert codes(result) == {step: code}
    assert outcomes(result)[step] is Outcome.FAILED
    assert outcomes(result)[Step.ENTER_DISK_MODE] is Outcome.DONE
    assert result.stopped is None


@pytest.mark.parametrize("step", OPTIONAL)
def test_an_unsupported_step_is_told(step: Step) -> None:
    """What a recorder lacks is no failure and has no code."""
    result = faulty(Fault(kind=FaultKind.UNSUPPORTED, verb=OPTIONAL[step])).hold(is_log_wanted=True)

    assert outcomes(result)[step] is Outcome.UNSUPPORTED
    assert not codes(result)


def test_a_recorder_that_does_not_identify_itself_stops_it() -> None:
    """Nothing more is asked of a recorder that nobody knows."""
    result = faulty(Fault(kind=FaultKind.SILENCE, verb=Verb.IDENTIFY)).hold()

    assert [report.step for report in result.steps] == [Step.IDENTIFY]
    assert result.stopped is not None
    assert result.stopped.code == "E-DRV-101"
    assert result.stopped.tries == 3
    # Three answers waited for, and two pauses.
    assert 7.0 <= result.stopped.duration_s < 7.1


def test_a_refused_disk_mode_stops_it_with_all_that_is_known() -> None:
    """There will be no volume; what was found out before stays."""
    result = faulty(Fault(kind=FaultKind.REFUSAL, verb=Verb.ENTER_DISK_MODE)).hold()

    assert result.stopped is not None
    assert (result.stopped.step, result.stopped.code) == (Step.ENTER_DISK_MODE, "E-DRV-103")
    assert result.identity is not None
    assert result.drift is not None


def test_a_recorder_that_leaves_at_disk_mode_may_have_obeyed() -> None:
    """Its answer went down with the port: the volume will show."""
    result = faulty(Fault(kind=FaultKind.RE_ENUMERATION, verb=Verb.ENTER_DISK_MODE)).hold()

    assert outcomes(result)[Step.ENTER_DISK_MODE] is Outcome.UNCONFIRMED
    assert codes(result) == {Step.ENTER_DISK_MODE: "E-DRV-106"}
    assert result.stopped is None


def test_a_recorder_that_leaves_between_two_tries_may_have_obeyed() -> None:
    """Without an answer to the first request, the port is gone at the second."""
    errors = iter((NoAnswerError("in time"), PortFailedError("gone", request_sent=False)))

    class Leaving(LineSession):
        def enter_disk_mode(self) -> Told[None]:
            raise next(errors)

    talk = Talk(script=Script())

    result = hold_dialog(Leaving(talk.link), talk.around)

    assert outcomes(result)[Step.ENTER_DISK_MODE] is Outcome.UNCONFIRMED
    assert result.stopped is None


def test_a_recorder_that_leaves_earlier_has_not() -> None:
    """A port that is gone before disk mode stops the dialog."""
    result = faulty(Fault(kind=FaultKind.RE_ENUMERATION, verb=Verb.READ_BATTERY)).hold()

    assert result.stopped is not None
    assert (result.stopped.step, result.stopped.code) == (Step.ENTER_DISK_MODE, "E-DRV-106")
    assert outcomes(result)[Step.READ_BATTERY] is Outcome.FAILED
    assert all(report.tries == 1 for report in result.steps)


@pytest.mark.parametrize(
    "kind",
    [
        FaultKind.SILENCE,
        FaultKind.GARBAGE,
        FaultKind.HALF_FRAME,
        FaultKind.WRONG_CHECKSUM,
        FaultKind.OTHER_ANSWER,
        FaultKind.LATE_ANSWER,
        FaultKind.NOT_READY,
    ],
)
def test_what_passes_is_tried_again(kind: FaultKind) -> None:
    """A fault of two answers is over at the third try, at every step."""
    faults = [Fault(kind=kind, verb=verb, times=2) for verb in Verb]

    result = faulty(*faults).hold(is_log_wanted=True, limits=Limits(total_s=1000))

    assert set(outcomes(result).values()) == {Outcome.DONE}
    assert result.log is not None
    assert result.log.is_complete


def test_a_clock_that_is_not_kept_is_told() -> None:
    """A recorder that takes a time and tells another has a fault, which stops nothing."""

    class Stuck(LineSession):
        def read_clock(self) -> Told[ClockReading]:
            return ClockReading(
                untrusted_text=b"20000101000000",
                local=datetime(2000, 1, 1),  # noqa: DTZ001 - no zone
            )

    talk = Talk(script=Script())

    result = hold_dialog(Stuck(talk.link), talk.around)

    assert codes(result) == {Step.CHECK_CLOCK: CLOCK_NOT_KEPT}
    assert outcomes(result)[Step.CHECK_CLOCK] is Outcome.FAILED
    assert result.drift_after is not None


def test_a_driver_that_lets_an_os_error_out_stops_nothing_else() -> None:
    """A port's error is never taken for one of the dock's disk."""

    class Leaky(LineSession):
        def read_battery(self) -> Told[Battery]:
            raise OSError("the port")

    talk = Talk(script=Script())

    result = hold_dialog(Leaky(talk.link), talk.around)

    assert codes(result) == {Step.READ_BATTERY: "E-DRV-106"}
    assert result.stopped is None


def test_a_slow_recorder_is_cut_short() -> None:
    """When the time is used up optional steps are left out, and disk mode is entered still."""
    faults = [
        Fault(kind=FaultKind.SILENCE, verb=verb)
        for verb in (Verb.READ_USER_INFORMATION, Verb.READ_CLOCK)
    ]

    result = faulty(*faults).hold(limits=Limits(total_s=5.0))

    assert codes(result) == {
        Step.READ_USER_INFORMATION: "E-DRV-101",
        Step.READ_CLOCK: OUT_OF_TIME,
        Step.READ_BATTERY: OUT_OF_TIME,
        Step.READ_NETWORK_SETTINGS: OUT_OF_TIME,
        Step.SET_INDICATOR: OUT_OF_TIME,
    }
    assert outcomes(result)[Step.ENTER_DISK_MODE] is Outcome.DONE


def test_a_locked_recorder_is_unlocked_once() -> None:
    """The password opens all verbs, and is not on the line."""
    talk = Talk(script=Script(password="口令-17"), password="口令-17".encode())

    result = talk.hold(is_log_wanted=True)

    assert set(outcomes(result).values()) == {Outcome.DONE}
    assert "口令-17".encode() not in talk.port.written
    requests = FrameDecoder().feed(bytes(talk.port.written))
    assert [request.verb for request in requests].count(LineVerb.UNLOCK) == 1


@pytest.mark.parametrize(
    ("password", "code"),
    [(None, PasswordMissingError.code), (b"wrong", PasswordRefusedError.code)],
)
def test_a_wrong_password_stops_it_at_disk_mode(password: bytes | None, code: str) -> None:
    """Every step tells it, none is tried again, and no message has the password."""
    talk = Talk(script=Script(password="right"), password=password)

    result = talk.hold()

    assert result.stopped is not None
    assert result.stopped.code == code
    assert outcomes(result)[Step.IDENTIFY] is Outcome.DONE
    assert all(report.tries <= 1 for report in result.steps)
    assert "wrong" not in repr(result)
    assert "wrong" not in repr(talk.link)


def test_a_disk_that_has_no_port_is_ready_at_once() -> None:
    """The default driver says of everything that there is none."""
    time = SimulatedTime()
    told: list[StepReport] = []
    around = Surroundings(
        utc=lambda: datetime(2026, 11, 21, tzinfo=UTC),
        monotonic_s=time.monotonic_s,
        sleep=time.sleep,
        zone=ZoneInfo("Asia/Shanghai"),
        report=told.append,
        note_drift=lambda *_: None,
    )
    link = Link(port=NoPort(), monotonic_s=time.monotonic_s, session_number=0)

    result = hold_dialog(mass_storage.DRIVER.open(link), around)

    assert result.stopped is None
    assert set(outcomes(result).values()) == {Outcome.UNSUPPORTED, Outcome.SKIPPED}
    assert time.monotonic_s() == 0


def test_the_socket_protocol_holds_the_same_dialog() -> None:
    """What it has no verb for is told; all else is done."""
    result = Talk(script=Script(protocol="socket", battery_percent=0)).hold(is_log_wanted=True)

    told = outcomes(result)
    assert {step for step, outcome in told.items() if outcome is Outcome.UNSUPPORTED} == {
        Step.READ_NETWORK_SETTINGS,
        Step.SET_INDICATOR,
        Step.EXPORT_LOG,
    }
    assert {told[step] for step in ESSENTIAL} == {Outcome.DONE}
    assert result.battery is not None
    assert result.battery.charge_percent == 0
