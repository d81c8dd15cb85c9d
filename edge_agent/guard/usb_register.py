"""What was at the USB ports: what is there now, and what was refused within a day."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from edge_agent.mounting.port_paths import PortPath

# As long as a breach that is over is shown.
KEPT_FOR: Final = timedelta(days=1)
# Whoever plugs in more kinds of things in a day is counted on, and told of no more.
MOST_REFUSALS: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A device, and what became of it.

    Attributes:
        ids: Vendor and product, as ``lsusb`` writes them; "" if it does not say.
        untrusted_name: What it calls itself, with its serial number; printable ASCII.
    """

    port: PortPath
    bay: int | None
    ids: str
    untrusted_name: str
    let_in: bool
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A device that was refused; it is the same one as long as it says the same at one port.

    Attributes:
        last_at: When it came last; it may be there still.
        times: How often it came.
        number: Of all refusals, the one when it came last.
    """

    sighting: Sighting
    first_at: datetime
    last_at: datetime
    number: int
    times: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """What is known.

    Attributes:
        seen: What is plugged in now, in order of ports, each with the kernel's number of it: it
            is another one when it comes back.
        refused: Within the last day, the first one first.
        refusals: How many there were since the guard began.
    """

    seen: tuple[tuple[int, Sighting], ...] = ()
    refused: tuple[Refusal, ...] = ()
    refusals: int = 0


def after_look(
    register: Register, seen: Sequence[tuple[int, Sighting]], *, now: datetime
) -> Register:
    """Return what is known after a look.

    Args:
        register: Before it.
        seen: All that is plugged in.
        now: Aware.
    """
    standing = {sighting for _, sighting in seen}
    # A clock that was ahead is no reason to keep one for years.
    refused = {
        one.sighting: replace(one, first_at=min(one.first_at, now), last_at=min(one.last_at, now))
        for one in register.refused
        if one.sighting in standing or now - one.last_at < KEPT_FOR
    }
    came = [one for number, one in seen if not one.let_in and (number, one) not in register.seen]
    for number, sighting in enumerate(came, start=register.refusals + 1):
        known = refused.get(sighting)
        if known is not None:
            refused[sighting] = replace(known, last_at=now, number=number, times=known.times + 1)
        elif len(refused) < MOST_REFUSALS:
            refused[sighting] = Refusal(sighting=sighting, first_at=now, last_at=now, number=number)
    return Register(
        seen=tuple(seen),
        refused=tuple(refused.values()),
        refusals=register.refusals + len(came),
    )
