"""Where the power is cut: at every operation that changes a disk, or at some of each kind."""

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from tests.simulators.faultfs.rules import Traced

# BAYWARD_FAULTS=all cuts everywhere, as `make soak` does; else each kind of operation is sampled.
EVERYWHERE: Final = os.environ.get("BAYWARD_FAULTS") == "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashPoint:
    """One power cut.

    Attributes:
        number: Of the operation, from 0.
        happens: Whether that operation still does.
        torn: The seed by which some of what was not synced survives; None: nothing does.
    """

    number: int
    happens: bool
    torn: int | None = None


def crash_points(
    trace: Sequence[Traced], place_of: Callable[[str], str], chance: Random, *, of_a_kind: int = 2
) -> list[CrashPoint]:
    """Return where to cut a run that has this trace.

    Args:
        trace: What the run changed, undisturbed.
        place_of: What a path is for. Operations of one kind at one place are alike.
        chance: Chooses among those that are alike.
        of_a_kind: How many of them, at most.
    """
    if EVERYWHERE:
        return [
            CrashPoint(number=number, happens=happens, torn=torn)
            for number in range(len(trace))
            for happens in (False, True)
            for torn in (None, chance.randrange(1 << 32))
        ]
    alike: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for number, traced in enumerate(trace):
        alike[traced.operation, place_of(traced.paths[0])].append(number)
    points: list[CrashPoint] = []
    for numbers in alike.values():
        for number in chance.sample(numbers, min(of_a_kind, len(numbers))):
            torn = chance.choice((None, None, chance.randrange(1 << 32)))
            points.append(CrashPoint(number=number, happens=chance.random() < 0.5, torn=torn))
    return points
