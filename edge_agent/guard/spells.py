"""Each time that the rule was broken: when it began and when it was over; time is an argument."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from edge_agent.guard.breaches import Breach, Kind

# Of those that are over; what comes and goes faster than it is told is counted.
MOST_OVER: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Spell:
    """One breach, from when it was seen until it was not any more.

    Attributes:
        number: Of this spell, from 1 on.
        changed: The number of the change that it went through last: it began, or was over.
        ended_at: None while it lasts; what was shut at once ended as it began.
    """

    number: int
    changed: int
    breach: Breach
    began_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spells:
    """What is known of them.

    Attributes:
        kept: All that last, and the last ones that are over; in the order in which they began.
        begun: How many there were.
        changes: How many began, and how many ended.
    """

    kept: tuple[Spell, ...] = ()
    begun: int = 0
    changes: int = 0


def after_look(
    spells: Spells, *, found: Sequence[Breach], left: Sequence[Breach], now: datetime
) -> Spells:
    """Return what is known after a look; the arguments are those of `state.after_look`."""
    standing = {_same(one) for one in left}
    lasting = {_same(one.breach) for one in spells.kept if one.ended_at is None}
    begun, changes, kept = spells.begun, spells.changes, []
    for one in spells.kept:
        is_over = one.ended_at is None and _same(one.breach) not in standing
        changes += is_over
        kept.append(replace(one, ended_at=now, changed=changes) if is_over else one)
    for key, breach in {_same(one): one for one in (*found, *left)}.items():
        if key not in lasting:
            begun, changes = begun + 1, changes + 1
            ended_at = None if key in standing else now
            spell = Spell(
                number=begun, changed=changes, breach=breach, began_at=now, ended_at=ended_at
            )
            kept.append(spell)
    return Spells(kept=_bounded(kept), begun=begun, changes=changes)


def _bounded(kept: Sequence[Spell]) -> tuple[Spell, ...]:
    over = sorted(one.changed for one in kept if one.ended_at is not None)
    oldest = over[-MOST_OVER] if len(over) > MOST_OVER else 0
    return tuple(one for one in kept if one.ended_at is None or one.changed >= oldest)


def _same(breach: Breach) -> tuple[Kind, str]:
    return breach.kind, breach.subject
