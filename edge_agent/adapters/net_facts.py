"""What this machine's network looks like, and how a part of it is shut; blocking."""

import ipaddress
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from edge_agent.guard.breaches import Breach, Facts, Interface, Kind, Route

# <linux/if.h>, <linux/rtnetlink.h>, <linux/if_arp.h>
_IFF_UP: Final = 0x1
_RT_TABLE_LOCAL: Final = 255
_RTN_UNICAST: Final = 1
_ARPHRD: Final = {1: "ethernet", 512: "ppp", 772: "loopback", 65_534: "tunnel"}
_ANYWHERE: Final = {2: "0.0.0.0", 10: "::"}  # noqa: S104 - a destination, nothing is bound
_BITS: Final = {2: 32, 10: 128}
_RESOLVERS: Final = ("etc/resolv.conf", "run/systemd/resolve/resolv.conf")
_FORWARDS: Final = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")


class NetFacts:
    """Looks, and shuts what was seen."""

    def __init__(self, root: Path = Path("/")) -> None:
        """Look at nothing yet; *root* is where files of the machine stand."""
        self._root = root
        self._sysctl = root / "proc/sys/net"
        self._routes: dict[str, dict[str, Any]] = {}
        self._seen: Facts | None = None

    @property
    def seen(self) -> Facts | None:
        """What the last look found; None before the first."""
        return self._seen

    def look(self, *, is_table_ours: bool, is_whole: bool = True) -> Facts:
        """Return what there is now; what cannot be looked at is named in the facts.

        Args:
            is_table_ours: Goes into the facts.
            is_whole: Whether the kernel is asked for interfaces, addresses and routes; if not, they
                are as they were. Files are looked at in any case: of these it tells no changes.
        """
        before = self._seen
        if is_whole or before is None:
            before = self._ask_kernel()
        self._seen = replace(
            before,
            is_table_ours=is_table_ours,
            interfaces=tuple(
                replace(one, accepts_routers=self._accepts_routers(one.name))
                for one in before.interfaces
            ),
            resolvers=tuple(self._resolvers()),
            forwards=tuple(name for name in _FORWARDS if self._setting(name) not in {"", "0"}),
        )
        return self._seen

    def _ask_kernel(self) -> Facts:
        try:
            with IPRoute() as netlink:
                links = tuple(netlink.get_links())
                return Facts(
                    is_table_ours=False,
                    interfaces=tuple(self._interfaces(netlink, links)),
                    routes=tuple(self._all_routes(netlink, links)),
                )
        except (OSError, NetlinkError) as error:
            return Facts(is_table_ours=False, unseen=(f"netlink: {error}",))

    def shut(self, breach: Breach) -> bool:
        """Do away with a breach, if that can be done; return whether anything was."""
        try:
            match breach.kind:
                case Kind.FOREIGN_INTERFACE:
                    with IPRoute() as netlink:
                        for index in netlink.link_lookup(ifname=breach.subject):
                            netlink.link("set", index=index, state="down")
                case Kind.WAY_OUT:
                    with IPRoute() as netlink:
                        netlink.route("del", **self._routes[breach.subject])
                case Kind.FOREIGN_ADDRESS:
                    self._remove_address(breach.subject)
                case Kind.FORWARDING:
                    (self._sysctl / breach.subject).write_text("0")
                case Kind.ROUTER_BELIEVED:
                    (self._sysctl / f"ipv6/conf/{breach.subject}/accept_ra").write_text("0")
                case _:
                    return False
        except (KeyError, OSError, NetlinkError):
            return False  # the next look says whether it is still there
        return True

    def _remove_address(self, subject: str) -> None:
        address, _, interface = subject.partition(" dev ")
        ip, _, length = address.partition("/")
        with IPRoute() as netlink:
            for index in netlink.link_lookup(ifname=interface):
                netlink.addr("del", index=index, address=ip, prefixlen=int(length))

    def _interfaces(self, netlink: Any, links: Sequence[Any]) -> Iterator[Interface]:
        addresses: dict[int, list[Any]] = {}
        for one in netlink.get_addr():
            # Of a link between two, IFA_LOCAL is ours.
            text = one.get_attr("IFA_LOCAL") or one.get_attr("IFA_ADDRESS")
            addresses.setdefault(one["index"], []).append(
                ipaddress.ip_interface(f"{text}/{one['prefixlen']}")
            )
        for link in links:
            name = str(link.get_attr("IFLA_IFNAME"))
            yield Interface(
                name=name,
                sort=self._sort(name, link),
                is_up=bool(link["flags"] & _IFF_UP),
                addresses=tuple(addresses.get(link["index"], ())),
            )

    def _accepts_routers(self, interface: str) -> bool:
        six = self._sysctl / "ipv6/conf" / interface
        return _read(six / "accept_ra") not in {"", "0"} and _read(six / "disable_ipv6") == "0"

    def _sort(self, name: str, link: Any) -> str:
        info = link.get_attr("IFLA_LINKINFO")
        kind = None if info is None else info.get_attr("IFLA_INFO_KIND")
        if kind:
            return str(kind)
        folder = self._root / "sys/class/net" / name
        if (folder / "wireless").exists() or (folder / "phy80211").exists():
            return "wifi"
        uevent = _read(folder / "uevent")
        if "DEVTYPE=" in uevent:
            return uevent.partition("DEVTYPE=")[2].split()[0]
        with suppress(OSError):
            if "/usb" in str((folder / "device").resolve(strict=True)):
                return "usb network adapter"
        return _ARPHRD.get(int(link["ifi_type"]), f"type {link['ifi_type']}")

    def _all_routes(self, netlink: Any, links: Sequence[Any]) -> Iterator[Route]:
        names = {link["index"]: str(link.get_attr("IFLA_IFNAME")) for link in links}
        self._routes = {}
        for family in _BITS:
            for one in netlink.get_routes(family=family):
                table = one.get_attr("RTA_TABLE") or one["table"]
                if one["type"] != _RTN_UNICAST or table == _RT_TABLE_LOCAL:
                    continue
                destination = one.get_attr("RTA_DST") or _ANYWHERE[family]
                for interface, gateway in _ways(one, names):
                    route = Route(
                        destination=ipaddress.ip_network(f"{destination}/{one['dst_len']}"),
                        interface=interface,
                        gateway=None if gateway is None else ipaddress.ip_address(gateway),
                        table=table,
                    )
                    subject = f"{route.destination} dev {interface} table {table}"
                    self._routes[subject] = {
                        "family": family,
                        "dst": f"{destination}/{one['dst_len']}",
                        "table": table,
                        "priority": one.get_attr("RTA_PRIORITY"),
                    }
                    yield route

    def _resolvers(self) -> Iterator[tuple[str, str]]:
        for name in _RESOLVERS:
            for line in _read(self._root / name).splitlines():
                words = line.split()
                if len(words) > 1 and words[0] == "nameserver" and not _is_loopback(words[1]):
                    yield f"/{name}", words[1][:100]

    def _setting(self, name: str) -> str:
        return _read(self._sysctl / name)


def _ways(route: Any, names: dict[int, str]) -> Iterator[tuple[str, str | None]]:
    """Yield interface and gateway of a route, of each way if it has several."""
    several = route.get_attr("RTA_MULTIPATH")
    if several:
        for way in several:
            yield names.get(way["oif"], "?"), way.get_attr("RTA_GATEWAY")
        return
    yield names.get(route.get_attr("RTA_OIF"), "?"), route.get_attr("RTA_GATEWAY")


def _is_loopback(text: str) -> bool:
    try:
        return ipaddress.ip_address(text.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")[:65_536].strip()
    except OSError:
        return ""
