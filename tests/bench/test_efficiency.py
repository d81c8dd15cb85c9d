"""The benchmark's arithmetic, with a disk that writes 200 MiB/s and reads 100 MiB/s."""

import msgspec
import pytest

from bench.efficiency import (
    best_equal,
    bounds_s,
    covers,
    efficiency,
    least_s,
    round_limits,
    speed_up,
    spread,
    what_bounds,
)
from bench.results import Evidence, ReadBack, Spread
from tests.simulators.bench_results import (
    MIB,
    PROVED,
    PROVED_BY_PEER,
    SYNCED,
    case,
    limits,
    series,
)


def test_the_disk_writes_and_reads_back() -> None:
    """200 MiB at 200 MiB/s and back at 100 MiB/s are 3 s; without read-back 1 s."""
    load = case()

    assert least_s(load, limits(), "L1") == pytest.approx(1)
    assert least_s(load, limits(), "L2") == pytest.approx(3)
    assert least_s(load, limits(), "L3") == pytest.approx(3)


@pytest.mark.parametrize(("level", "hashed"), [("L1", 1), ("L2", 2), ("L3", 3)])
def test_each_level_hashes_so_often(level: str, hashed: int) -> None:
    """L1 hashes what is read, L2 also what is read back, L3 a second reading of the source, too."""
    slow = msgspec.structs.replace(limits(), hash_bytes_s=20.0 * MIB)

    assert bounds_s(case(), slow, level)["hashing"] == pytest.approx(10 * hashed)
    assert least_s(case(), slow, level) == pytest.approx(10 * hashed)


@pytest.mark.parametrize(("level", "reads"), [("L1", 1), ("L2", 1), ("L3", 2)])
def test_bays_are_read_side_by_side(level: str, reads: int) -> None:
    """The fullest bay sets how long reading takes, and L3 reads it twice."""
    slow = msgspec.structs.replace(limits(), source_bytes_s=10.0 * MIB)

    assert bounds_s(case(bays=1), slow, level)["reading"] == pytest.approx(20 * reads)
    assert bounds_s(case(bays=4), slow, level)["reading"] == pytest.approx(5 * reads)


def test_efficiency_belongs_to_its_round() -> None:
    """Each run stands beside the limits measured right before and right after it."""
    fast, slow = limits(write_mib_s=200, read_mib_s=100), limits(write_mib_s=100, read_mib_s=50)
    ours = series("L2", 6, 8, level="L2")
    measured = case(ours, measured=(fast, fast, slow))

    first, second = round_limits(measured)
    assert (first.write_bytes_s, second.write_bytes_s) == (200 * MIB, 150 * MIB)
    assert efficiency(measured, ours).most == pytest.approx(3 / 6)
    assert efficiency(measured, ours).least == pytest.approx(4 / 8)


def test_a_peer_has_no_efficiency() -> None:
    """The limit depends on the evidence level, which only we have."""
    peer = series("cp", 1)

    with pytest.raises(ValueError, match="cp is not ours"):
        efficiency(case(peer), peer)


def test_ratios_are_of_pairs() -> None:
    """A slow round slows both: the ratio is made within the round, not of two medians."""
    ours, peer = series("L2", 1, 10, 2, level="L2"), series("cp", 2, 20, 4)

    assert speed_up(ours, peer) == Spread(least=2, median=2, most=2)


def test_pairs_must_be_whole() -> None:
    """A run without its peer's is an error, not a shorter list."""
    with pytest.raises(ValueError, match="zip"):
        speed_up(series("L2", 1, 1, level="L2"), series("cp", 2))


def test_spread_shows_all_runs() -> None:
    """The middle one, and how far the others lie away."""
    assert spread([5, 1, 3]) == Spread(least=1, median=3, most=5)
    assert spread([1, 2]) == Spread(least=1, median=1.5, most=2)


@pytest.mark.parametrize(
    "less",
    [
        msgspec.structs.replace(PROVED_BY_PEER, files_synced=False),
        msgspec.structs.replace(PROVED_BY_PEER, names_synced=False),
        msgspec.structs.replace(PROVED_BY_PEER, digest=None),
        msgspec.structs.replace(PROVED_BY_PEER, digest="xxh64"),
        msgspec.structs.replace(PROVED_BY_PEER, read_back=ReadBack.MEMORY),
        msgspec.structs.replace(PROVED_BY_PEER, read_back=ReadBack.NONE),
    ],
)
def test_less_evidence_is_not_equal(less: Evidence) -> None:
    """One thing less that is known of the copies proves less; the journal does not count."""
    assert covers(PROVED_BY_PEER, PROVED)
    assert not covers(less, PROVED)
    assert covers(PROVED_BY_PEER, less) == (less.digest != "xxh64")


def test_the_fastest_equal_peer_is_found() -> None:
    """A faster one that proves less does not count, nor do our own other levels."""
    ours = series("L2", 3, level="L2")
    measured = case(
        ours,
        series("L3", 1, level="L3"),
        series("cp", 1, evidence=SYNCED),
        series("slow", 9, evidence=PROVED_BY_PEER),
        series("quick", 5, evidence=PROVED_BY_PEER),
    )

    best = best_equal(measured, ours)

    assert best is not None
    assert best.name == "quick"


def test_there_may_be_no_equal_peer() -> None:
    """Then there is no ratio either."""
    ours = series("L2", 3, level="L2")

    assert best_equal(case(ours, series("cp", 1, evidence=SYNCED)), ours) is None


def test_what_bounds_is_named() -> None:
    """The part of the machine that needs longest."""
    slow_source = msgspec.structs.replace(limits(), source_bytes_s=10.0 * MIB)
    slow_hash = msgspec.structs.replace(limits(), hash_bytes_s=10.0 * MIB)

    assert what_bounds(case(measured=(limits(),)), "L2") == "disk"
    assert what_bounds(case(measured=(slow_source,)), "L2") == "reading"
    assert what_bounds(case(measured=(slow_hash,)), "L2") == "hashing"
