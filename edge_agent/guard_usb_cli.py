"""`edge-guard` about the USB door: what is said of it, and how a technician opens a port."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from edge_agent.adapters.status_text import printable
from edge_agent.adapters.usb_gate import UsbGate
from edge_agent.adapters.usb_openings import MOST_MINUTES, Openings
from edge_agent.errors import GuardError
from edge_agent.guard.messages import ToldDoor, ToldUsb
from edge_agent.guard.usb_door import DoorPolicy, place_of, problems
from edge_agent.guard_config import GuardConfig, door_policy_of
from edge_agent.mounting.port_paths import PortPath, is_below

SYSFS: Final = Path("/sys")
_FOLDER: Final = "open-ports"


def gate_of(config: GuardConfig, sysfs: Path) -> UsbGate | None:
    """Return what keeps the door; None if none is kept."""
    policy = door_policy_of(config)
    return None if policy is None else UsbGate(policy, openings_of(config), root=sysfs)


def openings_of(config: GuardConfig) -> Openings:
    """Return the ports that are open for a while: beside the socket, where root alone writes."""
    return Openings(config.guard.socket.parent / _FOLDER)


def usable(policy: DoorPolicy | None) -> None:
    """Raise GuardError for a door that must not be kept so."""
    if policy is not None and (found := problems(policy)):
        raise GuardError(f"this configuration is refused: {'; '.join(found)}")


def describe(policy: DoorPolicy | None) -> list[str]:
    """Return what a configuration says of the door, a line each."""
    if policy is None:
        return ["! USB door: none is kept: no bay is at USB, or [guard.usb] switches it off"]
    bays = [f"bay {one.bay} at {', '.join(one.ports)}" for one in policy.bays]
    return [
        f"✓ USB door: {'; '.join(bays) or 'no bay'}",
        f"✓ USB ports of the machine's own: {', '.join(policy.own_ports) or 'none'}",
        f"✓ let in at bays: {', '.join(one.name for one in policy.models)}",
    ]


def show(door: ToldDoor | None) -> None:
    """Print how the door stands."""
    if door is None:
        print("! no USB door is kept")
        return
    for one in door.present:
        print(line_of(one))
    for opening in door.open_ports:
        until = f"{opening.until:%Y-%m-%d %H:%M:%S} UTC"
        print(f"! USB port {opening.port} is open until {until}: {printable(opening.by)}")
    if door.refusals:
        print(f"! USB devices refused since the guard began: {door.refusals}")
    for refusal in door.refused:
        if refusal.device not in door.present:
            last = f"{refusal.last_at:%Y-%m-%d %H:%M:%S} UTC"
            print(f"  until {last}, {refusal.times} times: {line_of(refusal.device)}")


def line_of(device: ToldUsb) -> str:
    """Return a device and its verdict as a line."""
    sign, verdict = ("✓", "is let in") if device.let_in else ("✗", "is refused")
    name = f"{device.ids or 'unknown'} {printable(device.name)}"
    return f"{sign} USB {device.port}: {name} {verdict}: {printable(device.because)}"


def explain(config: GuardConfig, port: PortPath, *, sysfs: Path) -> int | None:
    """Print which rule lets in or refuses what is plugged in at a port, and below it.

    Returns:
        How many devices are refused; None if none is plugged in.
    """
    policy, gate = door_policy_of(config), gate_of(config, sysfs)
    if policy is None or gate is None:
        raise GuardError("no USB door is kept: see [guard.usb]")
    gate.look(datetime.now(UTC), enforced=False)
    found = [one for one in gate.told.present if is_below(one.port, port)]
    for one in found:
        print(line_of(one))
    if not found:
        open_ports = [PortPath(one.port) for one in gate.open_ports]
        print(f"nothing is plugged in at {port}, which is {place_of(policy, port, open_ports)}")
        return None
    return sum(not one.let_in for one in found)


def open_port(config: GuardConfig, port: PortPath, *, minutes: int) -> None:
    """Open a port for a while, and print what that means.

    Raises:
        GuardError: Whoever asks is not root, or no door is kept.
        OSError: It cannot be noted.
    """
    if os.geteuid() != 0:
        raise GuardError("only root opens a port")
    if door_policy_of(config) is None:
        raise GuardError("no USB door is kept: see [guard.usb]")
    by = (os.environ.get("SUDO_USER") or "root")[:64]
    opening = openings_of(config).open(port, minutes=minutes, by=by, now=datetime.now(UTC))
    if minutes == 0:
        print(f"USB port {port} is closed")
        return
    print(
        f"USB port {port} lets everything in until {opening.until:%H:%M:%S} UTC, while edge-guard"
        " runs; the archive is told"
    )


def minutes_of(text: str) -> int:
    """Return a number of minutes; ValueError if it is none that a port may be open."""
    minutes = int(text)
    if not 0 <= minutes <= MOST_MINUTES:
        raise ValueError(text)
    return minutes
