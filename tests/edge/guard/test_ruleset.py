"""The table of nftables, in a real kernel: it does what the policy says, whatever is sent."""

import ipaddress
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.guard.policy import Packet, Peer, Policy, Transport, decide
from edge_agent.guard.ruleset import as_nftables
from tests.simulators.lan import ARCHIVE, ARCHIVE6, INTERNET, INTERNET6, LAN, LAN6, Lan, lan
from tests.simulators.random_packets import OURS, POLICIES, as_sent, packets_out

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root has namespaces of its own"),
]

INTERFACES = ("eth0", "wlan0")
POLICY = Policy(
    interfaces=("eth0",),
    networks=(ipaddress.ip_network(LAN), ipaddress.ip_network(LAN6)),
    peers=(
        Peer(name="broker", address=ipaddress.ip_address(ARCHIVE), port=8883),
        Peer(name="archive", address=ipaddress.ip_address(ARCHIVE), port=8443),
        Peer(name="archive", address=ipaddress.ip_address(ARCHIVE6), port=8443),
    ),
)


@dataclass
class Sender:
    """Sends from the dock, under any rules."""

    process: "subprocess.Popen[str]"

    def send(self, policy: Policy, packets: Sequence[Packet]) -> list[bool]:
        """Return which of them the kernel let out."""
        return self._ask(as_nftables(policy, frames_of=None), [as_sent(one) for one in packets])

    def send_frames(
        self, policy: Policy, packets: Sequence[Packet], **how: str | int
    ) -> list[bool]:
        """Likewise, of packets that are frames of a packet socket."""
        there = [name for name in policy.interfaces if name in INTERFACES]
        rules = as_nftables(policy, frames_of=there)
        return self._ask(rules, [as_sent(one, **how) for one in packets])

    def _ask(self, rules: str, packets: Sequence[dict[str, Any]]) -> list[bool]:
        asked = {"rules": rules, "packets": packets}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        told: list[bool] = json.loads(self.process.stdout.readline())
        return told


@pytest.fixture(scope="module")
def site() -> Iterator[Lan]:
    with lan() as made:
        made.plug("wlan0")
        made.dock.ip("address add 192.168.77.7/24 dev wlan0")
        for family in ("", "-6 "):
            made.dock.ip(f"{family}route add default dev wlan0 metric 9000")
        yield made


@pytest.fixture(scope="module")
def sender(site: Lan) -> Iterator[Sender]:
    command = site.dock.enter(sys.executable, "-m", "tests.simulators.raw_packets")
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Sender(process)
        process.kill()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(policy=POLICIES, packets=st.lists(packets_out(), min_size=40, max_size=80))
def test_the_kernel_and_the_policy_agree(
    sender: Sender, policy: Policy, packets: list[Packet]
) -> None:
    """For any configuration and any packet that a program with all rights sends."""
    assert sender.send(policy, packets) == [decide(policy, one).passes for one in packets]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    policy=POLICIES,
    packets=st.lists(packets_out(), min_size=1, max_size=30),
    claims=st.sampled_from([0, 0x0800, 0x0806, 0x86DD, 0x88CC]),
    bypasses=st.sampled_from([0, 1]),
)
def test_frames_of_packet_sockets_are_no_way_round(
    site: Lan, sender: Sender, policy: Policy, packets: list[Packet], claims: int, bypasses: int
) -> None:
    """By the station's interfaces no frame leaves that the policy would not let out as a packet.

    Whatever type its sender claims that it has, and also where it goes past the queues. With its
    true type and by them it leaves wherever the policy lets it out; of connections a frame's hook
    knows none.
    """
    how: dict[str, str | int] = {"hardware": site.hardware, "claims": claims, "bypasses": bypasses}

    sent = sender.send_frames(policy, packets, **how)

    for one, is_sent in zip(packets, sent, strict=True):
        passes = one.interface not in policy.interfaces or (
            decide(policy, replace(one, is_answer=True)).passes
        )
        true_type = 0x0800 if one.destination.version == 4 else 0x86DD
        if claims in {0, true_type} and not bypasses:
            assert is_sent == passes
        else:
            assert not (is_sent and not passes)


def test_no_frame_reaches_the_internet(site: Lan, sender: Sender) -> None:
    """Where nothing looks at frames they do: what counts counts."""
    frame = Packet(
        is_outgoing=True,
        interface="eth0",
        source=OURS[4],
        destination=ipaddress.ip_address(INTERNET),
        transport=Transport.UDP,
        source_port=40_000,
        destination_port=53,
    )
    how: dict[str, str | int] = {"hardware": site.hardware, "claims": 0, "bypasses": 0}
    before = site.heard("internet")
    elsewhere = replace(POLICY, interfaces=("eth7",))

    assert sender.send_frames(POLICY, [frame], **how) == [False]
    assert sender.send_frames(POLICY, [frame], **(how | {"bypasses": 1})) == [False]
    assert site.heard("internet") == before
    assert sender.send_frames(elsewhere, [frame], **how) == [True]
    site.until_heard("internet", before + 1)


def test_nothing_reaches_the_internet(site: Lan, sender: Sender) -> None:
    """By any protocol, family, port or interface; what is meant for the archive does."""
    some = Packet(
        is_outgoing=True,
        interface="eth0",
        source=OURS[4],
        destination=ipaddress.ip_address(INTERNET),
        transport=Transport.TCP,
        source_port=40_000,
        destination_port=443,
    )
    six = replace(some, source=OURS[6], destination=ipaddress.ip_address(INTERNET6))
    away = [
        replace(one, transport=transport, destination_port=port, interface=interface)
        for one in (some, six)
        for transport in (Transport.TCP, Transport.UDP, Transport.OTHER)
        for port in (22, 53, 80, 123, 443, 853, 8443, 8883)
        for interface in ("eth0", "wlan0")
    ]
    before = site.heard("internet"), site.heard("archive")

    sent = sender.send(POLICY, away)
    to_archive = replace(some, destination=ipaddress.ip_address(ARCHIVE), destination_port=8883)
    [arrived] = sender.send(POLICY, [to_archive])

    assert not any(sent)
    assert arrived
    assert site.heard("internet") == before[0]
    site.until_heard("archive", before[1] + 1)


def test_without_the_table_they_would(site: Lan, sender: Sender) -> None:
    """What counts counts: the same packets arrive where nothing keeps them."""
    packet = Packet(
        is_outgoing=True,
        interface="eth0",
        source=OURS[4],
        destination=ipaddress.ip_address(INTERNET),
        transport=Transport.UDP,
        source_port=40_000,
        destination_port=53,
    )
    before = site.heard("internet")
    everything = replace(
        POLICY,
        peers=(
            Peer(
                name="a mistake",
                address=ipaddress.ip_address(INTERNET),
                port=53,
                transport=Transport.UDP,
            ),
        ),
    )

    assert sender.send(everything, [packet]) == [True]
    site.until_heard("internet", before + 1)
