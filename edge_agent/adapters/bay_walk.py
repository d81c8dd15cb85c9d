"""Leads the installer from bay to bay, and notes at which USB port something appears; blocking."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from edge_agent.adapters.usb_tree import UsbTree
from edge_agent.mounting.mapping import BayMap, Connector, plugged_in
from edge_agent.mounting.port_paths import PortPath
from protocol.identifiers import BayNumber

# What hangs on a hub appears after the hub.
_SETTLE_S: Final = 1.0
_POLL_S: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """What the walk needs.

    Attributes:
        say: Shows the installer a line.
        sleep: Waits for so many seconds.
    """

    tree: UsbTree
    say: Callable[[str], None]
    sleep: Callable[[float], None] = time.sleep


def walk_bays(walk: Walk, numbers: Iterable[BayNumber], found: BayMap) -> None:
    """Ask for something in each bay, and add its connector to *found*.

    Raises:
        KeyboardInterrupt: The installer has had enough; what was found until then is in *found*.
    """
    for bay in numbers:
        walk.say(f"bay {bay}: plug a recorder or a USB stick into it now")
        while True:
            port = _next_port(walk)
            peer = walk.tree.peer_of(port)
            ports = (port,) if peer is None else (port, peer)
            owner = found.owner_of(ports)
            if owner is None:
                break
            walk.say(f"  that is port {port}, which is bay {owner}: plug it into bay {bay}")
        found.bays[bay] = Connector(ports=ports)
        walk.say(f"  bay {bay} is {' and '.join(ports)}{_told(walk.tree, port)}")


def _next_port(walk: Walk) -> PortPath:
    """Return where something is plugged in from now on; two at once are one too many."""
    before = _ports(walk.tree)
    while True:
        now = _ports(walk.tree)
        if now - before:
            walk.sleep(_SETTLE_S)
            new = plugged_in(before, _ports(walk.tree))
            if len(new) == 1:
                return new[0]
            if new:
                walk.say(f"  something appeared at {', '.join(new)}: pull all but one, and again")
            before = _ports(walk.tree)
        before &= now  # what was pulled may come back
        walk.sleep(_POLL_S)


def _ports(tree: UsbTree) -> set[PortPath]:
    return {device.port for device in tree.devices()}


def _told(tree: UsbTree, port: PortPath) -> str:
    names = [device.untrusted_product for device in tree.devices() if device.port == port]
    return f" ({names[0]!r})" if names and names[0] else ""
