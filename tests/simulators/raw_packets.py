"""Sends packets of any kind from a network namespace, and tells which the kernel let out.

Run in the namespace, as root: a line of JSON is a rule set and packets, the answer is one line with
a list of true and false. What a table of nftables drops, the kernel refuses to send.

A packet with a hardware address goes out as a frame of a packet socket, under the type that it
claims, and past the queues of the interface where it says so. One with a place carries that as the
identification of IPv4 and the flow label of IPv6.
"""

import errno
import ipaddress
import json
import socket
import struct
import subprocess
import sys
from typing import Any, Final

NUMBERS: Final = {"tcp": 6, "udp": 17, "icmpv6": 58, "other": 47}
_SO_BINDTODEVICE: Final = socket.SO_BINDTODEVICE
_SYN: Final = 0x02
_ETHERTYPES: Final = {4: 0x0800, 6: 0x86DD}
# <linux/if_packet.h>
_SOL_PACKET: Final = 263
_PACKET_QDISC_BYPASS: Final = 20


def main() -> None:
    """Answer each line until there are no more."""
    _say("ready")
    for line in sys.stdin:
        asked = json.loads(line)
        subprocess.run(["nft", "-f", "-"], input=asked["rules"], text=True, check=True)
        _say(json.dumps([_is_sent(packet) for packet in asked["packets"]]))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _is_sent(packet: dict[str, Any]) -> bool:
    source = ipaddress.ip_address(packet["source"])
    destination = ipaddress.ip_address(packet["destination"])
    body = body_of(packet)
    number, place = NUMBERS[packet["transport"]], packet.get("place", 0)
    family = socket.AF_INET if source.version == 4 else socket.AF_INET6
    if source.version == 4:
        head = struct.pack(
            ">BBHHHBBH4s4s",
            *(0x45, 0, 20 + len(body), place, 0, 64, number, 0, source.packed, destination.packed),
        )
    else:
        head = struct.pack(
            ">IHBB16s16s",
            *(6 << 28 | place, len(body), number, 255, source.packed, destination.packed),
        )
    if "hardware" in packet:
        return _is_framed(packet, head + body, _ETHERTYPES[source.version])
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as line:
        line.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, packet["interface"].encode())
        try:
            line.sendto(head + body, (str(destination), 0))
        except PermissionError:
            return False
    return True


def _is_framed(packet: dict[str, Any], content: bytes, ethertype: int) -> bool:
    to = bytes.fromhex(packet["hardware"].replace(":", ""))
    if ethertype == _ETHERTYPES[4]:
        content = content[:10] + struct.pack(">H", checksum(content[:20])) + content[12:]
    frame = to + b"\x02\0\0\0\0\x07" + struct.pack(">H", ethertype) + content
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as line:
        line.setsockopt(_SOL_PACKET, _PACKET_QDISC_BYPASS, packet["bypasses"])
        try:
            line.sendto(frame, (packet["interface"], packet["claims"] or ethertype))
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            return False
    return True


def checksum(head: bytes) -> int:
    """Return what stands in the head of an IPv4 packet, of one that has zeros there."""
    total: int = sum(struct.unpack(f">{len(head) // 2}H", head))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def body_of(packet: dict[str, Any]) -> bytes:
    """Return what follows the head of a packet: as little as its transport needs."""
    ports = (packet["source_port"], packet["destination_port"])
    match packet["transport"]:
        case "tcp":
            return struct.pack(">HHIIBBHHH", *ports, 0, 0, 5 << 4, _SYN, 1024, 0, 0)
        case "udp":
            return struct.pack(">HHHH", *ports, 8, 0)
        case "icmpv6":
            return struct.pack(">BBHI", packet["icmp6_type"], 0, 0, 0) + bytes(16)
        case _:
            return bytes(8)


if __name__ == "__main__":
    main()
