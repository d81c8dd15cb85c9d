"""Sends packets of any kind from a network namespace, and tells which the kernel let out.

Run in the namespace, as root: a line of JSON is a rule set and packets, the answer is one line with
a list of true and false. What a table of nftables drops, the kernel refuses to send.
"""

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
    number = NUMBERS[packet["transport"]]
    family = socket.AF_INET if source.version == 4 else socket.AF_INET6
    if source.version == 4:
        head = struct.pack(
            ">BBHHHBBH4s4s",
            *(0x45, 0, 20 + len(body), 0, 0, 64, number, 0, source.packed, destination.packed),
        )
    else:
        head = struct.pack(
            ">IHBB16s16s", 6 << 28, len(body), number, 255, source.packed, destination.packed
        )
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as line:
        line.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, packet["interface"].encode())
        try:
            line.sendto(head + body, (str(destination), 0))
        except PermissionError:
            return False
    return True


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
