"""The systemd units start our programs, watched and with no rights that they do not need."""

import configparser
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Final

import pytest

from edge_agent.guard.usb_descriptors import Function
from edge_agent.guard.usb_door import drivers_for
from tests.architecture.source_tree import ROOT

UNITS: Final = ("edge-agent", "server-agent", "server-console")
REQUIRED: Final = {
    "type": "notify",
    "nonewprivileges": "yes",
    "capabilityboundingset": "",
    "protectsystem": "strict",
    "protecthome": "yes",
    "devicepolicy": "closed",
    "memorydenywriteexecute": "yes",
    "ipaddressdeny": "any",
    "restart": "always",
}


# Of ten, by systemd's own count. edge-mount mounts in the machine's own namespace: see its unit.
MOST_EXPOSED: Final = dict.fromkeys(UNITS, 2.0) | {"edge-guard": 2.0, "edge-mount": 4.0}


def read_service(name: str) -> configparser.SectionProxy:
    unit = configparser.RawConfigParser(strict=False, interpolation=None)
    unit.read_string((ROOT / f"systemd/{name}.service").read_text(encoding="utf-8"))
    return unit["Service"]


@pytest.mark.parametrize("name", UNITS)
def test_units_are_closed(name: str) -> None:
    """Each unit refuses every address and every privilege that it does not name."""
    service = read_service(name)

    assert {key: service.get(key) for key in REQUIRED} == REQUIRED


@pytest.mark.parametrize("name", UNITS)
def test_units_are_watched(name: str) -> None:
    """A program that hangs is started again."""
    assert read_service(name)["watchdogsec"].endswith("s")


@pytest.mark.parametrize("name", UNITS)
def test_units_start_our_programs(name: str) -> None:
    """Each unit starts a program that the wheel installs, with the configuration named for it."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    program, option, config = read_service(name)["execstart"].split()

    assert Path(program).name in scripts["project"]["scripts"]
    assert option == "--config"
    assert Path(config).parent == Path("/etc/bayward")


def test_each_program_has_its_own_user() -> None:
    """What one program may read, another one may not; none of them is root."""
    users = [read_service(name)["user"] for name in UNITS]

    assert len(set(users)) == len(UNITS)
    assert all(user.startswith("bayward-") for user in users)


@pytest.mark.parametrize("name", MOST_EXPOSED)
def test_units_are_little_exposed(name: str) -> None:
    """By systemd's own count: 2.0 of ten at most for the agents."""
    told = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", f"systemd/{name}.service"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    last = told.stdout.splitlines()[-1]

    assert float(re.findall(r"[0-9]+\.[0-9]+", last)[0]) <= MOST_EXPOSED[name], told.stdout


def test_edge_mount_may_mount_and_reaches_no_network() -> None:
    """The one program with a capability has no other one, no address and few devices."""
    service = read_service("edge-mount")

    assert set(service["capabilityboundingset"].split()) == {"CAP_SYS_ADMIN", "CAP_CHOWN"}
    assert service["restrictaddressfamilies"] == "AF_UNIX"
    assert (service["ipaddressdeny"], service["devicepolicy"]) == ("any", "closed")


def test_edge_guard_may_do_nothing_but_guard() -> None:
    """One capability, no address, and its table is loaded before the network comes up."""
    service = read_service("edge-guard")
    unit = (ROOT / "systemd/edge-guard.service").read_text(encoding="utf-8")

    assert service["capabilityboundingset"] == "CAP_NET_ADMIN"
    assert service["ipaddressdeny"] == "any"
    assert service["restrictaddressfamilies"].split() == ["AF_UNIX", "AF_NETLINK"]
    assert "Before=network-pre.target" in unit


def test_edge_guard_writes_to_devices_alone() -> None:
    """Of /sys: USB devices' files, and drivers' that get one."""
    service = read_service("edge-guard")

    assert service["protectsystem"] == "strict"
    assert service["readonlypaths"] == "/sys"
    assert service["readwritepaths"].split() == ["/sys/devices", "/sys/bus"]


def test_drivers_of_usual_models_are_loaded() -> None:
    """edge-guard binds a serial port to a driver by its name, which has to be there."""
    loaded = (ROOT / "systemd/bayward-edge.modules.conf").read_text(encoding="utf-8").split()

    for function in (Function(0x02, 0x02, 0x01), Function(0x08, 0x06, 0x50), Function(0xFF, 0, 0)):
        assert set(drivers_for(function)) <= set(loaded)


# What the kernel calls them, and the drivers without which it knows no such name.
DRIVERS: Final = {"block-sd": "sd_mod", "char-ttyUSB": "usbserial", "char-ttyACM": "cdc_acm"}
ALWAYS_THERE: Final = {"block-blkext"}


@pytest.mark.parametrize("name", ["edge-agent", "edge-mount"])
def test_drivers_are_there_before_the_unit(name: str) -> None:
    """DeviceAllow stands for what the kernel knows at the start: the drivers are loaded at boot."""
    text = (ROOT / f"systemd/{name}.service").read_text(encoding="utf-8")
    allowed = set(re.findall(r"^DeviceAllow=(\S+)", text, re.MULTILINE)) - ALWAYS_THERE
    loaded = (ROOT / "systemd/bayward-edge.modules.conf").read_text(encoding="utf-8").split()

    assert allowed
    assert {DRIVERS[one] for one in allowed} <= set(loaded)
