"""A policy as a table of nftables: `decide` of edge_agent.guard.policy, in the kernel's words.

No rule lets a packet out because a connection is known already: one that was made before the table
was loaded is cut off like any other.

What a packet socket sends never comes by the hooks of a host: a second table, of the family netdev,
stands where frames leave an interface (Linux 5.16). It goes by the frame's own type, for who sends
one may tell the kernel another.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from edge_agent.guard.policy import (
    ND_IN,
    ND_OUT,
    SSH_PORT,
    Address,
    Network,
    Peer,
    Policy,
    of_neighbours,
    to_neighbours,
)

FAMILY: Final = "inet"
FRAMES: Final = "netdev"
TABLE: Final = "bayward_guard"
# Before whatever else filters: a drop here is final, an accept is not.
_PRIORITY: Final = -10
# Read out of the frame: `ether type` would ask for the interface that a packet came by, and there
# is none.
_ETHERTYPE: Final = "@ll,96,16"
_ARP: Final = 0x0806
_ETHERTYPES: Final = {"ip": 0x0800, "ip6": 0x86DD}


def as_nftables(policy: Policy, *, frames_of: Iterable[str] | None) -> str:
    """Return what `nft -f -` loads: the tables, in place of what was there, in one transaction.

    Args:
        policy: Of the dock.
        frames_of: Interfaces of the station that are there: frames that leave them are looked at,
            whoever made them. None: no frames are, for a kernel that cannot.
    """
    return "\n".join(
        (
            # Made and deleted, so that it may or may not be there.
            f"table {FAMILY} {TABLE}",
            f"delete table {FAMILY} {TABLE}",
            f"table {FAMILY} {TABLE} {{",
            '  comment "The no-internet rule. edge-guard puts it back."',
            "  counter refused_out { }",
            "  counter refused_in { }",
            "  counter refused_through { }",
            *_chain("out", "output", _outgoing(policy)),
            *_chain("in", "input", _incoming(policy)),
            *_chain("through", "forward", ()),
            "}",
            *(() if frames_of is None else _frames(policy, frames_of)),
            "",
        )
    )


def _frames(policy: Policy, interfaces: Iterable[str]) -> Iterator[str]:
    yield f"table {FRAMES} {TABLE}"
    yield f"delete table {FRAMES} {TABLE}"
    yield f"table {FRAMES} {TABLE} {{"
    yield "  counter refused_frames { }"
    for number, interface in enumerate(interfaces):
        yield f"  chain leaving_{number} {{"
        yield from _leaving(policy, interface)
        yield "  }"
    yield "}"


def _leaving(policy: Policy, interface: str) -> Iterator[str]:
    device = f'type filter hook egress device "{interface}" priority {_PRIORITY}'
    yield f"    {device}; policy drop;"
    yield f"    {_ETHERTYPE} {_ARP:#06x} accept"
    if policy.has_ipv6:
        near = _set(to_neighbours(policy))
        yield f"    {_framed('ip6')} icmpv6 type {_set(ND_OUT)} ip6 daddr {near} accept"
    for peer in policy.peers:
        to, port = _to(peer.address), f"{peer.transport.value} dport {peer.port}"
        yield f"    {_framed(_family(peer.address))} {to} {port} accept"
    if policy.ssh_from is not None:
        to = f"{_framed(_family(policy.ssh_from))} {_to(policy.ssh_from)}"
        yield f"    {to} tcp sport {SSH_PORT} accept"
    yield "    counter name refused_frames drop"


def _framed(family: str) -> str:
    return f"{_ETHERTYPE} {_ETHERTYPES[family]:#06x}"


def _chain(name: str, hook: str, rules: Iterable[str]) -> Iterator[str]:
    yield f"  chain go_{name} {{"
    yield f"    type filter hook {hook} priority {_PRIORITY}; policy drop;"
    yield from (f"    {rule}" for rule in rules)
    yield f"    counter name refused_{name} drop"
    yield "  }"


def _outgoing(policy: Policy) -> Iterator[str]:
    yield 'oifname "lo" accept'
    where = f"oifname {{ {_names(policy)} }}"
    if policy.has_ipv6:
        near = _set(to_neighbours(policy))
        yield f"{where} icmpv6 type {_set(ND_OUT)} ip6 daddr {near} accept"
    for peer in policy.peers:
        yield f"{where} {_to(peer.address)} {peer.transport.value} dport {peer.port} accept"
    if policy.ssh_from is not None:
        yield f"{where} {_to(policy.ssh_from)} tcp sport {SSH_PORT} ct state established accept"


def _incoming(policy: Policy) -> Iterator[str]:
    yield 'iifname "lo" accept'
    where = f"iifname {{ {_names(policy)} }}"
    if policy.has_ipv6:
        near = _set(of_neighbours(policy))
        yield f"{where} icmpv6 type {_set(ND_IN)} ip6 saddr {near} accept"
    yield from (f"{where} {_from(peer)} ct state established accept" for peer in policy.peers)
    if policy.ssh_from is not None:
        source = f"{_family(policy.ssh_from)} saddr {policy.ssh_from}"
        yield f"{where} {source} tcp dport {SSH_PORT} accept"


def _from(peer: Peer) -> str:
    source = f"{_family(peer.address)} saddr {peer.address}"
    return f"{source} {peer.transport.value} sport {peer.port}"


def _to(address: Address) -> str:
    return f"{_family(address)} daddr {address}"


def _family(address: Address) -> str:
    return "ip" if address.version == 4 else "ip6"  # noqa: PLR2004 - the version


def _names(policy: Policy) -> str:
    return ", ".join(f'"{name}"' for name in policy.interfaces)


def _set(elements: Iterable[Network | int]) -> str:
    return f"{{ {', '.join(map(str, elements))} }}"
