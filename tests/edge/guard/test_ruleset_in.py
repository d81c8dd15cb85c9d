"""The table of nftables against the policy, for what others send into the dock."""

import ipaddress
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.guard.policy import Packet, Peer, Policy, Transport, decide
from edge_agent.guard.ruleset import as_nftables
from tests.simulators.lan import (
    ARCHIVE,
    ARCHIVE6,
    DOCK,
    DOCK6,
    INTERNET,
    INTERNET6,
    LAN,
    LAN6,
    Lan,
    lan,
)

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root has namespaces of its own"),
]

SENDERS: Final = [
    ipaddress.ip_address(one)
    for one in (ARCHIVE, ARCHIVE6, INTERNET, INTERNET6, "192.168.10.9", "fd00:10::9", "fe80::9")
]
PORTS: Final = (22, 53, 8883)
OURS: Final = {4: ipaddress.ip_address(DOCK), 6: ipaddress.ip_address(DOCK6)}
_PATIENCE_S: Final = 60.0
# Behind the guard's table, which has -10: what comes so far was let in. It ends here, so that the
# dock answers nothing and no packet is part of a connection that an earlier one began.
_WATCH: Final = """
table inet watch
delete table inet watch
table inet watch {
  set came4 { typeof ip id; size 65535; flags dynamic; }
  set came6 { typeof ip6 flowlabel; size 65535; flags dynamic; }
  set in4 { typeof ip id; size 65535; flags dynamic; }
  set in6 { typeof ip6 flowlabel; size 65535; flags dynamic; }
  chain first {
    type filter hook prerouting priority -300; policy accept;
    ether saddr 02:00:00:00:00:09 add @came4 { ip id }
    ether saddr 02:00:00:00:00:09 add @came6 { ip6 flowlabel }
  }
  chain last {
    type filter hook input priority 100; policy accept;
    ether saddr 02:00:00:00:00:09 jump let_in
  }
  chain let_in {
    meta nfproto ipv4 add @in4 { ip id } drop
    meta nfproto ipv6 add @in6 { ip6 flowlabel } drop
  }
}
"""


@dataclass
class Neighbour:
    """A host of the LAN that claims any address."""

    site: Lan
    process: "subprocess.Popen[str]"

    def send(self, policy: Policy, packets: Sequence[Packet]) -> list[bool]:
        """Return which of them the dock's kernel let in."""
        self.site.dock.run("nft", "-f", "-", stdin=as_nftables(policy, frames_of=None) + _WATCH)
        # One more, which shows that those before it were dealt with.
        sent = [self._as_json(one) for one in (*packets, packets[-1])]
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(sent) + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "sent\n"
        deadline = time.monotonic() + _PATIENCE_S
        while len(sent) not in self._places("came4") | self._places("came6"):
            assert time.monotonic() < deadline, "the last packet never came"
        let_in = self._places("in4") | self._places("in6")
        return [place in let_in for place in range(1, len(packets) + 1)]

    def _places(self, name: str) -> set[int]:
        told = json.loads(self.site.dock.run("nft", "-j", "list", "set", "inet", "watch", name))
        [found] = [one["set"] for one in told["nftables"] if "set" in one]
        return set(found.get("elem", ()))

    def _as_json(self, packet: Packet) -> dict[str, Any]:
        return {
            "leaves_by": f"o-{packet.interface}",
            "to": _hardware_address(self.site, packet.interface),
            "source": str(packet.source),
            "destination": str(packet.destination),
            "transport": packet.transport.value,
            "source_port": packet.source_port,
            "destination_port": packet.destination_port,
            "icmp6_type": packet.icmp6_type,
        }


_HARDWARE: dict[tuple[int, str], str] = {}


def _hardware_address(site: Lan, interface: str) -> str:
    key = (site.dock.pid, interface)
    if key not in _HARDWARE:
        [told] = json.loads(site.dock.ip(f"-j link show dev {interface}"))
        _HARDWARE[key] = told["address"]
    return _HARDWARE[key]


@pytest.fixture(scope="module")
def neighbour() -> Iterator[Neighbour]:
    with lan() as site:
        site.plug("wlan0")
        for name in ("all", "eth0", "wlan0"):
            site.dock.run("sysctl", "-qw", f"net.ipv4.conf.{name}.rp_filter=0")
        command = site.outside.enter(sys.executable, "-m", "tests.simulators.frames_in")
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield Neighbour(site, process)
            process.kill()


_PEERS = st.builds(
    Peer,
    name=st.just("peer"),
    address=st.sampled_from(SENDERS[:6]),
    port=st.sampled_from(PORTS),
    transport=st.sampled_from([Transport.TCP, Transport.UDP]),
)
_POLICIES = st.builds(
    Policy,
    interfaces=st.sampled_from([("eth0",), ("wlan0",), ("eth0", "wlan0"), ("eth7",)]),
    networks=st.sampled_from(
        [(ipaddress.ip_network(LAN),), (ipaddress.ip_network(LAN), ipaddress.ip_network(LAN6))]
    ),
    peers=st.lists(_PEERS, max_size=4).map(tuple),
    ssh_from=st.none() | st.sampled_from(SENDERS[4:6]),
)


@st.composite
def _packets(draw: st.DrawFn) -> Packet:
    source = draw(st.sampled_from(SENDERS))
    four = [Transport.TCP, Transport.UDP, Transport.OTHER]
    transport = draw(st.sampled_from(list(Transport) if source.version == 6 else four))
    has_ports = transport in {Transport.TCP, Transport.UDP}
    return Packet(
        is_outgoing=False,
        interface=draw(st.sampled_from(["eth0", "wlan0"])),
        source=source,
        destination=OURS[source.version],
        transport=transport,
        source_port=draw(st.sampled_from(PORTS)) if has_ports else 0,
        destination_port=draw(st.sampled_from(PORTS)) if has_ports else 0,
        icmp6_type=draw(st.sampled_from([1, 128, 133, 134, 135, 136, 143]))
        if transport is Transport.ICMP6
        else 0,
    )


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(policy=_POLICIES, packets=st.lists(_packets(), min_size=40, max_size=80))
def test_what_comes_in_is_what_the_policy_says(
    neighbour: Neighbour, policy: Policy, packets: list[Packet]
) -> None:
    """For any configuration, and any packet that a host beside the dock makes up."""
    assert neighbour.send(policy, packets) == [decide(policy, one).passes for one in packets]


def test_what_is_let_in_is_seen(neighbour: Neighbour) -> None:
    """What watches sees both: the technician's ssh comes in, a stranger's does not."""
    technician, stranger = SENDERS[4], SENDERS[2]
    policy = Policy(
        interfaces=("eth0",), networks=(ipaddress.ip_network(LAN),), peers=(), ssh_from=technician
    )
    calls = [
        Packet(
            is_outgoing=False,
            interface="eth0",
            source=source,
            destination=OURS[4],
            transport=Transport.TCP,
            source_port=40_000,
            destination_port=22,
        )
        for source in (technician, stranger)
    ]

    assert neighbour.send(policy, calls) == [True, False]
