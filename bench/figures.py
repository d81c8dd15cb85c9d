"""Figures with names, units and the machine they were measured on."""

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

MIB: Final = 1 << 20
GIB: Final = 1 << 30
RATIO: Final = "×"
RESULTS: Final = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured value.

    Attributes:
        ours: False for a peer, measured in the same run.
        note: What the figure leaves out or what evidence a peer lacks.
    """

    name: str
    value: float
    unit: str
    ours: bool = True
    note: str = ""


@dataclass(slots=True, kw_only=True)
class Report:
    """All figures of one run."""

    figures: list[Figure] = field(default_factory=list)

    def add(self, name: str, value: float, unit: str, *, ours: bool = True, note: str = "") -> None:
        """Keep and print one figure."""
        self.figures.append(Figure(name=name, value=value, unit=unit, ours=ours, note=note))
        who = "ours" if ours else "peer"
        shown = f"{value:.2f}" if unit == RATIO else f"{value:,.1f}"
        print(f"  {who}  {name:<48} {shown:>10} {unit:<6} {note}".rstrip(), flush=True)

    def value(self, name: str) -> float:
        """Return the value of the figure called *name*."""
        return next(figure.value for figure in self.figures if figure.name == name)

    def write(self) -> Path:
        """Write the run as JSON below bench/results/ and return the file."""
        RESULTS.mkdir(exist_ok=True)
        now = datetime.now(UTC)
        path = RESULTS / f"{now:%Y%m%dT%H%M%SZ}.json"
        machine = {
            "cores": os.cpu_count(),
            "system": platform.platform(),
            "processor": processor(),
            "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MIB,
            "python": platform.python_version(),
        }
        told = {
            "measured_at": now.isoformat(timespec="seconds"),
            "machine": machine,
            "figures": [asdict(figure) for figure in self.figures],
        }
        path.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n")
        return path


def processor() -> str:
    """Return the processor's name as Linux tells it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def peak_memory_bytes(pid: int) -> int:
    """Return the most memory that a running process ever held (VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)
