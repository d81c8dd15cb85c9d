"""The table of nftables against the policy, for what others send into the dock."""

import ipaddress
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.guard.policy import Packet, Peer, Policy, Transport, decide
from edge_agent.guard.ruleset import FAMILY, TABLE, as_nftables
from tests.simulators.lan import ARCHIVE, INTERNET, LAN, Lan, Namespace, lan
from tests.simulators.random_packets import NEAR, OURS, POLICIES, as_sent, packets_in

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root has namespaces of its own"),
]

_PATIENCE_S: Final = 60.0
_ZONES: Final = 1 << 16
# What a dock is that keeps nothing: its own packets leave, which others answer later.
_OPEN: Final = f"table {FAMILY} {TABLE}\ndelete table {FAMILY} {TABLE}\n"


def _watching(places: int, first_zone: int) -> str:
    """Return a table that notes which packets came, and which were let in.

    It stands behind the guard's own, which has -10. What was let in ends here, so that the dock
    answers nothing. Each packet and what it answers have a zone of their own among the connections
    that the kernel knows: none is taken for a part of another one's.
    """
    zones = ", ".join(f"{one} : {first_zone + one}" for one in range(1, places + 1))
    return f"""
table inet watch
delete table inet watch
table inet watch {{
  set came4 {{ typeof ip id; size 65535; flags dynamic; }}
  set came6 {{ typeof ip6 flowlabel; size 65535; flags dynamic; }}
  set in4 {{ typeof ip id; size 65535; flags dynamic; }}
  set in6 {{ typeof ip6 flowlabel; size 65535; flags dynamic; }}
  chain asked {{
    type filter hook output priority -300; policy accept;
    ct zone set ip id map {{ {zones} }}
    ct zone set ip6 flowlabel map {{ {zones} }}
  }}
  chain first {{
    type filter hook prerouting priority -300; policy accept;
    ether saddr 02:00:00:00:00:09 jump came
  }}
  chain came {{
    meta nfproto ipv4 ct zone set ip id map {{ {zones} }} add @came4 {{ ip id }}
    meta nfproto ipv6 ct zone set ip6 flowlabel map {{ {zones} }} add @came6 {{ ip6 flowlabel }}
  }}
  chain last {{
    type filter hook input priority 100; policy accept;
    ether saddr 02:00:00:00:00:09 jump let_in
  }}
  chain let_in {{
    meta nfproto ipv4 add @in4 {{ ip id }} drop
    meta nfproto ipv6 add @in6 {{ ip6 flowlabel }} drop
  }}
}}
"""


@dataclass
class Talker:
    """A program that sends packets from one side: a line to it, a line from it."""

    process: "subprocess.Popen[str]"

    def ask(self, told: object) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(told) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()


@dataclass
class Neighbour:
    """A host of the LAN that claims any address, and the dock that it sends to."""

    site: Lan
    outside: Talker
    dock: Talker
    hardware: dict[str, str] = field(default_factory=dict)
    first_zone: int = 0

    def send(self, policy: Policy, packets: Sequence[Packet]) -> list[bool]:
        """Return which of them the dock's kernel let in, answers after what they answer."""
        # One more, which shows that those before it were dealt with.
        places = len(packets) + 1
        self.first_zone = (self.first_zone + places) % (_ZONES - 2 * places)
        asked = [
            as_sent(_what_it_answers(packet), place=place)
            for place, packet in enumerate(packets, start=1)
            if packet.is_answer
        ]
        rules = _OPEN + _watching(places, self.first_zone)
        assert all(json.loads(self.dock.ask({"rules": rules, "packets": asked})))
        self.site.dock.run("nft", "-f", "-", stdin=as_nftables(policy, frames_of=None))
        sent = [self._as_frame(one) for one in (*packets, packets[-1])]
        assert self.outside.ask(sent) == "sent\n"
        deadline = time.monotonic() + _PATIENCE_S
        while places not in self._places("came4") | self._places("came6"):
            assert time.monotonic() < deadline, "the last packet never came"
        let_in = self._places("in4") | self._places("in6")
        return [place in let_in for place in range(1, places)]

    def _places(self, name: str) -> set[int]:
        told = json.loads(self.site.dock.run("nft", "-j", "list", "set", "inet", "watch", name))
        [found] = [one["set"] for one in told["nftables"] if "set" in one]
        return set(found.get("elem", ()))

    def _as_frame(self, packet: Packet) -> dict[str, Any]:
        name = packet.interface
        if name not in self.hardware:
            [told] = json.loads(self.site.dock.ip(f"-j link show dev {name}"))
            self.hardware[name] = told["address"]
        return as_sent(packet, leaves_by=f"o-{name}", to=self.hardware[name])


