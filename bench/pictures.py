"""A run as pictures: the colours of Okabe and Ito, told apart without red and green."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from bench.efficiency import covers, efficiency, least_s, round_limits, spread
from bench.figures import MIB
from bench.results import Case, Results, Series, Spread
from bench.targets import SMALL, case_name

_OURS: Final = "#0072B2"
_EQUAL: Final = "#E69F00"
_LESS: Final = "#BBBBBB"
_LINE: Final = "#000000"
_KEY: Final = {_OURS: "Bayward", _EQUAL: "peer, evidence of L2", _LESS: "peer, less evidence"}
_LEVELS: Final = {"L1": "#56B4E9", "L2": "#0072B2", "L3": "#CC79A7"}
_MARKERS: Final = {"L1": "s", "L2": "o", "L3": "^"}
_EFFICIENCY_TARGET: Final = {1: 0.90, 8: 0.85, 24: 0.85}
_DPI: Final = 120


def draw_pictures(results: Results, folder: Path) -> None:
    """Draw what *results* has cases for, as performance-*.png in *folder*."""
    mpl.use("agg")
    cases = {case.name: case for case in results.cases}
    if case := cases.get(case_name(1)):
        _draw_rates(case, folder / "performance-clips.png")
    if case := cases.get(SMALL):
        _draw_rates(case, folder / "performance-small-files.png")
    big = [case for case in results.cases if case.name != SMALL]
    if big:
        _draw_efficiency(big, folder / "performance-bays.png")


def _draw_rates(case: Case, path: Path) -> None:
    """Draw a bar for each contender, from the slowest run to the fastest a line on it."""
    small = case.name == SMALL
    amount, unit = (case.files, "files/s") if small else (case.total_bytes / MIB, "MiB/s")
    figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    shown = list(reversed(case.series))
    rates = [spread(amount / run.seconds for run in one.runs) for one in shown]
    axes.barh(
        [one.name for one in shown],
        [one.median for one in rates],
        xerr=_whiskers(rates),
        color=[_colour(case, one) for one in shown],
        error_kw={"capsize": 3, "elinewidth": 1},
    )
    for row, rate in enumerate(rates):
        axes.annotate(
            f"{rate.median:,.0f}",
            (rate.most, row),
            (8, 0),
            textcoords="offset points",
            va="center",
            bbox={"color": "white", "pad": 1},
        )
    if not small:
        limit_s = statistics.median(least_s(case, one, "L2") for one in round_limits(case))
        axes.axvline(amount / limit_s, color=_LINE, linestyle="--", zorder=0)
        axes.text(
            amount / limit_s, 1, " limit at L2", transform=axes.get_xaxis_transform(), va="top"
        )
    key = [Patch(color=colour, label=label) for colour, label in _KEY.items()]
    axes.set_xlabel(f"{unit}; more is better; the line on a bar: slowest to fastest run")
    axes.set_xlim(0, max(axes.get_xlim()[1], max(one.most for one in rates) * 1.12))
    title = f"{case.files:,} small files" if small else f"One clip of {amount:,.0f} MiB"
    axes.set_title(f"{title}, from sources in memory to the disk")
    axes.legend(handles=key, loc="best", fontsize="small")
    _finish(axes)
    figure.savefig(path, dpi=_DPI, metadata={"Software": None})
    plt.close(figure)


def _draw_efficiency(cases: Sequence[Case], path: Path) -> None:
    """Draw how near to the limit each level comes with more and more bays."""
    figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    bays = [case.bays for case in cases]
    for shift, (level, colour) in enumerate(_LEVELS.items()):
        found = [efficiency(case, case.of_level(level)) for case in cases]
        axes.errorbar(
            [place + (shift - 1) * 0.06 for place in range(len(bays))],
            [one.median for one in found],
            yerr=_whiskers(found),
            color=colour,
            marker=_MARKERS[level],
            capsize=3,
            label=level,
        )
    for place, count in enumerate(bays):
        if target := _EFFICIENCY_TARGET.get(count):
            axes.hlines(target, place - 0.3, place + 0.3, color=_LINE, linestyle="--")
    axes.hlines([], 0, 0, color=_LINE, linestyle="--", label="target of L2")
    axes.set_xticks(range(len(bays)), [str(count) for count in bays])
    axes.set_xlabel("bays at work at once")
    axes.set_ylabel("η = T_min / T; 1 is the limit")
    axes.set_ylim(0, 1.1)
    axes.set_title("Efficiency by evidence level, slowest to fastest run")
    axes.legend(loc="lower right", ncols=4, fontsize="small")
    _finish(axes)
    figure.savefig(path, dpi=_DPI, metadata={"Software": None})
    plt.close(figure)


def _whiskers(found: Sequence[Spread]) -> list[list[float]]:
    below = [one.median - one.least for one in found]
    return [below, [one.most - one.median for one in found]]


def _colour(case: Case, series: Series) -> str:
    if series.level:
        return _OURS
    return _EQUAL if covers(series.evidence, case.of_level("L2").evidence) else _LESS


def _finish(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="both", alpha=0.25)
    axes.set_axisbelow(True)
