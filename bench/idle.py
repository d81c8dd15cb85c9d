"""A dock that has nothing to do: how soon it is ready, and what it costs while it waits."""

import os
import queue
import time
from pathlib import Path
from typing import Final

from bench.figures import MIB, Report
from demo.plugging import RecorderPlug
from demo.programs import DemoError
from demo.site import Registered, Site, SiteOptions
from demo.watching import Watching
from protocol.messages import BayState

READY: Final = "idle: start to ready"
MEMORY: Final = "idle: memory with empty bays"
PROCESSOR: Final = "idle: processor with 24 serial recorders, of one core"
BAYS: Final = 24

_CLIP_BYTES: Final = 64 * 1024
_SETTLED_S: Final = 10.0
_WATCHED_S: Final = 30.0
_PATIENCE_S: Final = 300.0
_PERCENT: Final = 100
_TICKS_S: Final = os.sysconf("SC_CLK_TCK")


def measure_idle(report: Report, root: Path) -> None:
    """Measure a dock of 24 bays, first empty, then with a recorder in each that was read.

    Args:
        report: Takes the figures.
        root: Where to work.

    Raises:
        DemoError: A program failed, or the recorders were not read in time.
    """
    print(f"a dock of {BAYS} bays with nothing to do")
    recorders = [_registered(number) for number in range(1, BAYS + 1)]
    options = SiteOptions(bays=BAYS, driver="line-protocol-1")
    site = Site(root / "idle", recorders, options)
    site.prepare()
    plug = RecorderPlug(site)
    try:
        site.start_archive()
        _measure_start(report, site)
        for number, one in enumerate(recorders, start=1):
            plug.insert(number, _volume(root / "idle-volumes" / str(number), one), one)
        _wait_until_read(site)
        time.sleep(_SETTLED_S)
        note = "recorders at pseudo-terminals, read and still in their bays"
        report.add(PROCESSOR, used_percent(site.edge.pid, _WATCHED_S), "%", note=note)
    finally:
        plug.pull_all()
        site.stop()


def _measure_start(report: Report, site: Site) -> None:
    begun_s = time.perf_counter()
    site.start_dock()
    report.add(READY, time.perf_counter() - begun_s, "s", note="process start to its socket")
    time.sleep(_SETTLED_S)
    report.add(MEMORY, resident_bytes(site.edge.pid) / MIB, "MiB", note="VmRSS")


def _wait_until_read(site: Site) -> None:
    """Return when every bay's recorder may be taken."""
    deadline_s = time.monotonic() + _PATIENCE_S
    read: set[int] = set()
    with Watching(site.control_socket) as watching:
        while len(read) < BAYS:
            try:
                told = watching.next(timeout_s=max(0.0, deadline_s - time.monotonic()))
            except queue.Empty:
                raise DemoError(f"{BAYS - len(read)} bays were not read: {site.edge.log}") from None
            if told.state is BayState.RELEASABLE:
                read.add(told.bay)


def used_percent(pid: int, seconds: float) -> float:
    """Return how much of one core a process uses, all its threads."""
    before_s, begun_s = _processor_s(pid), time.perf_counter()
    time.sleep(seconds)
    used_s = _processor_s(pid) - before_s
    return used_s / (time.perf_counter() - begun_s) * _PERCENT


def _processor_s(pid: int) -> float:
    # proc(5): fields 14 and 15, counted behind the name in brackets.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_S


def resident_bytes(pid: int) -> int:
    """Return how much memory a process holds now (VmRSS)."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)


def _registered(number: int) -> Registered:
    return Registered(
        recorder_id=f"R-{number:04d}",
        make="DSJ",
        model="DSJ-A8",
        serial=f"{number:07d}",
        officer=f"{number + 12_000:06d}",
        officer_name="张伟",
    )


def _volume(folder: Path, recorder: Registered) -> Path:
    name = f"{recorder.officer}_{recorder.serial}_20261126083000_0001.MP4"
    clip = folder / "DCIM/100MEDIA" / name
    clip.parent.mkdir(parents=True)
    clip.write_bytes(os.urandom(_CLIP_BYTES))
    return folder
