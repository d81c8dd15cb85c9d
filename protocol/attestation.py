"""What a dock signs about the no-internet rule: each attestation names the one before.

Sent as an envelope; docs/no-internet.md says how it is checked with stock tools.
"""

from enum import Enum, unique
from typing import Annotated, Final

from msgspec import Meta

from protocol.digest import HexDigest
from protocol.identifiers import BayField, DockField
from protocol.manifest import Isolation, Label, UtcTime
from protocol.messages import Code
from protocol.strict_json import Message

MAX_LISTED: Final = 50
MAX_SOCKETS: Final = 100
_MOST: Final = (1 << 63) - 1

_Count = Annotated[int, Meta(ge=0, le=_MOST)]
_Text = Annotated[str, Meta(max_length=300)]


@unique
class Occasion(Enum):
    """Why it was made."""

    STARTED = "started"
    DAILY = "daily"
    CHANGED = "changed"
    ASKED = "asked"


class SeenInterface(Message, frozen=True, kw_only=True):
    """A network interface; *addresses* with their prefix lengths."""

    name: _Text
    sort: _Text
    is_up: bool
    addresses: Annotated[tuple[_Text, ...], Meta(max_length=MAX_LISTED)] = ()


class SeenNetwork(Message, frozen=True, kw_only=True):
    """What the guard saw of the network.

    Attributes:
        routes: Each as ``DESTINATION dev INTERFACE table NUMBER``.
        resolvers: Each as the file that names it, and its address.
        unlisted: How many things more there were than are listed.
    """

    interfaces: Annotated[tuple[SeenInterface, ...], Meta(max_length=MAX_LISTED)] = ()
    routes: Annotated[tuple[_Text, ...], Meta(max_length=MAX_LISTED)] = ()
    resolvers: Annotated[tuple[_Text, ...], Meta(max_length=MAX_LISTED)] = ()
    unlisted: Annotated[int, Meta(ge=0)] = 0


class SeenUsb(Message, frozen=True, kw_only=True):
    """A USB device that is plugged in, or that was refused since the last attestation.

    Attributes:
        times: Of one that was refused: how often, since it was seen first; it is forgotten when a
            day has passed without it. 0 of one that is plugged in.
    """

    port: _Text
    ids: _Text
    let_in: bool
    because: _Text
    bay: BayField | None = None
    times: Annotated[int, Meta(ge=0)] = 0


class Broken(Message, frozen=True, kw_only=True):
    """One way in which the rule was broken; *ended_at* is None while it is."""

    code: Code
    subject: _Text
    text: _Text
    began_at: UtcTime
    ended_at: UtcTime | None = None


class Counted(Message, frozen=True, kw_only=True):
    """How far the guard had counted, from when it began: the next attestation goes on from there.

    Attributes:
        run: Of the guard, another one each time that it begins; "" if none was heard yet.
        changes: Breaches that began, and that were over; one where both was at once.
        breaches: That began.
        usb: Devices that were refused, each time they came.
        packets: That were refused, in, out and through, as far as was counted before the rules
            were loaded anew.
    """

    run: Annotated[str, Meta(max_length=32)] = ""
    changes: _Count = 0
    breaches: _Count = 0
    usb: _Count = 0
    packets: _Count = 0


class Attestation(Message, frozen=True, kw_only=True):
    """How a dock stood with the no-internet rule, and what it looked at to say so.

    Attributes:
        sequence: Of this dock, from 1 on, without gaps.
        previous_sha256: Of the exact payload of the one before; 64 zeros in the first.
        since: When it began to stand so.
        enforced: Whether what is not allowed is refused and shut; False in a dry run and without
            the guard's word.
        table_sha256: Of the rules that the kernel had; None if they were not ours.
        network: None without the guard's word, as are the USB devices.
        sockets: On any address but loopback: protocol, own and other end, as in /proc/net.
        unlisted_sockets: How many more there were.
        refused_usb: How often a device was refused since the last attestation.
        refused_packets: Likewise.
        broken: What began, or was over, since the last attestation; what lasts is among these when
            it begins, and again when it is over.
        unlisted_broken: How many more began.
        left_out: Changes before this one that no attestation tells: there were too many.
        counted: How far the guard has counted. As in the last one without its word. Where *run* is
            another than there, it began anew: all that it knows is told.
    """

    dock: DockField
    sequence: Annotated[int, Meta(ge=1, le=_MOST)]
    previous_sha256: HexDigest
    made_at: UtcTime
    occasion: Occasion
    isolation: Isolation
    since: UtcTime
    enforced: bool
    agent: Label
    table_sha256: HexDigest | None = None
    network: SeenNetwork | None = None
    usb: Annotated[tuple[SeenUsb, ...], Meta(max_length=2 * MAX_LISTED)] = ()
    refused_usb: _Count = 0
    refused_packets: _Count = 0
    sockets: Annotated[tuple[_Text, ...], Meta(max_length=MAX_SOCKETS)] = ()
    unlisted_sockets: Annotated[int, Meta(ge=0)] = 0
    broken: Annotated[tuple[Broken, ...], Meta(max_length=MAX_LISTED)] = ()
    unlisted_broken: _Count = 0
    left_out: _Count = 0
    counted: Counted = Counted()
