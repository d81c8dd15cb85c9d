"""How bytes go to the staging disk, as it is at the start."""

from pathlib import Path

import pytest

from edge_agent.adapters.staging_way import choose_way
from runtime import durable
from runtime.uncached import DiskMode, ModeFigure


def measured(**cost_s: float) -> tuple[ModeFigure, ...]:
    return tuple(
        ModeFigure(mode=DiskMode(name), size_bytes=1, seconds=cost) for name, cost in cost_s.items()
    )


@pytest.mark.parametrize(
    ("figures", "best"),
    [
        (measured(direct=1.2, dontcache=1.0, buffered=1.1), DiskMode.DIRECT),
        (measured(direct=2.0, dontcache=1.0, buffered=1.1), DiskMode.DONTCACHE),
        (measured(direct=2.0, dontcache=2.0, buffered=1.0), DiskMode.BUFFERED),
    ],
)
def test_the_cheapest_is_taken_unless_it_is_too_close_to_tell(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    figures: tuple[ModeFigure, ...],
    best: DiskMode,
) -> None:
    """Within the doubt of a short measurement, past the page cache is better."""
    monkeypatch.setattr("edge_agent.adapters.staging_way.measure_modes", lambda _: figures)

    assert choose_way(tmp_path, reads_back=True, bays=1).mode is best


def test_what_cannot_be_had_is_not_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where O_DIRECT and RWF_DONTCACHE are refused, the page cache is left."""
    figures = (
        *measured(buffered=1.0),
        ModeFigure(mode=DiskMode.DIRECT, size_bytes=1),
        ModeFigure(mode=DiskMode.DONTCACHE, size_bytes=1),
    )
    monkeypatch.setattr("edge_agent.adapters.staging_way.measure_modes", lambda _: figures)

    assert choose_way(tmp_path, reads_back=True, bays=1).mode is DiskMode.BUFFERED


def test_a_disk_that_cannot_be_measured_is_used_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A full disk keeps nobody from starting."""

    def full(*_: object, **__: object) -> int:
        raise OSError(28, "no room")

    monkeypatch.setattr(durable, "create_exclusive", full)

    assert choose_way(tmp_path, reads_back=True, bays=1).mode is DiskMode.BUFFERED
