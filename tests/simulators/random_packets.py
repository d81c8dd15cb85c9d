"""Random policies of a dock and packets of every kind, from few values, so that they often meet."""

import ipaddress
from dataclasses import asdict, replace
from typing import Any, Final

from hypothesis import strategies as st

from edge_agent.guard.policy import SSH_PORT, Address, Packet, Peer, Policy, Transport
from tests.simulators.lan import ARCHIVE, ARCHIVE6, DOCK, DOCK6, INTERNET, INTERNET6, LAN, LAN6

FAR: Final = tuple(map(ipaddress.ip_address, (ARCHIVE, ARCHIVE6, INTERNET, INTERNET6)))
NEAR: Final = tuple(map(ipaddress.ip_address, ("192.168.10.9", "fd00:10::9", "fe80::9")))
EVERYBODY: Final = ipaddress.ip_address("ff02::1")
OURS: Final = {4: ipaddress.ip_address(DOCK), 6: ipaddress.ip_address(DOCK6)}
_INTERFACES: Final = ("eth0", "wlan0")
_PORTS: Final = (SSH_PORT, 53, 123, 443, 8883, 65535)
_HAVE_PORTS: Final = frozenset({Transport.TCP, Transport.UDP})
_OF_IPV4: Final = (Transport.TCP, Transport.UDP, Transport.OTHER)

_PEERS: Final = st.builds(
    Peer,
    name=st.just("peer"),
    address=st.sampled_from([*FAR, *NEAR[:2]]),
    port=st.sampled_from(_PORTS),
    transport=st.sampled_from([Transport.TCP, Transport.UDP]),
)
POLICIES: Final = st.builds(
    Policy,
    interfaces=st.sampled_from([("eth0",), ("wlan0",), ("eth0", "wlan0"), ("eth7",)]),
    networks=st.sampled_from(
        [(ipaddress.ip_network(LAN),), (ipaddress.ip_network(LAN), ipaddress.ip_network(LAN6))]
    ),
    peers=st.lists(_PEERS, max_size=4).map(tuple),
    ssh_from=st.none() | st.sampled_from(NEAR[:2]),
)


@st.composite
def packets_out(draw: st.DrawFn) -> Packet:
    """What a program of the dock may send."""
    other = draw(st.sampled_from([*FAR, *NEAR, EVERYBODY]))
    return _between(draw, OURS[other.version], other, is_outgoing=True)


@st.composite
def packets_in(draw: st.DrawFn) -> Packet:
    """What a host beside the dock may send it, also as an answer to what the dock sent."""
    other = draw(st.sampled_from([*FAR, *NEAR]))
    packet = _between(draw, other, OURS[other.version], is_outgoing=False)
    if packet.transport not in _HAVE_PORTS:
        return packet
    return replace(packet, is_answer=draw(st.booleans()))


def _between(
    draw: st.DrawFn, source: Address, destination: Address, *, is_outgoing: bool
) -> Packet:
    transport = draw(st.sampled_from(list(Transport) if source.version == 6 else _OF_IPV4))
    has_ports = transport in _HAVE_PORTS
    return Packet(
        is_outgoing=is_outgoing,
        interface=draw(st.sampled_from(_INTERFACES)),
        source=source,
        destination=destination,
        transport=transport,
        source_port=draw(st.sampled_from(_PORTS)) if has_ports else 0,
        destination_port=draw(st.sampled_from(_PORTS)) if has_ports else 0,
        icmp6_type=draw(st.sampled_from([1, 128, 133, 134, 135, 136, 143]))
        if transport is Transport.ICMP6
        else 0,
    )


def as_sent(packet: Packet, **how: str | int) -> dict[str, Any]:
    """Return a packet as the programs that send it read it; *how* as they say."""
    told = asdict(packet) | {
        "source": str(packet.source),
        "destination": str(packet.destination),
        "transport": packet.transport.value,
    }
    return told | how
