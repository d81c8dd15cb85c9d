"""No program of ours, and nothing that they are made with, talks to anybody by itself."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.simulators.lan import ROUTER, Lan, lan

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root has namespaces of its own"),
]

ROOT = Path(__file__).resolve().parents[2]
# The kernel itself looks for neighbours.
COUNTING = """
table inet calls {
  counter away { }
  chain everything {
    type filter hook prerouting priority -310; policy accept;
    iifname "o-eth0" meta l4proto != ipv6-icmp counter name away
  }
}
"""


@dataclass(frozen=True, slots=True)
class Watched:
    """A machine with a way out and a name server, of which each packet is counted.

    Attributes:
        resolvers: Its resolv.conf.
    """

    site: Lan
    resolvers: Path

    @property
    def away(self) -> int:
        """How many packets have left it."""
        told = json.loads(self.site.outside.run("nft", "-j", "list", "counters"))
        found = (one["counter"] for one in told["nftables"] if "counter" in one)
        return next(int(one["packets"]) for one in found if one["name"] == "away")

    def run(self, *command: str, **env: str) -> "subprocess.CompletedProcess[str]":
        """Run a program there to its end."""
        see = f'mount --bind {self.resolvers} /etc/resolv.conf && exec "$@"'
        own_files = ("unshare", "--mount", "--propagation", "private", "sh", "-c", see, "sh")
        return subprocess.run(
            self.site.dock.enter(*own_files, *command),
            cwd=ROOT,
            env=os.environ | env,
            capture_output=True,
            text=True,
            check=False,
            timeout=540,
        )


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    resolvers = tmp_path / "resolv.conf"
    resolvers.write_text(f"nameserver {ROUTER}\noptions timeout:1 attempts:1\n")
    with lan(default_route=True) as site:
        site.outside.run("nft", "-f", "-", stdin=COUNTING)
        yield Watched(site, resolvers)


@pytest.mark.timeout(600)
def test_a_whole_evening_stays_on_loopback(watched: Watched, tmp_path: Path) -> None:
    """Broker, archive, console, dock and recorders: no packet leaves the machine, no name is asked.

    They could: it has a way out and a name server.
    """
    done = watched.run(
        *(sys.executable, "-m", "demo", "--once", "--plain", "--port", "0"),
        DEMO_DIR=str(tmp_path / "demo"),
    )

    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert watched.away == 0


def test_what_is_counted_would_be_seen(watched: Watched) -> None:
    """A name that is asked for, and a connection, are packets that leave it."""
    asking = "import socket\ntry: socket.getaddrinfo('bayward.example', 443)\nexcept OSError: pass"

    watched.run(sys.executable, "-c", asking)
    asked = watched.away
    connecting = "import socket\nsocket.socket().connect_ex(('203.0.113.9', 443))"
    watched.run(sys.executable, "-c", connecting)

    assert asked > 0
    assert watched.away > asked
