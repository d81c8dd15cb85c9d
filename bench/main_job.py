"""From docking to receipt, stage by stage, and what the agents' memory did."""

import queue
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from bench.figures import MIB, Report, peak_memory_bytes
from bench.peers import evict
from bench.sources import Load, recorder, write_volumes
from demo.docking import DirectoryDock
from demo.programs import DemoError
from demo.site import Site, SiteOptions
from demo.watching import Watching
from protocol.messages import BayState

_TIMEOUT_S: Final = 900.0


def write_clip(volume: Path, size_bytes: int) -> Path:
    """Write the one clip of bay 1's recorder."""
    load = Load(bays=1, clip_bytes=size_bytes)
    (folder,) = write_volumes(volume.with_name(f"{volume.name}.new"), load)
    folder.rename(volume)
    folder.parent.rmdir()
    (clip,) = volume.rglob("*.MP4")
    return clip


def write_photos(volume: Path, photos: int) -> None:
    """Write a recorder of bay 1 with small files alone."""
    (folder,) = write_volumes(volume.with_name(f"{volume.name}.new"), Load(bays=1, photos=photos))
    folder.rename(volume)
    folder.parent.rmdir()


def prepared_site(root: Path, *, evidence: str = "L2") -> Site:
    """Return a site of one bay below *root*, with keys and configurations."""
    site = Site(root, [recorder(1)], SiteOptions(bays=1, evidence=evidence))
    site.prepare()
    return site


def measure_main_job(report: Report, site: Site, volume: Path, clip: Path) -> None:
    """Dock a *volume* of one clip, wait for its receipt, and report each stage and the memory."""
    evict(clip)
    size_mib = clip.stat().st_size / MIB
    stages, memory = _run(site, volume)
    for name, seconds in stages.items():
        report.add(name, size_mib / seconds, "MiB/s")
    for name, peak_mib in memory.items():
        report.add(f"memory: {name}, most at any time", peak_mib, "MiB", note="promise: under 150")


def measure_small_job(report: Report, site: Site, volume: Path, photos: int) -> None:
    """Dock a *volume* of small files, wait for the last receipt, and report each stage."""
    stages, _ = _run(site, volume)
    for name, seconds in stages.items():
        stage, _, what = name.partition(":")
        report.add(f"{stage}, small files:{what}", photos / seconds, "1/s", note=f"{photos} files")


def _run(site: Site, volume: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Return how many seconds each stage took, and how many MiB each agent had at most."""
    site.start_archive()
    site.start_dock()
    try:
        uploaded_at_ms = _dock_and_wait(site, volume)
        memory = {
            name: peak_memory_bytes(program.pid) / MIB
            for name, program in (("edge-agent", site.edge), ("server-agent", site.server))
        }
    finally:
        site.stop()
    return _stages(site.journal, uploaded_at_ms), memory


def _dock_and_wait(site: Site, volume: Path) -> float:
    uploaded_at_ms = 0.0
    deadline = time.monotonic() + _TIMEOUT_S
    with Watching(site.control_socket) as watching:
        DirectoryDock().insert(volume, site.bay(1))
        while time.monotonic() < deadline:
            try:
                bay = watching.next(timeout_s=1)
            except queue.Empty:
                continue
            if bay.bytes_total and bay.uploaded_bytes >= bay.bytes_total and not uploaded_at_ms:
                uploaded_at_ms = time.time() * 1000
            if bay.state is BayState.RELEASABLE:
                return uploaded_at_ms or time.time() * 1000
            if bay.state in {BayState.QUARANTINED, BayState.ATTENTION}:
                raise DemoError(f"bay 1: {bay.problem} {bay.problem_text}")
    raise DemoError(f"no receipt after {_TIMEOUT_S:.0f} s")


def _stages(journal: Path, uploaded_at_ms: float) -> dict[str, float]:
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as connection:
        docked, sealed, receipted = connection.execute(
            "SELECT min(docked_at_ms), max(sealed_at_ms), max(receipted_at_ms)"
            " FROM manifest JOIN docking USING (docking_id)"
        ).fetchone()
    stages = {
        "staging: docking to sealed manifest, L2": (docked, sealed),
        "upload: sealed manifest to last byte": (sealed, uploaded_at_ms),
        "archiving: last byte to receipt": (uploaded_at_ms, receipted),
        "main job: docking to receipt": (docked, receipted),
    }
    return {
        name: max((ended_ms - began_ms) / 1000, 0.001)
        for name, (began_ms, ended_ms) in stages.items()
    }
