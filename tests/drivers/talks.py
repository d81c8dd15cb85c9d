"""A dock that talks with a simulated recorder, on a time that only the two of them move."""

from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from edge_agent.drivers import line_protocol, socket_frames
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
from edge_agent.drivers.driver import DevicePassword, Link, RecorderSession
from recorder_simulator.port import SimulatedPort, SimulatedTime
from recorder_simulator.script import Fault, FaultKind, Script

SHANGHAI = ZoneInfo("Asia/Shanghai")


@dataclass(kw_only=True)
class Talk:
    """One recorder, one dock, and all that they told."""

    script: Script
    password: bytes | None = None
    session_number: int = 7
    time: SimulatedTime = field(default_factory=SimulatedTime)
    told: list[StepReport] = field(default_factory=list)
    noted: list[ClockDrift] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.port = SimulatedPort(self.script, self.time)

    @property
    def link(self) -> Link:
        return Link(
            port=self.port,
            monotonic_s=self.time.monotonic_s,
            session_number=self.session_number,
            password=None if self.password is None else DevicePassword(self.password),
        )

    def open(self) -> RecorderSession:
        if self.script.protocol == "line":
            return line_protocol.DRIVER.open(self.link)
        return socket_frames.DRIVER.open(self.link)

    @property
    def around(self) -> Surroundings:
        return Surroundings(
            utc=self.time.utc,
            monotonic_s=self.time.monotonic_s,
            sleep=self.time.sleep,
            zone=SHANGHAI,
            report=self.told.append,
            note_drift=lambda _, drift: self.noted.append(drift),
        )

    def hold(self, *, is_log_wanted: bool = False, limits: Limits | None = None) -> DialogResult:
        return hold_dialog(self.open(), self.around, is_log_wanted=is_log_wanted, limits=limits)


def faulty(*faults: Fault) -> Talk:
    """A recorder with faults."""
    return Talk(script=Script(faults=faults))


def outcomes(result: DialogResult) -> dict[Step, Outcome]:
    """What became of each step."""
    return {report.step: report.outcome for report in result.steps}


def codes(result: DialogResult) -> dict[Step, str]:
    """The code of each step that has one."""
    return {report.step: report.code for report in result.steps if report.code is not None}


__all__ = ["Fault", "FaultKind", "Talk", "codes", "faulty", "outcomes"]
