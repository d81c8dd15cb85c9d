"""Sends frames to a dock from a host beside it, under any address that they claim to come from.

Run in the host's namespace, as root: a line of JSON is packets, each with the interface that it
leaves by and the hardware address that it goes to; the answer is one line. A packet carries its
place in the line, from 1, as the identification of IPv4 and the flow label of IPv6. All leave by
one processor, so they come in that order.
"""

import ipaddress
import json
import os
import socket
import struct
import sys
from typing import Any, Final

from tests.simulators.raw_packets import NUMBERS, body_of, checksum

_ETHERTYPES: Final = {4: 0x0800, 6: 0x86DD}


def main() -> None:
    """Answer each line until there are no more."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    _say("ready")
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as line:
        for asked in sys.stdin:
            for place, packet in enumerate(json.loads(asked), start=1):
                line.sendto(_frame(packet, place), (packet["leaves_by"], 0))
            _say("sent")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _frame(packet: dict[str, Any], place: int) -> bytes:
    source = ipaddress.ip_address(packet["source"])
    destination = ipaddress.ip_address(packet["destination"])
    body = body_of(packet)
    number = NUMBERS[packet["transport"]]
    ends = source.packed + destination.packed
    if source.version == 4:
        fields = (0x45, 0, 20 + len(body), place, 0, 64, number)
        blank = struct.pack(">BBHHHBBH", *fields, 0) + ends
        head = struct.pack(">BBHHHBBH", *fields, checksum(blank)) + ends
    else:
        head = struct.pack(">IHBB", 6 << 28 | place, len(body), number, 255) + ends
    to, own = bytes.fromhex(packet["to"].replace(":", "")), b"\x02\0\0\0\0\x09"
    return to + own + struct.pack(">H", _ETHERTYPES[source.version]) + head + body


if __name__ == "__main__":
    main()
