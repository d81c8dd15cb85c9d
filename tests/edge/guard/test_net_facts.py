"""What is looked at each second, and what only when the kernel tells of it or now and then."""

from pathlib import Path

from edge_agent.adapters.net_facts import NetFacts
from tests.simulators.lan import ROUTER


def test_files_are_looked_at_each_time(tmp_path: Path) -> None:
    """Nothing tells of their changes; interfaces and routes stay as they were seen."""
    forwarding = tmp_path / "proc/sys/net/ipv4/ip_forward"
    resolvers = tmp_path / "etc/resolv.conf"
    for file in (forwarding, resolvers):
        file.parent.mkdir(parents=True)
    facts = NetFacts(tmp_path)
    before = facts.look(is_table_ours=True)

    forwarding.write_text("1\n")
    resolvers.write_text(f"nameserver {ROUTER}\n")
    after = facts.look(is_table_ours=True, is_whole=False)

    assert (before.forwards, before.resolvers) == ((), ())
    assert after.forwards == ("ipv4/ip_forward",)
    assert after.resolvers == (("/etc/resolv.conf", ROUTER),)
    assert (after.interfaces, after.routes) == (before.interfaces, before.routes)
