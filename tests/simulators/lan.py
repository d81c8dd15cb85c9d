"""A station's network in namespaces of this machine: a dock, and everything it could talk to.

The dock's ``eth0`` leads to the other side, where the archive is, and an internet: every packet for
it is counted there, whoever sends it. Nothing of it reaches this machine's own network.
"""

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

ARCHIVE: Final = "192.168.10.2"
DOCK: Final = "192.168.10.7"
ROUTER: Final = "192.168.10.1"
INTERNET: Final = "203.0.113.9"  # RFC 5737: nobody's
ARCHIVE6: Final = "fd00:10::2"
DOCK6: Final = "fd00:10::7"
ROUTER6: Final = "fd00:10::1"
INTERNET6: Final = "2001:db8::9"
LAN: Final = "192.168.10.0/24"
LAN6: Final = "fd00:10::/64"

_COUNTING: Final = f"""
table inet watch {{
  counter internet {{ }}
  counter archive {{ }}
  chain everything {{
    type filter hook prerouting priority -300; policy accept;
    ip daddr {INTERNET} counter name internet
    ip6 daddr {INTERNET6} counter name internet
    ip daddr {ARCHIVE} counter name archive
    ip6 daddr {ARCHIVE6} counter name archive
  }}
}}
"""
_PATIENCE_S: Final = 60.0
_ENV: Final = {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}


@dataclass(slots=True)
class Namespace:
    """A network namespace, kept by a process that sleeps."""

    _keeper: "subprocess.Popen[bytes]" = field(
        default_factory=lambda: subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; exec sleep infinity"],
            stdout=subprocess.PIPE,
            env=_ENV,
        )
    )

    def __post_init__(self) -> None:
        """Wait until it is there."""
        assert self._keeper.stdout is not None
        self._keeper.stdout.readline()

    @property
    def pid(self) -> int:
        """Of the process that keeps it."""
        return self._keeper.pid

    def enter(self, *command: str) -> list[str]:
        """Return the command line that runs a program in it."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", *command]

    def run(self, *command: str, stdin: str | None = None) -> str:
        """Run a program in it to its end."""
        done = subprocess.run(
            self.enter(*command),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            env=_ENV,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def ip(self, words: str) -> str:
        """Run `ip` in it."""
        return self.run("ip", *words.split())

    def close(self) -> None:
        """Let it go, with all that is in it."""
        self._keeper.kill()
        self._keeper.wait()
        if self._keeper.stdout is not None:
            self._keeper.stdout.close()


@dataclass(slots=True, kw_only=True)
class Lan:
    """The dock's side and the other one."""

    dock: Namespace
    outside: Namespace

    def heard(self, counter: str) -> int:
        """Return how many packets came for the "internet", or for the "archive"."""
        told = json.loads(self.outside.run("nft", "-j", "list", "counters"))
        found: list[dict[str, Any]] = [
            one["counter"] for one in told["nftables"] if "counter" in one
        ]
        return next(int(one["packets"]) for one in found if one["name"] == counter)

    def until_heard(self, counter: str, packets: int) -> None:
        """Wait until so many packets came; one may wait for its neighbour's address first."""
        deadline_s = time.monotonic() + _PATIENCE_S
        while (heard := self.heard(counter)) < packets:
            assert time.monotonic() < deadline_s, f"{heard} packets for {counter}, not {packets}"

    @property
    def hardware(self) -> str:
        """The hardware address at the other end of the dock's ``eth0``."""
        told: list[dict[str, str]] = json.loads(self.outside.ip("-j link show o-eth0"))
        return told[0]["address"]

    def plug(self, name: str, *, mtu: int = 1500) -> None:
        """Give the dock another interface, which leads outside as well; it is up."""
        other = f"o-{name}"
        self.dock.ip(f"link add {name} mtu {mtu} type veth peer name {other}")
        self.dock.ip(f"link set {other} netns {self.outside.pid}")
        self.outside.ip(f"link set {other} up")
        self.dock.ip(f"link set {name} up")


@contextlib.contextmanager
def lan(*, default_route: bool = True) -> Iterator[Lan]:
    """Make both sides; with a default route, nothing but rules keeps the dock from the internet."""
    with contextlib.ExitStack() as stack:
        sides = []
        for _ in range(2):
            sides.append(Namespace())
            stack.callback(sides[-1].close)
        made = Lan(dock=sides[0], outside=sides[1])
        for side in sides:
            # Addresses are there at once, not after a second of asking who has them already.
            side.run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
            side.run("sysctl", "-qw", "net.ipv6.conf.default.accept_ra=0")
            side.ip("link set lo up")
        made.plug("eth0")
        _address(made.dock, "eth0", [f"{DOCK}/24", f"{DOCK6}/64"])
        outside = (f"{ARCHIVE}/24", f"{ROUTER}/24", f"{ARCHIVE6}/64", f"{ROUTER6}/64")
        _address(made.outside, "o-eth0", outside)
        _address(made.outside, "lo", [f"{INTERNET}/32", f"{INTERNET6}/128"])
        if default_route:
            made.dock.ip(f"route add default via {ROUTER}")
            made.dock.ip(f"-6 route add default via {ROUTER6}")
        made.outside.run("nft", "-f", "-", stdin=_COUNTING)
        yield made


def _address(side: Namespace, interface: str, addresses: Sequence[str]) -> None:
    for address in addresses:
        side.ip(f"address add {address} dev {interface}")
