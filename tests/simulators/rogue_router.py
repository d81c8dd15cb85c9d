"""A host beside a dock that plays router and DHCP server, though nobody made it one.

Run in its namespace, as root, with the name of an interface: it sends one router advertisement
(RFC 4861, 4.2) to everybody: a default route, and a prefix to make an address of.
"""

import ipaddress
import socket
import struct
import sys
from pathlib import Path
from typing import Final

from tests.simulators.lan import Namespace

PREFIX: Final = "2001:db8:66::"
ADDRESS: Final = "100.64.3.1"
# What a DHCP client does with a lease everywhere: address, route and name server.
_ON_LEASE: Final = """\
#!/bin/sh
[ "$1" = bound ] || exit 0
ip address add "$ip/$mask" dev "$interface"
ip route add default via "$router"
echo "nameserver $dns" >{resolvers}
"""
_SERVER: Final = f"""\
start 100.64.3.50
end 100.64.3.60
interface o-eth0
opt subnet 255.255.255.0
opt router {ADDRESS}
opt dns {ADDRESS}
lease_file {{folder}}/leases
pidfile {{folder}}/pid
"""


def main() -> None:
    """Send it."""
    [interface] = sys.argv[1:]
    # Type, code, checksum by the kernel; hops, flags, lifetime; times.
    head = struct.pack(">BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
    lifetimes = (86_400, 14_400)
    prefix = struct.pack(">BBBBIII", 3, 4, 64, 0xC0, *lifetimes, 0)
    advertised = head + prefix + ipaddress.IPv6Address(PREFIX).packed
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as line:
        line.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        line.sendto(advertised, ("ff02::1", 0, 0, socket.if_nametoindex(interface)))


def advertise(outside: Namespace) -> None:
    """Send a router advertisement to the dock."""
    outside.run(sys.executable, "-m", "tests.simulators.rogue_router", "o-eth0")


def server(outside: Namespace, folder: Path) -> list[str]:
    """Return the command line of a DHCP server beside the dock; it has an address there."""
    outside.ip(f"address add {ADDRESS}/24 dev o-eth0")
    folder.mkdir()
    config = folder / "udhcpd.conf"
    config.write_text(_SERVER.format(folder=folder))
    (folder / "leases").touch()
    return outside.enter("busybox", "udhcpd", "-f", str(config))


def client(dock: Namespace, folder: Path, resolvers: Path) -> list[str]:
    """Return the command line that asks for a lease on the dock; status 1 if there is none."""
    script = folder / "on-lease"
    script.write_text(_ON_LEASE.format(resolvers=resolvers))
    script.chmod(0o755)
    asking = ("-i", "eth0", "-n", "-q", "-t", "3", "-T", "1", "-s", str(script))
    return dock.enter("busybox", "udhcpc", *asking)


if __name__ == "__main__":
    main()
