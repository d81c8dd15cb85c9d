"""What the machine allows, and how near to it a measured run came. Only arithmetic.

The least time for N bytes in all, from sources to staging, at an evidence level with k reads of
the source (L1 and L2: 1, L3: 2) is the greatest of

    reading   k · the bytes of the fullest bay / R_source
    disk      N / W_disk, and at L2 and L3 + N / R_disk for the read-back
    hashing   k · N / H_hash, and at L2 and L3 + N / H_hash

H_hash is the rate of all processor cores together, hashing at the same time: whoever hashes on one
core only is that much further from the limit. The sources of these measurements are folders in
memory: there is no USB port that several of them share, so that term is not there.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from bench.results import Case, Evidence, Limits, Run, Series, Spread

_SOURCE_READS: Final = {"L1": 1, "L2": 1, "L3": 2}
_COPY_READS: Final = {"L1": 0, "L2": 1, "L3": 1}


def bounds_s(case: Case, limits: Limits, level: str) -> dict[str, float]:
    """Return how many seconds each part of the machine needs at least."""
    reads, reads_back = _SOURCE_READS[level], _COPY_READS[level]
    total_bytes = case.total_bytes
    return {
        "reading": reads * case.bay_bytes / limits.source_bytes_s,
        "disk": total_bytes / limits.write_bytes_s + reads_back * total_bytes / limits.read_bytes_s,
        "hashing": (reads + reads_back) * total_bytes / limits.hash_bytes_s,
    }


def least_s(case: Case, limits: Limits, level: str) -> float:
    """Return T_min."""
    return max(bounds_s(case, limits, level).values())


def round_limits(case: Case) -> list[Limits]:
    """Return the limits of each round: halfway between those measured before it and after it."""
    return [
        Limits(
            **{
                name: (getattr(before, name) + getattr(after, name)) / 2
                for name in Limits.__struct_fields__
            }
        )
        for before, after in zip(case.limits, case.limits[1:], strict=False)
    ]


def efficiency(case: Case, series: Series) -> Spread:
    """Return T_min / T of our own series, round by round."""
    if series.level is None:
        raise ValueError(f"{series.name} is not ours")
    rounds = zip(round_limits(case), series.runs, strict=True)
    return spread(least_s(case, limits, series.level) / run.seconds for limits, run in rounds)


def speed_up(ours: Series, peer: Series) -> Spread:
    """Return how many times as fast as a peer we were, each run beside the peer's of that round."""
    pairs = zip(ours.runs, peer.runs, strict=True)
    return spread(theirs.seconds / mine.seconds for mine, theirs in pairs)


def spread(values: Iterable[float]) -> Spread:
    """Return the least, the middle and the greatest of some values."""
    kept = list(values)
    return Spread(least=min(kept), median=statistics.median(kept), most=max(kept))


def seconds(runs: Sequence[Run]) -> Spread:
    """Return how long the runs took."""
    return spread(run.seconds for run in runs)


def covers(evidence: Evidence, wanted: Evidence) -> bool:
    """Whether *evidence* proves all that *wanted* does about the copies.

    Our journal and signature are left out: no copying tool has them, and they cost us time.
    """
    return (
        evidence.files_synced >= wanted.files_synced
        and evidence.names_synced >= wanted.names_synced
        and evidence.read_back.rank >= wanted.read_back.rank
        and (wanted.digest is None or evidence.digest == wanted.digest)
    )


def best_equal(case: Case, ours: Series) -> Series | None:
    """Return the fastest peer whose copies are proved as well as ours; None if there is none."""
    equal = [
        one for one in case.series if one.level is None and covers(one.evidence, ours.evidence)
    ]
    return min(equal, key=lambda one: seconds(one.runs).median, default=None)


def what_bounds(case: Case, level: str) -> str:
    """Return which part of the machine sets the limit, by the median of all limits measured."""
    middle: Mapping[str, float] = {
        name: statistics.median(getattr(one, name) for one in case.limits)
        for name in Limits.__struct_fields__
    }
    found = bounds_s(case, Limits(**middle), level)
    return max(found, key=found.__getitem__)
