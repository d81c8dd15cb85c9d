"""A policy as a table of nftables: `decide` of edge_agent.guard.policy, in the kernel's words.

No rule lets a packet out because a connection is known already: one that was made before the table
was loaded is cut off like any other.
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
TABLE: Final = "bayward_guard"
# Before whatever else filters: a drop here is final, an accept is not.
_PRIORITY: Final = -10


def as_nftables(policy: Policy) -> str:
    """Return what `nft -f -` loads: the table, in place of what was there, in one transaction."""
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
            "",
        )
    )


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
