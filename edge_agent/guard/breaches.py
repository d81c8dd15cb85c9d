"""From what a machine's network looks like to where it breaks the rule."""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final

from edge_agent.guard.policy import LOOPBACK, Address, Network, Policy, is_within

# Every link with IPv6 has its own of these, and no router carries them (RFC 4291, 2.5.6).
_LINK_LOCAL: Final = ipaddress.ip_network("fe80::/10")


@unique
class Kind(Enum):
    """How the rule is broken; the value is the code of the alert."""

    TABLE_CHANGED = "E-ISO-101"
    WAY_OUT = "E-ISO-102"
    RESOLVER = "E-ISO-103"
    FOREIGN_INTERFACE = "E-ISO-104"
    FOREIGN_ADDRESS = "E-ISO-105"
    FORWARDING = "E-ISO-106"
    ROUTER_BELIEVED = "E-ISO-107"
    CANNOT_LOOK = "E-ISO-108"
    FOREIGN_USB = "E-ISO-122"
    USB_OPEN = "E-ISO-123"
    RADIO_ON = "E-ISO-125"


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """One way in which the rule is broken.

    Attributes:
        subject: Which thing it is: an interface, a route, a file; the same breach has the same.
        text: In English.
    """

    kind: Kind
    subject: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A network interface.

    Attributes:
        sort: What it is, in a word of the kernel's or ours: "ethernet", "wifi", "tun" and so on.
        accepts_routers: Whether it takes routes from whoever calls himself a router (RFC 4861).
    """

    name: str
    sort: str
    is_up: bool
    addresses: tuple[ipaddress.IPv4Interface | ipaddress.IPv6Interface, ...] = ()
    accepts_routers: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route of any table but the kernel's own list of local addresses."""

    destination: Network
    interface: str
    gateway: Address | None
    table: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was seen.

    Attributes:
        is_table_ours: Whether the kernel has our table, as we loaded it.
        resolvers: Where each name server stands, and its address.
        forwards: The settings that say that packets are forwarded.
        unseen: What could not be looked at.
    """

    is_table_ours: bool
    interfaces: tuple[Interface, ...] = ()
    routes: tuple[Route, ...] = ()
    resolvers: tuple[tuple[str, str], ...] = ()
    forwards: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()


def breaches(policy: Policy, facts: Facts) -> tuple[Breach, ...]:
    """Return where *facts* break the rule; nothing where it holds."""
    return tuple(_breaches(policy, facts))


def _breaches(policy: Policy, facts: Facts) -> Iterator[Breach]:
    if not facts.is_table_ours:
        text = "the table of rules is gone or changed"
        yield Breach(kind=Kind.TABLE_CHANGED, subject="nftables", text=text)
    for interface in facts.interfaces:
        yield from _about(policy, interface)
    for route in facts.routes:
        if not _is_inside(route.destination, policy):
            subject = f"{route.destination} dev {route.interface} table {route.table}"
            via = "" if route.gateway is None else f" by {route.gateway}"
            yield Breach(kind=Kind.WAY_OUT, subject=subject, text=f"a route to {subject}{via}")
    for file, address in facts.resolvers:
        text = f"{file} names the name server {address!r}: nothing here asks any"
        yield Breach(kind=Kind.RESOLVER, subject=f"{file} {address}", text=text)
    for setting in facts.forwards:
        text = f"{setting} lets packets through this machine"
        yield Breach(kind=Kind.FORWARDING, subject=setting, text=text)
    for what in facts.unseen:
        yield Breach(kind=Kind.CANNOT_LOOK, subject=what, text=f"{what} cannot be looked at")


def _about(policy: Policy, interface: Interface) -> Iterator[Breach]:
    if interface.name == LOOPBACK:
        return
    if interface.name not in policy.interfaces:
        if interface.is_up:
            text = f"{interface.name} ({interface.sort}) is up, and no interface of the station"
            yield Breach(kind=Kind.FOREIGN_INTERFACE, subject=interface.name, text=text)
        return
    if interface.accepts_routers:
        text = f"{interface.name} takes routes from whoever calls himself a router"
        yield Breach(kind=Kind.ROUTER_BELIEVED, subject=interface.name, text=text)
    for address in interface.addresses:
        if not (is_within(address.ip, policy.networks) or _is_link_local(address.ip)):
            subject = f"{address} dev {interface.name}"
            text = f"{interface.name} has the address {address}, which is in no network of ours"
            yield Breach(kind=Kind.FOREIGN_ADDRESS, subject=subject, text=text)


def _is_inside(destination: Network, policy: Policy) -> bool:
    """Return whether a route leads nowhere beyond our networks and the link."""
    if destination.is_multicast or destination.is_loopback:
        return True
    inside = (*policy.networks, _LINK_LOCAL)
    return any(
        destination.version == one.version
        and destination.network_address in one
        and destination.prefixlen >= one.prefixlen
        for one in inside
    )


def _is_link_local(address: Address) -> bool:
    return address in _LINK_LOCAL
