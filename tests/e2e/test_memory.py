"""The dock's agent needs no more memory for more bays, more files or larger ones."""

from pathlib import Path

import pytest

from soak.heavy_load import Load, carry

pytestmark = pytest.mark.processes

SMALL = Load(
    bays=24, photos=100, logs=400, clip_bytes=24 << 20, large_clip_bytes=512 << 20, patience_s=400
)


@pytest.mark.timeout(600)
def test_memory_stays_below_200_mib(tmp_path: Path) -> None:
    """24 bays with large clips, 500 small files and 512 MiB in one: less than 200 MiB."""
    assert carry(tmp_path, SMALL, seed=1).faults == ()
