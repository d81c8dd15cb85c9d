"""What a technician is told about one thing of a dock: facts in, a verdict out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from protocol.manifest import Isolation
from protocol.messages import Health

_SOON: Final = timedelta(days=30)
_VERY_SOON: Final = timedelta(days=7)
# A clock may be wrong by this much before recordings are dated wrongly.
_CLOCK_ERROR_S: Final = 1.0
_FEW_INODES: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One thing that was looked at.

    Attributes:
        subject: What, in a word or two.
        seen: What was found, in English.
        remedy: What to do; empty if nothing.
    """

    subject: str
    health: Health
    seen: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockState:
    """The kernel's word on its clock; *error_s* is the most that it may be off, if it knows."""

    is_synchronised: bool
    error_s: float


def about_certificate(subject: str, ends_at: datetime, now: datetime) -> Verdict:
    """Return how long a certificate holds; both times are aware."""
    left = ends_at - now
    seen = f"until {ends_at:%Y-%m-%d}, {left.days} days"
    if left <= timedelta():
        return Verdict(
            subject=subject,
            health=Health.BAD,
            seen=f"ended on {ends_at:%Y-%m-%d}",
            remedy="issue it anew with `server-agent pki issue` and put it in place; no restart",
        )
    if left < _SOON:
        health = Health.BAD if left < _VERY_SOON else Health.SOON
        return Verdict(
            subject=subject,
            health=health,
            seen=seen,
            remedy="issue it anew with `server-agent pki issue` before it ends",
        )
    return Verdict(subject=subject, health=Health.GOOD, seen=seen)


def about_clock(state: ClockState | None) -> Verdict:
    """Return whether the dock's clock can be relied on; None if the kernel does not tell."""
    if state is None:
        return Verdict(subject="clock", health=Health.UNKNOWN, seen="the kernel does not tell")
    if not state.is_synchronised or state.error_s > _CLOCK_ERROR_S:
        return Verdict(
            subject="clock",
            health=Health.SOON,
            seen="nothing keeps it right"
            if not state.is_synchronised
            else f"it may be off by {state.error_s:.1f} s",
            remedy="name your network's time server in /etc/systemd/timesyncd.conf; timedatectl",
        )
    return Verdict(
        subject="clock", health=Health.GOOD, seen=f"synchronised, within {state.error_s:.3f} s"
    )


def about_space(
    *, free_bytes: int, free_inodes: int, low_water_bytes: int, min_free_bytes: int
) -> Verdict:
    """Return whether there is room for the next recorders."""
    seen = f"{free_bytes / 1e9:.1f} GB free, {free_inodes} inodes"
    remedy = "free the disk, or see why the archive sends no receipts: `edge-agent status`"
    if free_bytes <= min_free_bytes or free_inodes <= 0:
        return Verdict(subject="staging disk", health=Health.BAD, seen=seen, remedy=remedy)
    if free_bytes <= low_water_bytes or free_inodes < _FEW_INODES:
        return Verdict(subject="staging disk", health=Health.SOON, seen=seen, remedy=remedy)
    return Verdict(subject="staging disk", health=Health.GOOD, seen=seen)


def about_ports(missing: Iterable[str]) -> Verdict:
    """Return whether the hubs of the bay map are there; *missing* are ports without one."""
    gone = sorted(missing)
    if gone:
        return Verdict(
            subject="bay map",
            health=Health.BAD,
            seen=f"no such hub or bus: {', '.join(gone)}",
            remedy="see with `lsusb -t`; plug the charger in as it was, or `edge-agent map-bays`",
        )
    return Verdict(subject="bay map", health=Health.GOOD, seen="every connector is there")


def about_isolation(isolation: Isolation, broken: Sequence[str], since: datetime) -> Verdict:
    """Return what edge-guard's word means; *broken* is what is or was, the present first."""
    subject, when = "no-internet guard", f"{since:%Y-%m-%d %H:%M} UTC"
    said = broken[0] if broken else "no word of what"
    match isolation:
        case Isolation.HOLDING:
            return Verdict(subject=subject, health=Health.GOOD, seen=f"holding since {when}")
        case Isolation.RESTORED:
            return Verdict(
                subject=subject,
                health=Health.SOON,
                seen=f"it was broken until {when}: {said}",
                remedy="see who did it: `edge-guard status`",
            )
        case Isolation.BREACHED:
            return Verdict(
                subject=subject,
                health=Health.BAD,
                seen=f"broken since {when}: {said}",
                remedy="remove what it names: `edge-guard status`",
            )
        case Isolation.NOT_ENFORCED:
            return Verdict(
                subject=subject,
                health=Health.SOON,
                seen="a dry run: nothing is refused and nothing is shut",
                remedy="end the dry run: dry_run = false in [guard]",
            )


def worst(verdicts: Iterable[Verdict]) -> Health:
    """Return how well a dock is: as well as its worst part."""
    order = list(Health)
    return max((one.health for one in verdicts), key=order.index, default=Health.GOOD)