def _what_it_answers(packet: Packet) -> Packet:
    return replace(
        packet,
        is_outgoing=True,
        source=packet.destination,
        destination=packet.source,
        source_port=packet.destination_port,
        destination_port=packet.source_port,
        is_answer=False,
    )


def _talker(stack: ExitStack, side: Namespace, module: str) -> Talker:
    command = side.enter(sys.executable, "-m", module)
    process = stack.enter_context(
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    )
    stack.callback(process.kill)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return Talker(process)


@pytest.fixture(scope="module")
def neighbour() -> Iterator[Neighbour]:
    with ExitStack() as stack:
        site = stack.enter_context(lan())
        site.plug("wlan0")
        site.dock.ip("address add 192.168.77.7/24 dev wlan0")
        for family in ("", "-6 "):
            site.dock.ip(f"{family}route add default dev wlan0 metric 9000")
        for name in ("all", "eth0", "wlan0"):
            site.dock.run("sysctl", "-qw", f"net.ipv4.conf.{name}.rp_filter=0")
        # The packets have none, and are to be known by their ports all the same.
        site.dock.run("nft", "-f", "-", stdin=_watching(1, 0))
        site.dock.run("sysctl", "-qw", "net.netfilter.nf_conntrack_checksum=0")
        yield Neighbour(
            site,
            _talker(stack, site.outside, "tests.simulators.frames_in"),
            _talker(stack, site.dock, "tests.simulators.raw_packets"),
        )


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(policy=POLICIES, packets=st.lists(packets_in(), min_size=40, max_size=80))
def test_what_comes_in_is_what_the_policy_says(
    neighbour: Neighbour, policy: Policy, packets: list[Packet]
) -> None:
    """For any configuration, and any packet that a host beside the dock makes up.

    Also where it answers what the dock sent to that host before the rules were loaded.
    """
    assert neighbour.send(policy, packets) == [decide(policy, one).passes for one in packets]


TECHNICIAN: Final = NEAR[0]
STRANGER: Final = ipaddress.ip_address(INTERNET)
CALL: Final = Packet(
    is_outgoing=False,
    interface="eth0",
    source=TECHNICIAN,
    destination=OURS[4],
    transport=Transport.TCP,
    source_port=40_000,
    destination_port=22,
)


def test_what_is_let_in_is_seen(neighbour: Neighbour) -> None:
    """What watches sees both: the technician's ssh comes in, a stranger's does not."""
    networks = (ipaddress.ip_network(LAN),)
    policy = Policy(interfaces=("eth0",), networks=networks, peers=(), ssh_from=TECHNICIAN)

    let_in = neighbour.send(policy, [CALL, replace(CALL, source=STRANGER)])

    assert let_in == [True, False]


def test_answers_are_seen(neighbour: Neighbour) -> None:
    """A peer's answer comes in, its call does not, and nobody else's answer does."""
    archive = ipaddress.ip_address(ARCHIVE)
    networks = (ipaddress.ip_network(LAN),)
    peers = (Peer(name="archive", address=archive, port=8443),)
    policy = Policy(interfaces=("eth0",), networks=networks, peers=peers)
    call = replace(CALL, source=archive, source_port=8443, destination_port=40_000)
    answer = replace(call, is_answer=True)

    let_in = neighbour.send(policy, [answer, call, replace(answer, source=STRANGER)])

    assert let_in == [True, False, False]
