"""Promises beside measured figures."""

import msgspec
import pytest

from bench.figures import Figure
from bench.results import Case, Spread
from bench.targets import SMALL, Target, targets
from tests.simulators.bench_results import PROVED_BY_PEER, SYNCED, case, results, series


def _found(*cases: Case) -> dict[str, Target]:
    return {target.name: target for target in targets(results(*cases))}


def test_the_middle_run_decides() -> None:
    """A target is kept by the median, from below or from above."""
    measured = Spread(least=1, median=2, most=3)

    assert Target(name="", limit=2, unit="", measured=measured).met
    assert not Target(name="", limit=2.1, unit="", measured=measured).met
    assert Target(name="", limit=2, unit="", measured=measured, at_most=True).met
    assert not Target(name="", limit=1.9, unit="", measured=measured, at_most=True).met


def test_one_bay_stands_beside_limit_and_peer() -> None:
    """L2 in one bay: η, the ratio to an equal peer, and what a GiB costs."""
    ours = series("L2", 4, level="L2")
    peer = series("proved", 8, evidence=PROVED_BY_PEER)

    found = _found(case(ours, peer, series("cp", 1, evidence=SYNCED)))

    assert found["η at L2, 1 bay"].measured.median == pytest.approx(3 / 4)
    assert not found["η at L2, 1 bay"].met
    assert found["L2 / best peer of equal evidence"].measured.median == pytest.approx(2)
    assert found["processor time at L2"].measured.median == pytest.approx(1024 / 200)


def test_small_files_stand_beside_rsync() -> None:
    """The rate per file of L2, by that of rsync --fsync."""
    measured = case(
        series("L2", 1, level="L2"), series("rsync --fsync", 3, evidence=SYNCED), name=SMALL
    )

    (target,) = _found(measured).values()

    assert target.measured.median == pytest.approx(3)
    assert target.met


def test_memory_is_that_of_all_bays_and_levels() -> None:
    """The most memory of any run counts, in bytes of 10⁶."""
    measured = case(series("L2", 1, level="L2"), name="24 bays", bays=24)

    target = _found(measured)["most memory, 24 bays"]

    assert target.measured.median == pytest.approx(64)
    assert target.limit * 1024 * 1024 <= 200_000_000


def test_single_figures_have_targets_too() -> None:
    """Uplink and admission are measured elsewhere; their promises stand in the same table."""
    measured = msgspec.structs.replace(
        results(),
        figures=(
            Figure(name="ratio: upload", value=0.9, unit="×"),
            Figure(name="something else", value=1, unit="×"),
        ),
    )

    (target,) = targets(measured)

    assert (target.name, target.met) == ("upload", True)
