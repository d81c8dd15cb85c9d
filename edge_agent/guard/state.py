"""Whether the rule holds, is broken, or was broken a while ago; time is an argument."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from edge_agent.guard.breaches import Breach
from edge_agent.guard.spells import Spells
from edge_agent.guard.spells import after_look as spells_after_look
from protocol.manifest import Isolation

# A breach that is over is shown for so long: somebody sees it, whoever was not there.
SHOWN_FOR: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How it stands.

    Attributes:
        since: Of this state, aware.
        open_: What is broken now.
        incident: What was broken since the rule held last, the first thing first.
        began_at: When that began.
        spells: Each breach with its own begin and end, since the guard began.
    """

    isolation: Isolation
    since: datetime
    open_: tuple[Breach, ...] = ()
    incident: tuple[Breach, ...] = ()
    began_at: datetime | None = None
    spells: Spells = field(default_factory=Spells)


def begin(now: datetime) -> Watch:
    """Return how it stands before anything was looked at: nobody may rely on it."""
    return Watch(isolation=Isolation.BREACHED, since=now)


def after_look(
    watch: Watch, *, found: Sequence[Breach], left: Sequence[Breach], now: datetime
) -> Watch:
    """Return how it stands after a look.

    Args:
        watch: Before it.
        found: What was broken.
        left: What still is, after all was shut that can be.
        now: Aware.
    """
    spells = spells_after_look(watch.spells, found=found, left=left, now=now)
    return replace(_after_look(watch, found, left, now), spells=spells)


def _after_look(
    watch: Watch, found: Sequence[Breach], left: Sequence[Breach], now: datetime
) -> Watch:
    is_first = watch.isolation is Isolation.BREACHED and watch.began_at is None
    if not found and (is_first or watch.isolation is Isolation.HOLDING):
        return watch if not is_first else Watch(isolation=Isolation.HOLDING, since=now)
    if found or watch.isolation is Isolation.BREACHED:
        return _broken(watch, found, left, now)
    is_over = now - watch.since >= SHOWN_FOR
    return Watch(isolation=Isolation.HOLDING, since=now) if is_over else watch


def _broken(watch: Watch, found: Sequence[Breach], left: Sequence[Breach], now: datetime) -> Watch:
    isolation = Isolation.BREACHED if left else Isolation.RESTORED
    known = set(watch.incident)
    incident = (*watch.incident, *(one for one in dict.fromkeys(found) if one not in known))
    is_same = isolation is watch.isolation and watch.began_at is not None and not found
    return replace(
        watch,
        isolation=isolation,
        since=watch.since if is_same or (left and watch.open_) else now,
        open_=tuple(left),
        incident=incident,
        began_at=watch.began_at or now,
    )
