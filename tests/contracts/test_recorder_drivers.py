"""Our drivers keep the contract that a vendor's has to keep."""

import time
from collections.abc import Iterator

import pytest

from edge_agent.adapters.pyserial_port import PyserialPort
from edge_agent.drivers import line_protocol, mass_storage, socket_frames
from edge_agent.drivers.contract import DriverContract
from edge_agent.drivers.driver import DevicePassword, Link, NoPort
from recorder_simulator.port import SimulatedPort, SimulatedTime
from recorder_simulator.script import Script
from tests.drivers.program import running


def link_to(script: Script) -> Link:
    time = SimulatedTime()
    return Link(
        port=SimulatedPort(script, time),
        monotonic_s=time.monotonic_s,
        session_number=7,
        password=None if script.password is None else DevicePassword(script.password.encode()),
    )


class TestLineProtocol(DriverContract):
    driver = line_protocol.DRIVER

    def link(self) -> Link:
        return link_to(Script(log="a line of log\r\n" * 1000))


class TestLockedLineProtocol(DriverContract):
    driver = line_protocol.DRIVER

    def link(self) -> Link:
        return link_to(Script(password="geheim-口令", layout_bytes=94))


@pytest.mark.processes
class TestLineProtocolOnARealLine(DriverContract):
    """As a vendor runs it, with a port of this machine."""

    driver = line_protocol.DRIVER
    _port: PyserialPort

    @pytest.fixture(autouse=True)
    def opened(self) -> Iterator[None]:
        with running() as program, PyserialPort.open(program.path, baud=115_200) as self._port:
            yield

    def link(self) -> Link:
        return Link(
            port=self._port,
            monotonic_s=time.monotonic,
            session_number=time.monotonic_ns() % 65_536,
            answer_timeout_s=10.0,
        )


class TestSocketFrames(DriverContract):
    driver = socket_frames.DRIVER

    def link(self) -> Link:
        return link_to(Script(protocol="socket"))


class TestMassStorage(DriverContract):
    driver = mass_storage.DRIVER

    def link(self) -> Link:
        return Link(port=NoPort(), monotonic_s=SimulatedTime().monotonic_s, session_number=0)
