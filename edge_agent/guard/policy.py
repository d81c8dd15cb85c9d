"""Who a dock may talk to: everything else is refused, in both directions and both families."""

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

SSH_PORT: Final = 22
LOOPBACK: Final = "lo"
# RFC 1918 and RFC 4193: what no router of the internet carries.
PRIVATE: Final[tuple[Network, ...]] = tuple(
    map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"))
)
# Neighbours of a link find each other by these (RFC 4861); no router carries them either. Who has
# no address yet asks whether somebody else has it (RFC 4862).
_LINK_LOCAL: Final = ipaddress.ip_network("fe80::/10")
_TO_NEIGHBOURS: Final[tuple[Network, ...]] = (_LINK_LOCAL, ipaddress.ip_network("ff02::/16"))
_OF_NEIGHBOURS: Final[tuple[Network, ...]] = (_LINK_LOCAL, ipaddress.ip_network("::/128"))
# Solicitation, advertisement; and MLDv2 reports, by which a switch lets the former through
# (RFC 3810).
ND_OUT: Final[tuple[int, ...]] = (135, 136, 143)
ND_IN: Final[tuple[int, ...]] = (135, 136)


@unique
class Transport(Enum):
    """What a packet carries, as far as the policy asks."""

    TCP = "tcp"
    UDP = "udp"
    ICMP6 = "icmpv6"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One that the dock may talk to; *name* is for people."""

    name: str
    address: Address
    port: int
    transport: Transport = Transport.TCP


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """All that a dock may do on a network.

    Attributes:
        interfaces: Of the station's own network; no other one may be up.
        networks: In which the machine's own addresses and all its peers are.
        peers: Whom the dock may call.
        ssh_from: Who may call it, for a technician; None for nobody.
    """

    interfaces: tuple[str, ...]
    networks: tuple[Network, ...]
    peers: tuple[Peer, ...]
    ssh_from: Address | None = None

    @property
    def has_ipv6(self) -> bool:
        """Whether any of it is IPv6."""
        return any(one.version == 6 for one in self.networks)  # noqa: PLR2004 - the version


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """A packet that this machine sends or gets.

    Attributes:
        is_outgoing: Whether this machine sends it.
        interface: By which it goes or comes.
        is_answer: Whether a packet of the same connection went the other way before.
        source_port: Of TCP and UDP; 0 otherwise, as is the other one.
        icmp6_type: Of ICMPv6; 0 otherwise.
    """

    is_outgoing: bool
    interface: str
    source: Address
    destination: Address
    transport: Transport
    source_port: int = 0
    destination_port: int = 0
    icmp6_type: int = 0
    is_answer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether a packet passes, and by which sentence of the policy."""

    passes: bool
    because: str


def decide(policy: Policy, packet: Packet) -> Decision:
    """Return what becomes of a packet."""
    if packet.interface == LOOPBACK:
        return Decision(passes=True, because="it stays on this machine")
    if packet.interface not in policy.interfaces:
        return Decision(passes=False, because=f"{packet.interface} is no interface of the station")
    if _is_of_neighbours(policy, packet):
        return Decision(passes=True, because="neighbours find each other")
    for peer in policy.peers:
        if _is_with(peer, packet):
            return Decision(passes=True, because=f"{peer.name}")
    if _is_of_technician(policy, packet):
        return Decision(passes=True, because="ssh from the technician's address")
    return Decision(passes=False, because="nobody allowed it")


def _is_with(peer: Peer, packet: Packet) -> bool:
    if packet.transport is not peer.transport:
        return False
    if packet.is_outgoing:
        return (packet.destination, packet.destination_port) == (peer.address, peer.port)
    return packet.is_answer and (packet.source, packet.source_port) == (peer.address, peer.port)


def _is_of_technician(policy: Policy, packet: Packet) -> bool:
    if policy.ssh_from is None or packet.transport is not Transport.TCP:
        return False
    if packet.is_outgoing:
        ours = (packet.destination, packet.source_port) == (policy.ssh_from, SSH_PORT)
        return ours and packet.is_answer
    return (packet.source, packet.destination_port) == (policy.ssh_from, SSH_PORT)


def _is_of_neighbours(policy: Policy, packet: Packet) -> bool:
    if not policy.has_ipv6 or packet.transport is not Transport.ICMP6:
        return False
    if packet.is_outgoing:
        other, near, types = packet.destination, to_neighbours(policy), ND_OUT
    else:
        other, near, types = packet.source, of_neighbours(policy), ND_IN
    return packet.icmp6_type in types and any(other in one for one in near)


def to_neighbours(policy: Policy) -> tuple[Network, ...]:
    """Return where neighbour discovery in a policy's networks goes to."""
    return (*_TO_NEIGHBOURS, *_six(policy))


def of_neighbours(policy: Policy) -> tuple[Network, ...]:
    """Return where neighbour discovery in a policy's networks comes from."""
    return (*_OF_NEIGHBOURS, *_six(policy))


def _six(policy: Policy) -> tuple[Network, ...]:
    return tuple(one for one in policy.networks if one.version == 6)  # noqa: PLR2004 - the version


def problems(policy: Policy) -> tuple[str, ...]:
    """Return what is wrong with a policy, in English: it would open a way out, or lock us in."""
    return tuple(_problems(policy))


def _problems(policy: Policy) -> Iterator[str]:
    if LOOPBACK in policy.interfaces:
        yield "lo is this machine itself, no interface of the station"
    if not policy.interfaces:
        yield "no interface of the station is named: the archive could not be reached"
    for network in policy.networks:
        if not _is_private(network):
            yield f"{network} is not private (RFC 1918, RFC 4193): it may lead to the internet"
    for peer in policy.peers:
        if not is_within(peer.address, policy.networks):
            yield (
                f"{peer.name} at {peer.address} is in none of the networks"
                f" {_listed(policy.networks)}: it would be locked out"
            )
    if policy.ssh_from is not None and not is_within(policy.ssh_from, policy.networks):
        yield f"ssh from {policy.ssh_from}, which is in none of the networks"


def is_within(address: Address, networks: Sequence[Network]) -> bool:
    """Return whether an address is in one of some networks; loopback is in all of them."""
    return address.is_loopback or any(address in network for network in networks)


def _is_private(network: Network) -> bool:
    return any(
        (
            isinstance(network, ipaddress.IPv4Network)
            and isinstance(one, ipaddress.IPv4Network)
            and network.subnet_of(one)
        )
        or (
            isinstance(network, ipaddress.IPv6Network)
            and isinstance(one, ipaddress.IPv6Network)
            and network.subnet_of(one)
        )
        for one in PRIVATE
    )


def _listed(networks: Sequence[Network]) -> str:
    return ", ".join(map(str, networks)) or "that there are (none is named)"
