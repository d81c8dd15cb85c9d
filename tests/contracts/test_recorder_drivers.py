"""Our drivers keep the contract that a vendor's has to keep."""

from edge_agent.drivers import line_protocol, mass_storage, socket_frames
from edge_agent.drivers.contract import DriverContract
from edge_agent.drivers.driver import DevicePassword, Link, NoPort
from recorder_simulator.port import SimulatedPort, SimulatedTime
from recorder_simulator.script import Script


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


class TestSocketFrames(DriverContract):
    driver = socket_frames.DRIVER

    def link(self) -> Link:
        return link_to(Script(protocol="socket"))


class TestMassStorage(DriverContract):
    driver = mass_storage.DRIVER

    def link(self) -> Link:
        return Link(port=NoPort(), monotonic_s=SimulatedTime().monotonic_s, session_number=0)
