"""`python -m bench.ingest`: one measured ingest in a process of its own."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec
import pytest

from bench.figures import MIB
from bench.ingest import Ingested
from bench.sources import PHOTO_BYTES

pytestmark = pytest.mark.processes

_ROOT: Final = Path(__file__).parents[2]
_TIMEOUT_S: Final = 120


def _ingest(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    folders = ("--source", str(tmp_path / "recorders"), "--staging", str(tmp_path / "dock"))
    command = [sys.executable, "-m", "bench.ingest", *folders, *arguments]
    return subprocess.run(
        command, cwd=_ROOT, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
    )


def test_two_recorders_are_ingested_and_measured(tmp_path: Path) -> None:
    """Every file of every recorder is claimed by a manifest before the clock is stopped."""
    done = _ingest(tmp_path, "--bays", "2", "--size-mib", "1", "--small", "3", "--level", "L1")

    assert not done.returncode, done.stderr
    found = msgspec.json.decode(done.stdout, type=Ingested)
    assert (found.bays, found.files, found.evidence) == (2, 8, {"L1": 8})
    assert found.total_bytes == 2 * (MIB + 3 * PHOTO_BYTES)
    assert found.seconds > 0
    assert found.cpu_s > 0
    assert found.peak_bytes > MIB
    assert not (tmp_path / "dock").exists()


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    """Somebody's files in the dock's folder end the measurement, and stay."""
    (tmp_path / "dock").mkdir()
    (tmp_path / "dock" / "mine").write_text("mine")

    done = _ingest(tmp_path, "--size-mib", "1")

    assert done.returncode
    assert "is not empty" in done.stderr
    assert (tmp_path / "dock" / "mine").read_text() == "mine"


def test_evidence_that_was_lowered_is_not_proved() -> None:
    """A figure of a level that not every file reached is no figure of that level."""
    found = Ingested(
        bays=1,
        level="L2",
        files=2,
        total_bytes=2,
        seconds=1,
        cpu_s=1,
        peak_bytes=1,
        evidence={"L2": 1, "L1": 1},
    )

    assert not found.proved
