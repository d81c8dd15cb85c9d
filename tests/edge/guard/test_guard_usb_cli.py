"""`edge-guard` about the USB door, on a sysfs of files; and what edge.toml says of it."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_agent.guard.usb_door import USUAL_MODELS, Use
from edge_agent.guard_cli import main
from edge_agent.guard_config import GuardConfig, door_policy_of
from runtime.errors import SettingsError
from runtime.settings import load_toml
from tests.simulators.usb_kernel import DISK, HUB_OF_FOUR, KEYS, FakeUsbKernel

HEAD = """
[archive]
mqtt_host = "192.168.10.2"
url = "https://192.168.10.2:8443"
signing_certificate = "not looked at"

[guard]
interfaces = ["eth0"]
networks = ["192.168.10.0/24"]
socket = "run/guard.sock"
"""
BAY = """
[[bays]]
number = 1
source = "usb"
ports = ["1-1", "2-1"]
driver = "line-protocol-1"
"""
FOLDER_BAY = """
[[bays]]
number = 1
source = "directory"
path = "bays/1"
"""
MODEL = """
[[guard.usb.models]]
name = "DSJ-A8"
vendor = "46f4"
product = "0001"
serials = ["A8-*"]
interfaces = ["storage", "serial"]
"""


@dataclass
class Machine:
    """Its configuration, and its USB devices."""

    config: Path
    kernel: FakeUsbKernel
    capture: pytest.CaptureFixture[str]

    def say(self, *words: str) -> tuple[int, str]:
        """Run edge-guard; return its exit status and what it said."""
        sysfs = str(self.kernel.root)
        status = main(["--config", str(self.config), "--sysfs", sysfs, *words])
        told = self.capture.readouterr()
        return status, told.out + told.err

    def configure(self, *parts: str) -> GuardConfig:
        self.config.write_text("".join((HEAD, *parts)))
        return load_toml(self.config, GuardConfig)


@pytest.fixture
def machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Machine:
    (tmp_path / "run").mkdir()
    made = Machine(tmp_path / "edge.toml", FakeUsbKernel(tmp_path / "sys"), capsys)
    made.configure(BAY)
    return made


def test_a_door_is_kept_where_a_bay_is_at_usb(machine: Machine) -> None:
    """Without a word about it; a site may switch it off, or on."""
    assert door_policy_of(machine.configure(FOLDER_BAY)) is None
    assert door_policy_of(machine.configure()) is None
    assert door_policy_of(machine.configure("[guard.usb]\nenabled = false\n", BAY)) is None
    assert door_policy_of(machine.configure("[guard.usb]\nenabled = true\n")) is not None
    policy = door_policy_of(machine.configure(BAY))

    assert policy is not None
    assert [(one.bay, one.ports) for one in policy.bays] == [(1, ("1-1", "2-1"))]
    assert policy.models == USUAL_MODELS


def test_models_of_a_site(machine: Machine) -> None:
    """They stand in place of the usual ones."""
    policy = door_policy_of(machine.configure(MODEL, BAY))

    assert policy is not None
    [model] = policy.models
    assert (model.vendor, model.product, model.serials) == (0x46F4, 1, ("A8-*",))
    assert model.uses == {Use.STORAGE, Use.SERIAL}


@pytest.mark.parametrize(
    "wrong",
    [
        MODEL.replace("46f4", "46F4"),
        MODEL.replace("46f4", "0x46f4"),
        MODEL.replace('"serial"]', '"network"]'),
        MODEL.replace("product", "produkt"),
        '[guard.usb]\nown_ports = ["usb1"]\n',
        "[guard.usb]\nopen = true\n",
    ],
)
def test_a_wrong_word_is_named(machine: Machine, wrong: str) -> None:
    """And nothing is kept by a configuration that was misread."""
    with pytest.raises(SettingsError, match=re.escape("$.guard.usb")):
        machine.configure(wrong, BAY)


def test_check_config(machine: Machine) -> None:
    """It says who comes in where, and refuses a port that is two things."""
    machine.configure(MODEL, BAY)
    status, said = machine.say("check-config")
    assert status == 0
    assert "bay 1 at 1-1, 2-1" in said
    assert "let in at bays: DSJ-A8" in said
    machine.configure('[guard.usb]\nown_ports = ["1-1"]\n', BAY)
    status, said = machine.say("check-config")

    assert (status, "the machine's own and bay 1's, too" in said) == (1, True)


def test_a_disabled_door_is_told(machine: Machine) -> None:
    """Nobody takes it for one that is kept."""
    machine.configure("[guard.usb]\nenabled = false\n", BAY)

    assert "! USB door: none is kept" in machine.say("check-config")[1]
    assert machine.say("explain", "--usb", "1-1")[0] == 1
    assert machine.say("open-port", "--minutes", "5", "1-3")[0] == 1


def test_explain(machine: Machine) -> None:
    """What is plugged in at a port and behind it; and what a port is where nothing is."""
    machine.kernel.plug("1-1", HUB_OF_FOUR)
    machine.kernel.plug("1-1.2", DISK)
    machine.kernel.plug("1-3", KEYS, name="\x1b[31mkeys")

    status, said = machine.say("explain", "--usb", "1-1")
    assert (status, said.count("is let in")) == (0, 2)
    status, said = machine.say("explain", "--usb", "1-3")
    assert status == 3
    assert "is refused: port 1-3 is no bay's port" in said
    assert "\x1b" not in said
    assert machine.say("explain", "--usb", "2-1") == (
        0,
        "nothing is plugged in at 2-1, which is bay 1\n",
    )
    assert machine.kernel.defaults() == {"1"}


@pytest.mark.parametrize("words", [["--usb", "usb1"], ["--usb", "1-1:1.0"], ["--usb", "../1-1"]])
def test_explain_wants_a_port(machine: Machine, words: list[str]) -> None:
    """Nothing else is looked at."""
    with pytest.raises(SystemExit):
        machine.say("explain", *words)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root opens a port")
def test_open_port(machine: Machine) -> None:
    """It is noted beside the socket, for as long as was asked; 0 minutes close it."""
    status, said = machine.say("open-port", "--minutes", "30", "1-3")
    machine.kernel.plug("1-3", KEYS)

    assert (status, "USB port 1-3 lets everything in until" in said) == (0, True)
    assert "a port that is open for a while" in machine.say("explain", "--usb", "1-3")[1]
    assert machine.say("open-port", "--minutes", "0", "1-3") == (0, "USB port 1-3 is closed\n")
    assert machine.say("explain", "--usb", "1-3")[0] == 3


def test_who_is_not_root_opens_nothing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever else may write beside the socket."""
    monkeypatch.setattr(os, "geteuid", lambda: 1_000)
    status, said = machine.say("open-port", "--minutes", "30", "1-3")

    assert (status != 0, "only root opens a port" in said) == (True, True)
    assert not list(machine.config.parent.glob("run/*"))


@pytest.mark.parametrize("minutes", ["-1", "241", "x", "1.5"])
def test_nobody_opens_a_port_for_good(machine: Machine, minutes: str) -> None:
    """Four hours are the most."""
    with pytest.raises(SystemExit):
        machine.say("open-port", "--minutes", minutes, "1-3")
