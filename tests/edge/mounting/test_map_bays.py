from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.adapters.bay_walk import Walk, walk_bays
from edge_agent.adapters.usb_tree import UsbTree
from edge_agent.cli import main
from edge_agent.mounting.mapping import BayMap, as_toml, plugged_in
from edge_agent.mounting.port_paths import PortPath
from protocol.identifiers import BayNumber
from tests.simulators.sysfs import FakeSysfs

Act = Callable[[FakeSysfs], object]


@pytest.fixture
def sysfs(tmp_path: Path) -> FakeSysfs:
    return FakeSysfs(tmp_path / "sys")


def walk(sysfs: FakeSysfs, bays: int, *acts: Act) -> tuple[BayMap, list[str]]:
    """Let the installer do one thing after the other, whenever the walk waits."""
    todo, said, found = list(acts), list[str](), BayMap()

    def sleep(_seconds: float) -> None:
        if not todo:
            raise KeyboardInterrupt
        todo.pop(0)(sysfs)

    numbers = [BayNumber(number) for number in range(1, bays + 1)]
    try:
        walk_bays(Walk(tree=UsbTree(sysfs.root), say=said.append, sleep=sleep), numbers, found)
    except KeyboardInterrupt:
        said.append("stopped")
    return found, said


def wait(_: FakeSysfs) -> None:
    """Nothing happens meanwhile."""


def plug(port: str) -> Act:
    return lambda sysfs: sysfs.plug(port)


def test_bay_after_bay(sysfs: FakeSysfs) -> None:
    """Whatever appears first is in the bay that was asked for."""
    sysfs.plug("1-9")  # the installer's keyboard
    found, said = walk(sysfs, 2, plug("1-1.2"), wait, plug("1-1.1"), wait)

    assert {bay: one.ports for bay, one in found.bays.items()} == {1: ("1-1.2",), 2: ("1-1.1",)}
    assert "'DSJ-A8'" in said[1]


def test_both_paths_of_a_connector(sysfs: FakeSysfs) -> None:
    """A connector for two speeds is one bay."""
    sysfs.pair("1-3", "2-1")
    found, _ = walk(sysfs, 1, plug("2-1"), wait)

    assert found.bays[BayNumber(1)].ports == ("2-1", "1-3")


def test_a_port_that_is_a_bay_already(sysfs: FakeSysfs) -> None:
    """The installer is told which one, and asked again."""
    found, said = walk(
        sysfs,
        2,
        plug("1-1"),
        wait,
        lambda sysfs: sysfs.pull("1-1"),
        plug("1-1"),
        wait,
        plug("1-2"),
        wait,
    )

    assert [one.ports for one in found.bays.values()] == [("1-1",), ("1-2",)]
    assert any("which is bay 1" in line for line in said)


def test_two_at_once_are_one_too_many(sysfs: FakeSysfs) -> None:
    """Nobody can tell which of them was meant."""

    def both(sysfs: FakeSysfs) -> None:
        sysfs.plug("1-1")
        sysfs.plug("1-2")

    found, said = walk(sysfs, 1, both, wait, wait)

    assert not found.bays
    assert any("1-1, 1-2" in line for line in said)


def test_a_recorder_with_a_hub_inside() -> None:
    """The hub is what is in the bay; what hangs on it comes with it."""
    ports = [PortPath(port) for port in ("1-1", "1-1.1", "1-1.2", "1-4")]

    assert plugged_in([PortPath("1-4")], ports) == ("1-1",)


def test_the_map_is_a_part_of_the_configuration(sysfs: FakeSysfs) -> None:
    """What is printed can stand in edge.toml as it is."""
    found, _ = walk(sysfs, 1, plug("1-1.2"), wait)

    assert as_toml(found.bays) == '[[bays]]\nnumber = 1\nsource = "usb"\nports = ["1-1.2"]\n'


def test_a_file_that_is_there_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A map that took an hour is not lost by a second call."""
    file = tmp_path / "bays.toml"
    file.write_text("mine")

    status = main(["map-bays", "--bays", "1", "--write", str(file), "--sysfs", str(tmp_path)])

    assert status == 1
    assert "exists" in capsys.readouterr().err
    assert file.read_text() == "mine"
