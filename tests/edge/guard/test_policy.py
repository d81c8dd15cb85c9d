"""What passes, and which configurations must not be obeyed."""

import ipaddress
from dataclasses import replace

import pytest

from edge_agent.guard.policy import Packet, Peer, Policy, Transport, decide, problems

ARCHIVE = ipaddress.ip_address("192.168.10.2")
TECHNICIAN = ipaddress.ip_address("192.168.10.9")
ELSEWHERE = ipaddress.ip_address("203.0.113.9")
OURS = ipaddress.ip_address("192.168.10.7")
POLICY = Policy(
    interfaces=("eth0",),
    networks=(ipaddress.ip_network("192.168.10.0/24"),),
    peers=(Peer(name="broker", address=ARCHIVE, port=8883),),
    ssh_from=TECHNICIAN,
)
CALL = Packet(
    is_outgoing=True,
    interface="eth0",
    source=OURS,
    destination=ARCHIVE,
    transport=Transport.TCP,
    source_port=40_000,
    destination_port=8883,
)
ANSWER = Packet(
    is_outgoing=False,
    interface="eth0",
    source=ARCHIVE,
    destination=OURS,
    transport=Transport.TCP,
    source_port=8883,
    destination_port=40_000,
    is_answer=True,
)
SSH = Packet(
    is_outgoing=False,
    interface="eth0",
    source=TECHNICIAN,
    destination=OURS,
    transport=Transport.TCP,
    source_port=50_000,
    destination_port=22,
)
SSH_ANSWER = replace(
    SSH,
    is_outgoing=True,
    source=OURS,
    destination=TECHNICIAN,
    source_port=22,
    destination_port=50_000,
    is_answer=True,
)


@pytest.mark.parametrize(
    "packet",
    [CALL, ANSWER, SSH, SSH_ANSWER, replace(CALL, interface="lo", destination=ELSEWHERE)],
)
def test_what_passes(packet: Packet) -> None:
    """Calls to peers and their answers, the technician's ssh, and what stays on the machine."""
    assert decide(POLICY, packet).passes


@pytest.mark.parametrize(
    "packet",
    [
        replace(CALL, destination=ELSEWHERE),
        replace(CALL, destination_port=443),
        replace(CALL, transport=Transport.UDP),
        replace(CALL, interface="wlan0"),
        replace(CALL, destination=ELSEWHERE, is_answer=True),
        replace(ANSWER, is_answer=False),
        replace(ANSWER, source=ELSEWHERE),
        replace(SSH, source=ELSEWHERE),
        replace(SSH, destination_port=8443),
        replace(SSH_ANSWER, is_answer=False),
        replace(CALL, transport=Transport.ICMP6, icmp6_type=135),
    ],
)
def test_what_does_not(packet: Packet) -> None:
    """Everything else, also where a connection is known."""
    assert not decide(POLICY, packet).passes


def test_a_policy_that_can_be_obeyed() -> None:
    """The example above is one."""
    assert not problems(POLICY)


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (replace(POLICY, networks=(ipaddress.ip_network("0.0.0.0/0"),)), "may lead"),
        (replace(POLICY, networks=(ipaddress.ip_network("192.168.0.0/15"),)), "may lead"),
        (replace(POLICY, networks=(ipaddress.ip_network("2001:db8::/32"),)), "may lead"),
        (replace(POLICY, networks=(ipaddress.ip_network("10.0.0.0/8"),)), "locked out"),
        (replace(POLICY, networks=()), "locked out"),
        (replace(POLICY, interfaces=("eth0", "lo")), "this machine itself"),
        (replace(POLICY, interfaces=()), "no interface"),
        (replace(POLICY, ssh_from=ELSEWHERE), "ssh from"),
        (
            replace(POLICY, peers=(Peer(name="update", address=ELSEWHERE, port=443),)),
            "update at 203.0.113.9",
        ),
    ],
)
def test_one_that_must_not_be_obeyed(policy: Policy, said: str) -> None:
    """It says why."""
    assert said in "; ".join(problems(policy))
